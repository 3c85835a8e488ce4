"""Base dates and token identifiers (IEC 62055-41, clauses 6.1.12 and 6.3.5).

A TID counts minutes from 00:00 of the base date. The standard names no time zone, so every conversion from an
instant takes one explicitly; official vectors are naive times of that zone.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Self

from sts import errors

MINUTES_PER_DAY = 1440
RESERVED_MINUTE = 1
TID_MAX = (1 << 24) - 1


class BaseDate(enum.IntEnum):
    """The three base dates; the value is the two-digit code, which enters the DKGA04 derivation."""

    BDT_1993 = 93
    BDT_2014 = 14
    BDT_2035 = 35

    @classmethod
    def from_number(cls, number: int) -> BaseDate:
        """Accept 93, 14, 35 or the full year; raise InvalidBaseDate otherwise."""
        for base_date in cls:
            if number in (base_date.value, base_date.year):
                return base_date
        raise errors.InvalidBaseDate("a base date is 93, 14 or 35")

    @property
    def code(self) -> str:
        """Two digits: "93", "14" or "35"."""
        return str(self.value)

    @property
    def year(self) -> int:
        """1993, 2014 or 2035."""
        return 1993 if self.value == 93 else 2000 + self.value

    @property
    def midnight(self) -> datetime:
        """00:00 of the base date, naive."""
        return datetime(self.year, 1, 1)  # noqa: DTZ001 - the standard's base date has no zone


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TokenIdentifier:
    """TID: minutes since the base date, 24 bits; each is used once for a meter and key.

    Raises:
        InvalidTokenIdentifier: not 0 to 16777215.
    """

    minutes: int
    base_date: BaseDate

    def __post_init__(self) -> None:
        if isinstance(self.minutes, bool) or not isinstance(self.minutes, int) or not 0 <= self.minutes <= TID_MAX:
            raise errors.InvalidTokenIdentifier("a TID is 0 to 16777215")

    @classmethod
    def from_instant(cls, instant: datetime, base_date: BaseDate, zone: tzinfo, *, reserved: bool = False) -> Self:
        """Return the TID of an aware instant, as the clock on the wall of ``zone`` shows it.

        Args:
            instant: an aware time; seconds are dropped.
            base_date: the base date of the vending key.
            zone: the time zone of the system; use one without daylight saving, or TIDs repeat in autumn.
            reserved: take 00:01 as the SpecialReservedTokenIdentifier instead of moving on to 00:02.

        Raises:
            TimeZoneMissing: ``instant`` is naive.
            TimeOutOfRange: before the base date, or after its last minute.
            ReservedTokenIdentifier: ``reserved`` is set and the time is not 00:01.
        """
        if instant.tzinfo is None:
            raise errors.TimeZoneMissing("the instant must carry a time zone")
        return cls.from_naive(instant.astimezone(zone).replace(tzinfo=None), base_date, reserved=reserved)

    @classmethod
    def from_naive(cls, local: datetime, base_date: BaseDate, *, reserved: bool = False) -> Self:
        """Return the TID of a naive local time, as the official vectors give it. Raises as :meth:`from_instant`."""
        if local.tzinfo is not None:
            raise errors.TimeZoneMissing("a naive time is wanted here")
        minutes = (local - base_date.midnight) // timedelta(minutes=1)
        if reserved and minutes % MINUTES_PER_DAY != RESERVED_MINUTE:
            raise errors.ReservedTokenIdentifier("the reserved token identifier exists at 00:01 only")
        if not reserved:
            minutes = skip_reserved(minutes)
        if not 0 <= minutes <= TID_MAX:
            why = "has not come" if minutes < 0 else "has run out"
            raise errors.TimeOutOfRange(f"base date {base_date.year} {why} at this time")
        return cls(minutes=minutes, base_date=base_date)

    @property
    def is_reserved(self) -> bool:
        """True at 00:01 of any day: the SpecialReservedTokenIdentifier."""
        return self.minutes % MINUTES_PER_DAY == RESERVED_MINUTE

    @property
    def local_time(self) -> datetime:
        """The naive local time, to the minute."""
        return self.base_date.midnight + timedelta(minutes=self.minutes)

    def next_free(self) -> Self:
        """Return the next identifier that an ordinary token may take; raises TimeOutOfRange past the last one."""
        minutes = skip_reserved(self.minutes + 1)
        if minutes > TID_MAX:
            raise errors.TimeOutOfRange(f"base date {self.base_date.year} has no identifier left")
        return type(self)(minutes=minutes, base_date=self.base_date)


def skip_reserved(minutes: int) -> int:
    """Move an ordinary token that is due at 00:01 to 00:02 (clause 6.3.5.2)."""
    return minutes + 1 if minutes % MINUTES_PER_DAY == RESERVED_MINUTE else minutes
