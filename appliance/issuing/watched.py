"""Signals of misuse, seen in what a batch would issue anew: what was answered before is no news."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from appliance.errors import LimitExceeded, NotAuthorised, SignalRefused
from appliance.issuing.batch import Job
from appliance.issuing.held import Judged
from appliance.policy.signals import Signals


def watch(signals: Signals, jobs: Sequence[Job], judged: Sequence[Judged], local: datetime) -> None:
    """Show every open job to the signals; one that they refuse has that as its outcome.

    Args:
        signals: of the policy in force.
        jobs: of the batch.
        judged: what the policy said of each.
        local: the time, naive, in the system's zone.
    """
    for job, found in zip(jobs, judged, strict=True):
        if not job.is_open or job.submission.validate_only:
            continue
        if isinstance(found, NotAuthorised):
            signals.denied(job.submission.client)
        elif not isinstance(found, Exception):
            try:
                signals.see(job.submission.asked, local)
            except SignalRefused as error:
                job.outcome = error


def note_denials(signals: Signals, jobs: Sequence[Job]) -> None:
    """Take note of those whom a limit has refused."""
    for job in jobs:
        if isinstance(job.outcome, LimitExceeded):
            signals.denied(job.submission.client)
