"""Load the key block protection key of a centre that sends key blocks of X9.143; it comes in components."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from hsm.ceremony_requests import BLOCK_KEY_LENGTH, BlockKeyItem
from hsm.officers import CeremonyKind
from hsm.requests import Operation
from keyloader.ceremonies.base import Action, Stage
from keyloader.ceremonies.components import ComponentsType


class LoadBlockKey(ComponentsType):
    """An AES-256 key under which a centre protects its key blocks; it takes the place of the one before.

    It decides where keys come from, and needs as many officers as enrolling a centre.
    """

    code: ClassVar[CeremonyKind] = CeremonyKind.OFFICERS
    kind: Literal["block-key"]

    @property
    def item(self) -> BlockKeyItem:
        """As the module takes it."""
        return BlockKeyItem(
            components=self.components,
            expected=bytes.fromhex(self.check_value),
            component_values=self.component_values,
        )

    def actions(self, folder: Path) -> list[Action]:  # noqa: ARG002 - no file beside the plan
        """Load."""
        what = f"load the key block protection key from {self.components} components"
        if self.check_value:
            what += f", check value {self.check_value}"
        return [Action(operation=Operation.SET_BLOCK_KEY, item=self.item, what=what)]

    def script(self) -> list[str]:
        """In words."""
        expected = f", which must be {self.check_value}" if self.check_value else ""
        return [
            *self.entry_script(),
            f"The module combines the components to the key block protection key; its check value{expected}.",
        ]

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - they are what this does
        """Have the components entered, and load the key."""
        self.enter_components(stage, BLOCK_KEY_LENGTH)
        checked = stage.ceremony.set_block_key(self.item)
        stage.step(
            "key block protection key loaded",
            check_value=checked.octets.hex().upper(),
            algorithm=checked.algorithm.label,
            expected=self.check_value or "not known",
        )
