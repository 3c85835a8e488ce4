"""Signals of misuse, seen in what a batch would issue anew: what was answered before is no news."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from appliance.errors import LimitExceeded, NotAuthorised, SignalRefused
from appliance.issuing.batch import Job
from appliance.issuing.held import Judged
from appliance.policy.signals import Signals


class Watched:
    """Shows every open job to the signals; one that they refuse has that as its outcome.

    Args:
        signals: of the policy in force.
        jobs: of the batch.
        judged: what the policy said of each.
        local: the time, naive, in the system's zone.
    """

    def __init__(self, signals: Signals, jobs: Sequence[Job], judged: Sequence[Judged], local: datetime) -> None:
        self._signals = signals
        self._seen: list[Job] = []
        for job, found in zip(jobs, judged, strict=True):
            if not job.is_open or job.submission.validate_only:
                continue
            if isinstance(found, NotAuthorised):
                signals.denied(job.submission.client)
            elif not isinstance(found, Exception):
                try:
                    signals.see(job.submission.asked, local)
                    self._seen.append(job)
                except SignalRefused as error:
                    job.outcome = error

    def end(self) -> None:
        """Forget what was not issued, and take note of those whom a limit has refused."""
        for job in self._seen:
            if not job.is_issued:
                self._signals.unsee(job.submission.asked)
            if isinstance(job.outcome, LimitExceeded):
                self._signals.denied(job.submission.client)
        self._seen.clear()
