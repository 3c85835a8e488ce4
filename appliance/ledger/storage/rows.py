"""What passes between ledger and storage: rows, in the order of the columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")
FoundRequest = tuple[int, bytes, int, int, bytes]
"""Place in the lookup, fingerprint, method, number of the answer's key, sealed answer."""

# The last one is found at the leaf of the index that the next one goes to: nothing else need be read or kept for it.
LAST_IDENTIFIERS = ", ".join(
    "(SELECT identifier FROM tokens WHERE tokens.meter = wanted.meter"  # noqa: S608 - our own numbers
    f" AND base_date = {base_date} AND identifier % 1440 <> 1 ORDER BY identifier DESC LIMIT 1)"
    for base_date in (93, 14, 35)
)
"""SQL for the last ordinary identifier of ``wanted.meter``, for each base date."""

UsageRow = tuple[str, int, int, int, int]
"""Counter, end of its window in milliseconds, and what is added: tokens, units, currency."""

LastIdentifiers = dict[int, list[int | None]]
"""By meter: the last identifier for 1993, 2014, 2035."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """What to read: requests as (place, client number, request id); meters and counters, ascending."""

    requests: list[tuple[int, int, bytes]]
    meters: list[int]
    counters: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What to write: rows of requests and tokens; what each counter grows by; the clock as (mark, epoch, mark)."""

    requests: list[tuple[int, int, bytes, bytes, int, int, bytes]]
    tokens: list[
        tuple[
            int, int, int | None, int | None, int | None, int | None, int | None, int, int, str, int | None, int | None
        ]
    ]
    clock: tuple[int, int, int] | None
    usage: list[UsageRow] = field(default_factory=list)


class Work(Protocol):
    """One batch between reading and commit."""

    found: list[FoundRequest]
    lasts: LastIdentifiers
    usage: list[tuple[str, int, int, int]]

    async def taken(self, meter: int, base_date: int, identifier: int) -> bool:
        """Tell whether a meter was given an identifier."""
        ...

    async def commit(self, commit: Commit) -> None:
        """Make it durable; raises LedgerUnavailable or LedgerConflict, and then nothing is."""
        ...

    async def abandon(self) -> None:
        """Give up without a trace; after a commit that raised it need not be called."""
        ...


class Storage(Protocol):
    """A database that holds a ledger.

    Attributes:
        lanes: how many batches may be under way at once.
        is_shared: whether other appliances may work on it at the same time.
    """

    lanes: int
    is_shared: bool

    async def begin(self, lookup: Lookup) -> Work:
        """Read, and lock where others share the ledger; raises LedgerUnavailable or LedgerConflict."""
        ...

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a query; raises LedgerUnavailable."""
        ...

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run a change in a transaction of its own; raises LedgerUnavailable."""
        ...

    def close(self) -> None:
        """Finish what is under way and let go."""
        ...
