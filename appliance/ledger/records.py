"""What the ledger takes and gives back, in plain types. Answers never show in a repr."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime

from sts.token_identifier import BaseDate

_ID_SHIFT = 21
_INSTANCE_SHIFT = 11
_INSTANCES = 1 << (_ID_SHIFT - _INSTANCE_SHIFT)


class Method(enum.IntEnum):
    """Which call made an issuance; the number is stored."""

    CREDIT = 1
    MANAGEMENT = 2
    METER_TEST = 3
    KEY_CHANGE = 4


@dataclass(slots=True, kw_only=True)
class Claim:
    """What must be known of a request before it is worked on.

    Args:
        client: who asks; request ids are scoped to it.
        request_id: 16 octets.
        meter: the meter PAN as a number, or None in class 1; its last identifiers are read, and on a shared ledger
            the meter stays locked until the transaction ends.
        counters: names of counters that it would count against; read, and locked, as the meter.
    """

    client: str
    request_id: bytes
    meter: int | None
    counters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a counter of a limit has come to, in tokens and least significant bits; below 2^62, or it is at its end."""

    count: int
    units: int
    currency: int

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            count=self.count + other.count, units=self.units + other.units, currency=self.currency + other.currency
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            count=self.count - other.count, units=self.units - other.units, currency=self.currency - other.currency
        )


@dataclass(slots=True, kw_only=True)
class TokenEntry:
    """One issued token, without its digits.

    Args:
        meter: the meter PAN as a number, or None in class 1.
        base_date, identifier: None where a token carries no time: class 1 and key-change tokens.
        supply_group_code, key_revision_number: the vending key, or None in class 1.
        value: what the token grants, in least significant bits of its unit.
        log_id, log_index: which log it is in (by the ledger's number, set when it is read) and where.
    """

    meter: int | None
    base_date: BaseDate | None
    identifier: int | None
    supply_group_code: int | None
    key_revision_number: int | None
    token_class: int
    subclass: int
    value: int
    log_id: int | None = None
    log_index: int | None = None


@dataclass(slots=True, kw_only=True, repr=False)
class Entry:
    """One issuance to be made durable: the request, its answer in clear, its tokens in order, the log they are in."""

    client: str
    request_id: bytes
    fingerprint: bytes
    method: Method
    answer: bytes
    tokens: tuple[TokenEntry, ...]
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Stored:
    """What the ledger holds of a request: enough to answer it again."""

    fingerprint: bytes
    method: Method
    answer: bytes


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Issuance:
    """One issuance as it is listed; ``answer`` is empty in lists, ``log`` the origin of the log that has its tokens."""

    row: int
    client: str
    request_id: bytes
    method: Method
    tokens: tuple[TokenEntry, ...]
    log: str = ""
    answer: bytes = b""

    @property
    def created(self) -> datetime:
        """When it was made durable, aware."""
        return datetime.fromtimestamp(created_at(self.row) / 1000, UTC)


def created_at(row: int) -> int:
    """Return when a row was made durable, in milliseconds since 1970."""
    return row >> _ID_SHIFT


@dataclass(slots=True, kw_only=True)
class Accounted:
    """A token as the ledger has it, for comparison with the log.

    Args:
        client, request_id: whose, and for which request.
        meter: meter PAN, 18 digits; empty in class 1.
        key: SGC/KRN; empty in class 1.
        base_date, identifier: or None.
        value: as it stands there.
        log_index: its place in the log.
        created: when it was made durable, milliseconds since 1970.
    """

    client: str
    request_id: bytes
    meter: str
    key: str
    base_date: int | None
    identifier: int | None
    token_class: int
    subclass: int
    value: str
    log_index: int
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which issuances a list shows; None leaves a field open.

    Args:
        client: whose; None for everybody's.
        meter: meter PAN as a number.
        vending_key: supply group code and key revision number.
        since, until: instants, milliseconds since 1970; until is exclusive.
        after: row of the last issuance of the page before.
    """

    client: str | None
    meter: int | None = None
    vending_key: tuple[int, int] | None = None
    since: int | None = None
    until: int | None = None
    after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockMark:
    """The durable high-water mark of the clock.

    Args:
        milliseconds: the latest time that tokens were issued at, since 1970; None in a new ledger.
        epoch: how often an operator has confirmed the clock.
        floor: no identifier lies before this time, in milliseconds since 1970; 0 unless the ledger was restored.
    """

    milliseconds: int | None
    epoch: int
    floor: int


def row_range(since: int | None, until: int | None) -> tuple[int, int]:
    """Return the least row of a time range and the first one past it; rows carry their time in front."""
    last = (1 << 63) - 1
    low = min((since or 0) << _ID_SHIFT, last)
    return low, last if until is None else min(until << _ID_SHIFT, last)


class RowNumbers:
    """Row numbers: milliseconds since 1970, then the instance of the appliance, then a counter.

    They grow with time, so that new rows stand together on disk and a range of time is a range of rows.
    """

    def __init__(self, instance: int) -> None:
        self._instance = (instance % _INSTANCES) << _INSTANCE_SHIFT
        self._milliseconds = 0
        self._counter = 0

    def take(self, milliseconds: int, count: int) -> list[int]:
        """Return ``count`` new numbers; should the clock stand still or step back, they go on from the last."""
        rows = []
        if milliseconds > self._milliseconds:
            self._milliseconds, self._counter = milliseconds, 0
        for _ in range(count):
            if self._counter == 1 << _INSTANCE_SHIFT:
                self._milliseconds, self._counter = self._milliseconds + 1, 0
            rows.append(self._milliseconds << _ID_SHIFT | self._instance | self._counter)
            self._counter += 1
        return rows
