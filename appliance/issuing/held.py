"""What a batch holds of limits while it is under way: reserved at its beginning, settled or given back at its end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from appliance.errors import ApplianceError, LimitExceeded
from appliance.issuing.batch import Job
from appliance.issuing.usage import UsageBook, increments
from appliance.policy.judge import Charge
from hsm.errors import HsmError

Judged = tuple[Charge, ...] | ApplianceError | HsmError
"""What the policy says of a request: what it counts against, or why it is refused."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - windows are naive, in the system's zone


class Held:
    """Reserves what each open job counts; a job that is refused, or for which nothing is left, has its outcome.

    Args:
        book: the counters.
        jobs: of the batch.
        judged: what the policy said of each.
    """

    def __init__(self, book: UsageBook, jobs: Sequence[Job], judged: Sequence[Judged]) -> None:
        self._book = book
        self._held: dict[int, tuple[Charge, ...]] = {}
        for job, found in zip(jobs, judged, strict=True):
            if not job.is_open:
                continue
            if isinstance(found, Exception):
                job.outcome = found
                continue
            try:
                book.reserve(found)
            except LimitExceeded as error:
                job.outcome = error
                continue
            if job.submission.validate_only:
                # It counts for nothing, but hears whether it would.
                book.release(found)
            else:
                self._held[id(job)] = found

    def of(self, jobs: Sequence[Job]) -> list[Charge]:
        """Return what these jobs count."""
        return [charge for job in jobs for charge in self._held.get(id(job), ())]

    def settle(self, jobs: Sequence[Job]) -> None:
        """Count what these jobs hold as used; what else is held is given back."""
        for job in jobs:
            self._book.settle(self._held.pop(id(job), ()))
        self.release()

    def release(self) -> None:
        """Give back what is held still."""
        self._book.release(self._all())
        self._held.clear()

    def _all(self) -> list[Charge]:
        return [charge for charges in self._held.values() for charge in charges]


def usage_rows(charges: Sequence[Charge], utc_offset_minutes: int) -> list[tuple[str, int, int, int, int]]:
    """Return what counters grow by, as the ledger takes it: in the order of their names, ends in milliseconds."""
    offset = timedelta(minutes=utc_offset_minutes)
    return [
        (counter, (ends - offset - _EPOCH) // timedelta(milliseconds=1), count, units, currency)
        for counter, (count, units, currency, ends) in sorted(increments(charges).items())
    ]
