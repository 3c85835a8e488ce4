"""Types that do something to one key of the token, which the plan names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from hsm.ceremony_requests import KeyNameItem, KeySource
from hsm.officers import CeremonyKind
from hsm.requests import Operation
from keyloader.ceremonies.base import Action, CeremonyType, Throwaway
from keyloader.key_attributes import KeyAttributes


class NamedKeyType(CeremonyType):
    """What both have.

    Args:
        supply_group_code, key_revision_number: of the key.
    """

    operation: ClassVar[Operation]
    verb: ClassVar[str]
    supply_group_code: Annotated[str, Field(pattern=r"^\d{6}$")]
    key_revision_number: Annotated[int, Field(ge=1, le=9)]

    @property
    def item(self) -> KeyNameItem:
        """As the module takes it."""
        return KeyNameItem(supply_group_code=self.supply_group_code, key_revision_number=self.key_revision_number)

    @property
    def name(self) -> str:
        """SGC/KRN."""
        return f"{self.supply_group_code}/{self.key_revision_number}"

    def actions(self, folder: Path) -> list[Action]:  # noqa: ARG002 - no file beside the plan
        """Do it."""
        return [Action(operation=self.operation, item=self.item, what=f"{self.verb} vending key {self.name}")]

    def may_change(self, folder: Path) -> frozenset[str]:  # noqa: ARG002 - as above
        """Name the key itself."""
        return frozenset({self.name})

    def rehearsed(self, throwaway: Throwaway) -> tuple[CeremonyType, Path]:
        """Put a key of that name there."""
        key = KeyAttributes(
            supply_group_code=self.supply_group_code,
            key_revision_number=self.key_revision_number,
            key_type=2,
            dkga=4,
            base_date=14,
            key_expiry_number=255,
        )
        item = key.item(KeySource.GENERATE)
        action = Action(operation=Operation.LOAD_KEY, item=item, what="generate a key to rehearse with")
        with throwaway.holding(CeremonyKind.GENERATE_KEY, action) as ceremony:
            ceremony.load_key(item)
        return self, throwaway.plan_folder
