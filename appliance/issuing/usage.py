"""Limits are reserved before the module is asked, and settled in the commit of the tokens they are for.

On SQLite one book serves the process: it knows what is durable and what is under way. On a shared ledger each batch has
a book of its own, and the rows of its counters are locked until it ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from appliance.errors import LimitExceeded
from appliance.ledger.records import Usage
from appliance.policy.judge import Charge

_NOTHING = Usage(count=0, units=0, currency=0)
_PRUNE_AT = 50_000


class UsageBook:
    """What each counter has come to, and what is reserved beside it."""

    def __init__(self) -> None:
        self._durable: dict[str, Usage] = {}
        self._reserved: dict[str, Usage] = {}
        self._ends: dict[str, datetime] = {}

    def learn(self, found: Mapping[str, Usage]) -> None:
        """Take in what the ledger holds of counters that are not known yet."""
        for counter, usage in found.items():
            self._durable.setdefault(counter, usage)

    def reserve(self, charges: Sequence[Charge]) -> None:
        """Reserve all of them, or nothing.

        Raises:
            LimitExceeded: one of them would go beyond its bound; says which, how much is used and until when.
        """
        for charge in charges:
            self._ends[charge.counter] = charge.ends
            used = self._durable.get(charge.counter, _NOTHING) + self._reserved.get(charge.counter, _NOTHING)
            for kind, amount, most, before in (
                ("count", charge.count, charge.count_max, used.count),
                ("units", charge.units, charge.units_max, used.units),
                ("currency", charge.currency, charge.currency_max, used.currency),
            ):
                if most is not None and amount > 0 and before + amount > most:
                    raise LimitExceeded(
                        f"limit {charge.limit} is exhausted",
                        limit=charge.limit,
                        kind=kind,
                        most=str(most),
                        used=str(before),
                        resets=charge.ends.isoformat(timespec="minutes"),
                    )
        for charge in charges:
            self._reserved[charge.counter] = self._reserved.get(charge.counter, _NOTHING) + _usage(charge)

    def release(self, charges: Iterable[Charge]) -> None:
        """Give back what was reserved and not used."""
        for charge in charges:
            left = self._reserved[charge.counter] - _usage(charge)
            if left == _NOTHING:
                del self._reserved[charge.counter]
            else:
                self._reserved[charge.counter] = left

    def settle(self, charges: Iterable[Charge]) -> None:
        """Turn what was reserved into what is used: its commit is durable."""
        charges = list(charges)
        self.release(charges)
        for charge in charges:
            self._durable[charge.counter] = self._durable.get(charge.counter, _NOTHING) + _usage(charge)

    def prune(self, local: datetime) -> None:
        """Forget counters whose window is over, once there are many."""
        if len(self._ends) < _PRUNE_AT:
            return
        over = [counter for counter, ends in self._ends.items() if ends <= local and counter not in self._reserved]
        for counter in over:
            del self._ends[counter]
            self._durable.pop(counter, None)


def increments(charges: Iterable[Charge]) -> dict[str, tuple[Usage, datetime]]:
    """Return what a commit adds to each counter, and when the counter's window ends."""
    found: dict[str, tuple[Usage, datetime]] = {}
    for charge in charges:
        before = found.get(charge.counter, (_NOTHING, charge.ends))[0]
        found[charge.counter] = (before + _usage(charge), charge.ends)
    return found


def _usage(charge: Charge) -> Usage:
    return Usage(count=charge.count, units=charge.units, currency=charge.currency)
