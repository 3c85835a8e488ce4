"""Load a vending key from components that officers enter, one each; they are combined inside the module."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from hsm.ceremony_requests import KeySource, LoadKeyItem
from hsm.officers import CeremonyKind
from hsm.requests import Operation
from keyloader.ceremonies.base import Action, Stage
from keyloader.ceremonies.components import ComponentsType
from keyloader.key_attributes import KeyAttributes


class LoadKey(ComponentsType):
    """A key that comes on paper, in components.

    Args:
        key: what it is for.
    """

    code: ClassVar[CeremonyKind] = CeremonyKind.LOAD_KEY
    kind: Literal["load-key"]
    key: KeyAttributes

    @property
    def item(self) -> LoadKeyItem:
        """As the module takes it."""
        return self.key.item(
            KeySource.COMPONENTS,
            expected=bytes.fromhex(self.check_value),
            components=self.components,
            component_values=self.component_values,
        )

    def actions(self, folder: Path) -> list[Action]:  # noqa: ARG002 - no file beside the plan
        """Load."""
        what = f"load vending key {self.key.name} from {self.components} components"
        if self.check_value:
            what += f", check value {self.check_value}"
        return [Action(operation=Operation.LOAD_KEY, item=self.item, what=what)]

    def script(self) -> list[str]:
        """In words."""
        expected = f", which must be {self.check_value}" if self.check_value else ""
        return [
            *self.entry_script(),
            f"The module combines the components and loads key {self.key.name}; its check value{expected}.",
        ]

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - they are what this does
        """Have the components entered, and load the key."""
        self.enter_components(stage, self.key.key_length)
        checked, is_new = stage.ceremony.load_key(self.item)
        stage.step(
            "vending key loaded" if is_new else "this very key was there already",
            key=self.key.name,
            check_value=checked.octets.hex().upper(),
            algorithm=checked.algorithm.label,
            expected=self.check_value or "not known",
        )
