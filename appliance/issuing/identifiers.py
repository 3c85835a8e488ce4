"""Token identifiers: each at least one minute above the last for its meter and base date, never far ahead of the clock.

Keyed by meter and base date, because a meter remembers identifiers through every key change but a rollover. The
ledger has the last ones; here is the arithmetic, and what one batch has taken so far.
"""

from __future__ import annotations

from datetime import datetime

from appliance.errors import IdentifierLookAhead, IdentifierUsed
from appliance.ledger.ledger import Transaction
from sts.identifiers import MeterPAN
from sts.token_identifier import BaseDate, TokenIdentifier


class BatchIdentifiers:
    """Gives out identifiers within one batch.

    Args:
        transaction: the batch on the ledger; its meters are claimed.
        look_ahead_minutes: how far identifiers may run ahead of the clock.
        floor: naive local time that no identifier may lie before, or None.
        replay: certification mode: any free identifier will do, also one below the last.
    """

    def __init__(
        self, transaction: Transaction, *, look_ahead_minutes: int, floor: datetime | None = None, replay: bool = False
    ) -> None:
        self._transaction = transaction
        self._look_ahead = look_ahead_minutes
        self._floor = floor
        self._replay = replay
        self._last: dict[tuple[int, BaseDate], int] = {}
        self._used: set[tuple[int, BaseDate, int]] = set()
        self._due: dict[tuple[datetime, BaseDate], TokenIdentifier] = {}

    async def take(self, pan: MeterPAN, base_date: BaseDate, local: datetime, *, keep: bool) -> TokenIdentifier:
        """Return the identifier of ``local`` (naive), or the next one that is free.

        Args:
            pan: the meter.
            base_date: of the vending key.
            local: naive local time, to the minute.
            keep: whether it counts as taken for the rest of the batch.

        Raises:
            TimeOutOfRange: the base date does not cover it.
            IdentifierLookAhead: it would be further ahead than the policy allows.
        """
        meter = int(pan.digits)
        due = identifier = self._due_at(local, base_date)
        if self._replay:
            while await self._is_used(meter, base_date, identifier.minutes):
                identifier = identifier.next_free()
        else:
            last = self._last.get((meter, base_date))
            if last is None:
                last = self._transaction.last(meter, base_date)
            if last is not None and due.minutes <= last:
                identifier = TokenIdentifier(minutes=last, base_date=base_date).next_free()
        if identifier.minutes - due.minutes > self._look_ahead:
            raise IdentifierLookAhead(f"the next identifier of this meter is over {self._look_ahead} minutes ahead")
        if keep:
            self._last[meter, base_date] = identifier.minutes
            if self._replay:
                self._used.add((meter, base_date, identifier.minutes))
        return identifier

    async def take_reserved(self, pan: MeterPAN, base_date: BaseDate, date: datetime, *, keep: bool) -> TokenIdentifier:
        """Return the reserved identifier, 00:01, of a date; it may lie below the last one.

        Raises:
            TimeOutOfRange: the base date does not cover it.
            IdentifierUsed: this meter was given it before.
        """
        meter = int(pan.digits)
        identifier = TokenIdentifier.from_naive(date.replace(hour=0, minute=1), base_date, reserved=True)
        if await self._is_used(meter, base_date, identifier.minutes):
            raise IdentifierUsed("this meter was given the reserved identifier of this date before")
        if keep:
            self._used.add((meter, base_date, identifier.minutes))
        return identifier

    def _due_at(self, local: datetime, base_date: BaseDate) -> TokenIdentifier:
        due = self._due.get((local, base_date))
        if due is None:
            moment = local if self._floor is None else max(local, self._floor)
            due = self._due[local, base_date] = TokenIdentifier.from_naive(moment, base_date)
        return due

    async def _is_used(self, meter: int, base_date: BaseDate, minutes: int) -> bool:
        if (meter, base_date, minutes) in self._used:
            return True
        return await self._transaction.taken(meter, base_date, minutes)
