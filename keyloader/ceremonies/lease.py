"""Put a lease to vend into the token: the module issues until its end, whatever was presented online before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from hsm.mandate import LEASE_DAYS_MAX, Lease, utc_minutes
from hsm.officers import CeremonyKind
from hsm.requests import Operation
from keyloader.ceremonies.base import Action, CeremonyType, Stage

_DAY_MINUTES = 24 * 60


class RenewLease(CeremonyType):
    """The next lease.

    Args:
        number: greater than that of every lease before.
        valid_from, valid_until: with a zone, to the minute; at most 92 days apart.
    """

    code: ClassVar[CeremonyKind] = CeremonyKind.LEASE
    kind: Literal["lease"]
    number: Annotated[int, Field(ge=1, le=2**31)]
    valid_from: AwareDatetime
    valid_until: AwareDatetime

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("valid_from", "valid_until"):
            moment: datetime = getattr(self, name)
            if moment.second or moment.microsecond or moment.year < 1970:
                raise ValueError(f"{name} is a time to the minute, from 1970 on")
        length = self.item.valid_until - self.item.valid_from
        if not 0 <= length <= LEASE_DAYS_MAX * _DAY_MINUTES:
            raise ValueError(f"a lease ends after it begins, and lasts {LEASE_DAYS_MAX} days at most")
        return self

    @property
    def item(self) -> Lease:
        """As the module takes it."""
        return Lease(
            number=self.number, valid_from=utc_minutes(self.valid_from), valid_until=utc_minutes(self.valid_until)
        )

    @property
    def _what(self) -> str:
        since, until = (
            f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" for moment in (self.valid_from, self.valid_until)
        )
        return f"lease {self.number} from {since} until {until}"

    def actions(self, folder: Path) -> list[Action]:  # noqa: ARG002 - no file beside the plan
        """Put it into the token."""
        return [Action(operation=Operation.SET_LEASE, item=self.item, what=f"put {self._what} into the token")]

    def script(self) -> list[str]:
        """In words."""
        return [
            f"The module gets {self._what}.",
            "After its end the module issues nothing, until officers have signed the next one.",
        ]

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - they are what this does
        """Put it into the token."""
        stage.ceremony.set_lease(self.item)
        stage.step("lease in the token", lease=self._what)
