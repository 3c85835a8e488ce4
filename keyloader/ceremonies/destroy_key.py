"""Destroy a vending key; older token stores still hold it until they are destroyed too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hsm.ceremony import Ceremony
from hsm.ceremony_requests import KeyNameItem, KeySource
from hsm.officers import CeremonyKind
from hsm.requests import Operation
from keyloader.ceremonies.base import Action, CeremonyType, Stage
from keyloader.key_attributes import KeyAttributes


class DestroyKey(CeremonyType):
    """A key that is needed no more."""

    code: ClassVar[CeremonyKind] = CeremonyKind.DESTROY_KEY
    kind: Literal["destroy-key"]
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
        """Destroy."""
        return [Action(operation=Operation.DESTROY_KEY, item=self.item, what=f"destroy vending key {self.name}")]

    def script(self) -> list[str]:
        """In words."""
        return [
            f"Vending key {self.name} is destroyed in the new token store.",
            "The stores before it still hold it; they are destroyed by hand when nobody needs them to roll back.",
        ]

    def prepare_rehearsal(self, ceremony: Ceremony) -> None:
        """Put a key of that name there."""
        key = KeyAttributes(
            supply_group_code=self.supply_group_code,
            key_revision_number=self.key_revision_number,
            key_type=2,
            dkga=4,
            base_date=14,
            key_expiry_number=255,
        )
        ceremony.load_key(key.item(KeySource.GENERATE))

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - they are what this does
        """Destroy."""
        stage.ceremony.destroy_key(self.item)
        stage.step("vending key destroyed", key=self.name)
