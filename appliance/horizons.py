"""What will end, and how near it is: so that nobody is taken by surprise by a lease, a certificate or a key."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

logger = structlog.get_logger("keywatt.appliance")
_DAY = timedelta(days=1)
# How long before its end something is told of, and how long before it is urgent: as long as renewing it takes.
_AHEAD = {
    "lease": (10 * _DAY, 3 * _DAY),
    "server-certificate": (30 * _DAY, 7 * _DAY),
    "client-ca": (90 * _DAY, 30 * _DAY),
    "revocation-list": (_DAY, _DAY / 4),
    "key-expiry-number": (180 * _DAY, 30 * _DAY),
    "base-date": (730 * _DAY, 180 * _DAY),
    "issued-until": (90 * _DAY, 14 * _DAY),
    "refresh-until": (14 * _DAY, 2 * _DAY),
}
_USED_SOON, _USED_NOW = 0.8, 0.95
KINDS = (*_AHEAD, "limit")
"""Every kind of horizon."""


class Urgency(enum.IntEnum):
    """How near an end is."""

    NONE = 1
    SOON = 2
    NOW = 3
    OVER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """Something that ends, or comes to its bound.

    Args:
        kind: one of ``KINDS``.
        subject: of what: a vending key, a certificate, the name of a limit.
        moment: when, aware; None for a limit.
        used: how much of a limit is used, 0 to 1; else 0.
        urgency: how near it is.
    """

    kind: str
    subject: str
    moment: datetime | None
    used: float
    urgency: Urgency


def ends(kind: str, subject: str, moment: datetime, now: datetime) -> Horizon:
    """Return the horizon of what ends at a time; both aware."""
    soon, urgent = _AHEAD[kind]
    left = moment - now
    if left <= timedelta(0):
        urgency = Urgency.OVER
    elif left <= urgent:
        urgency = Urgency.NOW
    else:
        urgency = Urgency.SOON if left <= soon else Urgency.NONE
    return Horizon(kind=kind, subject=subject, moment=moment, used=0.0, urgency=urgency)


def fills(subject: str, used: float) -> Horizon:
    """Return the horizon of a limit of which a part is used."""
    if used >= 1:
        urgency = Urgency.OVER
    elif used >= _USED_NOW:
        urgency = Urgency.NOW
    else:
        urgency = Urgency.SOON if used >= _USED_SOON else Urgency.NONE
    return Horizon(kind="limit", subject=subject, moment=None, used=min(used, 1.0), urgency=urgency)


Source = Callable[[datetime], Iterable[Horizon]]
"""Gives horizons as of a time, aware."""


class Horizons:
    """Gathers them, and tells the operator.

    Args:
        sources: where they come from.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._told: dict[tuple[str, str], tuple[Urgency, datetime]] = {}

    def all(self, now: datetime | None = None) -> list[Horizon]:
        """Return every horizon: the most urgent first, then by time."""
        moment = datetime.now(UTC) if now is None else now
        found = [horizon for source in self._sources for horizon in source(moment)]
        far = datetime.max.replace(tzinfo=UTC)
        return sorted(found, key=lambda one: (-one.urgency, one.moment or far, -one.used, one.kind, one.subject))

    def tell(self, now: datetime | None = None) -> None:
        """Write a line for what is near: when it comes near, comes nearer, and once a day."""
        moment = datetime.now(UTC) if now is None else now
        for horizon in self.all(moment):
            name = (horizon.kind, horizon.subject)
            before, told = self._told.get(name, (Urgency.NONE, moment))
            if horizon.urgency is Urgency.NONE:
                self._told.pop(name, None)
                continue
            if horizon.urgency <= before and moment - told < _DAY:
                continue
            self._told[name] = (horizon.urgency, moment)
            (logger.warning if horizon.urgency is Urgency.SOON else logger.error)(
                "horizon",
                kind=horizon.kind,
                subject=horizon.subject,
                urgency=horizon.urgency.name.lower(),
                time=None if horizon.moment is None else horizon.moment.isoformat(timespec="minutes"),
                used=round(horizon.used, 3) if horizon.moment is None else None,
            )
