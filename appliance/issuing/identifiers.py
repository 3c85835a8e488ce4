"""Token identifiers: each one at least one minute above the last for its meter, never far ahead of the clock.

Kept in memory: after a restart the register starts empty. Until then given identifiers can come again for as long as
they lie ahead of the clock (the look-ahead), and reserved ones within the module's window for them; two appliances on
one module do not know of each other. A durable ledger is what cures this; until there is one, run one appliance and
wait out the look-ahead after a restart.
Keyed by meter and base date, because a meter remembers identifiers through every key change but a rollover.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from appliance.errors import IdentifierLookAhead, IdentifierUsed
from sts.identifiers import MeterPAN
from sts.token_identifier import BaseDate, TokenIdentifier


@dataclass(slots=True)
class _Given:
    last: int | None = None
    used: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """An identifier that was taken, with what is needed to give it back."""

    pan: MeterPAN
    identifier: TokenIdentifier
    reserved: bool
    previous: int | None
    generation: int


class IdentifierRegister:
    """Gives out identifiers and takes back those whose token was refused.

    Args:
        look_ahead_minutes: how far identifiers may run ahead of the clock.
        replay: certification mode: any free identifier will do, also one below the last.
    """

    def __init__(self, *, look_ahead_minutes: int, replay: bool = False) -> None:
        self._look_ahead = look_ahead_minutes
        self._replay = replay
        self._given: dict[tuple[str, BaseDate], _Given] = {}
        self._generation = 0

    def take(self, pan: MeterPAN, base_date: BaseDate, local: datetime) -> Reservation:
        """Take the identifier of ``local`` (naive), or the next one that is free.

        Raises:
            TimeOutOfRange: the base date does not cover it.
            IdentifierLookAhead: it would be further ahead than the policy allows.
        """
        given = self._given.get((pan.digits, base_date), _Given())
        due = identifier = TokenIdentifier.from_naive(local, base_date)
        if self._replay:
            while identifier.minutes in given.used:
                identifier = identifier.next_free()
        elif given.last is not None and identifier.minutes <= given.last:
            identifier = TokenIdentifier(minutes=given.last, base_date=base_date).next_free()
        if identifier.minutes - due.minutes > self._look_ahead:
            raise IdentifierLookAhead(f"the next identifier of this meter is over {self._look_ahead} minutes ahead")
        previous, given.last = given.last, identifier.minutes
        if self._replay:
            given.used.add(identifier.minutes)
        self._given[pan.digits, base_date] = given
        return self._reservation(pan, identifier, reserved=False, previous=previous)

    def take_reserved(self, pan: MeterPAN, base_date: BaseDate, date: datetime) -> Reservation:
        """Take the reserved identifier, 00:01, of a date; it may lie below the last one.

        Raises:
            TimeOutOfRange: the base date does not cover it.
            IdentifierUsed: this meter was given it before.
        """
        given = self._given.get((pan.digits, base_date), _Given())
        identifier = TokenIdentifier.from_naive(date.replace(hour=0, minute=1), base_date, reserved=True)
        if identifier.minutes in given.used:
            raise IdentifierUsed("this meter was given the reserved identifier of this date before")
        given.used.add(identifier.minutes)
        self._given[pan.digits, base_date] = given
        return self._reservation(pan, identifier, reserved=True, previous=None)

    def _reservation(
        self, pan: MeterPAN, identifier: TokenIdentifier, *, reserved: bool, previous: int | None
    ) -> Reservation:
        return Reservation(
            pan=pan, identifier=identifier, reserved=reserved, previous=previous, generation=self._generation
        )

    def give_back(self, reservation: Reservation) -> None:
        """Undo a reservation whose token was refused; one that others have built upon stays taken."""
        name = (reservation.pan.digits, reservation.identifier.base_date)
        given = self._given.get(name)
        if given is None or reservation.generation != self._generation:
            return
        minutes = reservation.identifier.minutes
        if reservation.reserved or self._replay:
            given.used.discard(minutes)
        if not reservation.reserved and given.last == minutes:
            given.last = reservation.previous
        if given.last is None and not given.used:
            del self._given[name]

    def reset(self) -> int:
        """Forget everything; return how many meters there were. For certification mode."""
        meters = len({pan for pan, _ in self._given})
        self._given.clear()
        self._generation += 1
        return meters
