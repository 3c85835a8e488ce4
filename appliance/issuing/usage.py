"""Limits are reserved before the module is asked, and settled in the commit of the tokens they are for.

On SQLite one book serves the process: it knows what is durable and what is under way. On a shared ledger each batch has
a book of its own, and the rows of its counters are locked until it ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from appliance.errors import LimitExceeded
from appliance.ledger.records import Usage
from appliance.policy.judge import Bound, Charge

_PRUNE_AT = 50_000
_PRUNE_AFTER = timedelta(hours=1)


class _Counter:
    """What a counter has come to, what is under way included, and how much of it is."""

    __slots__ = ("bound", "count", "currency", "held", "units")

    def __init__(self) -> None:
        self.count = self.units = self.currency = 0
        self.held = 0
        self.bound: Bound | None = None


class UsageBook:
    """What each counter has come to, and what is reserved beside it."""

    def __init__(self) -> None:
        self._counters: dict[str, _Counter] = {}

    def learn(self, found: Mapping[str, Usage]) -> None:
        """Take in what the ledger holds of counters that are not known yet."""
        for name, usage in found.items():
            if name not in self._counters:
                counter = self._counters[name] = _Counter()
                counter.count, counter.units, counter.currency = usage.count, usage.units, usage.currency

    def reserve(self, charges: Sequence[Charge]) -> None:
        """Reserve all of them, or nothing.

        Raises:
            LimitExceeded: one of them would go beyond its bound; says which, how much is used and until when.
        """
        counters = self._counters
        found: list[_Counter] = []
        for charge in charges:
            bound = charge.bound
            counter = counters.get(bound.counter)
            if counter is None:
                counter = counters[bound.counter] = _Counter()
            counter.bound = bound
            if (
                (bound.count_max is not None and charge.count and counter.count + charge.count > bound.count_max)
                or (bound.units_max is not None and charge.units and counter.units + charge.units > bound.units_max)
                or (
                    bound.currency_max is not None
                    and charge.currency
                    and counter.currency + charge.currency > bound.currency_max
                )
            ):
                # A request may count twice for one counter; what it has taken so far goes back.
                _give_back(zip(found, charges, strict=False))
                raise _exceeded(counter, charge)
            _take(counter, charge)
            found.append(counter)

    def release(self, charges: Iterable[Charge]) -> None:
        """Give back what was reserved and not used."""
        counters = self._counters
        _give_back((counters[charge.bound.counter], charge) for charge in charges)

    def settle(self, charges: Iterable[Charge]) -> None:
        """Turn what was reserved into what is used: its commit is durable."""
        for charge in charges:
            self._counters[charge.bound.counter].held -= 1

    def prune(self, local: datetime) -> None:
        """Forget counters whose window was over an hour ago, once there are many: nobody works with them any more."""
        if len(self._counters) < _PRUNE_AT:
            return
        local -= _PRUNE_AFTER
        self._counters = {
            name: counter
            for name, counter in self._counters.items()
            if counter.held or (counter.bound is not None and counter.bound.ends > local)
        }


def _take(counter: _Counter, charge: Charge) -> None:
    counter.count += charge.count
    counter.units += charge.units
    counter.currency += charge.currency
    counter.held += 1


def _give_back(taken: Iterable[tuple[_Counter, Charge]]) -> None:
    for counter, charge in taken:
        counter.count -= charge.count
        counter.units -= charge.units
        counter.currency -= charge.currency
        counter.held -= 1


def _exceeded(counter: _Counter, charge: Charge) -> LimitExceeded:
    bound = charge.bound
    found = (
        ("count", charge.count, bound.count_max, counter.count),
        ("units", charge.units, bound.units_max, counter.units),
        ("currency", charge.currency, bound.currency_max, counter.currency),
    )
    kind, _, most, used = next(one for one in found if one[2] is not None and one[1] and one[3] + one[1] > one[2])
    return LimitExceeded(
        f"limit {bound.limit} is exhausted",
        limit=bound.limit,
        kind=kind,
        most=str(most),
        used=str(used),
        resets=bound.ends.isoformat(timespec="minutes"),
    )


def increments(charges: Iterable[Charge]) -> dict[str, tuple[int, int, int, datetime]]:
    """Return what a commit adds to each counter (tokens, units, currency), and when the counter's window ends."""
    found: dict[str, tuple[int, int, int, datetime]] = {}
    for charge in charges:
        bound = charge.bound
        count, units, currency, _ = found.get(bound.counter, (0, 0, 0, None))
        found[bound.counter] = (
            count + charge.count,
            units + charge.units,
            currency + charge.currency,
            bound.ends,
        )
    return found
