"""The clock of issuing: the time on the wall of the system's zone, or in certification mode the one that is given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from appliance.errors import CertificationOnly, IssueTimeMissing

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - minutes of the module are naive, in the system's zone


def issue_time(
    given: datetime | None, *, certification: bool, utc_offset_minutes: int, now: Callable[[], datetime]
) -> datetime:
    """Return the naive local time that a token is issued at.

    Args:
        given: the time of the request, naive.
        certification: whether the module is in certification mode.
        utc_offset_minutes: the system's zone, as the module says.
        now: the clock, aware.

    Raises:
        CertificationOnly: a time was given outside of certification mode.
        ClockStopped: from ``now``.
        IssueTimeMissing: none was given inside.
    """
    if certification:
        if given is None:
            raise IssueTimeMissing("certification mode needs the issue time")
        return given
    if given is not None:
        raise CertificationOnly("only certification mode takes an issue time")
    return to_local(now(), utc_offset_minutes)


def to_local(instant: datetime, utc_offset_minutes: int) -> datetime:
    """Return an aware UTC instant as the naive local time of the system's zone, to the minute."""
    return (instant + timedelta(minutes=utc_offset_minutes)).replace(tzinfo=None, second=0, microsecond=0)


def minutes_since_1970(local: datetime) -> int:
    """Return a naive local time as the module counts it."""
    return (local - _EPOCH) // timedelta(minutes=1)
