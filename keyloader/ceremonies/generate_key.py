"""Generate a vending key inside the module; nobody ever sees it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from hsm.ceremony_requests import KeySource
from hsm.officers import CeremonyKind
from hsm.requests import Operation
from keyloader.ceremonies.base import Action, CeremonyType, Stage
from keyloader.key_attributes import KeyAttributes


class GenerateKey(CeremonyType):
    """A key that exists in this module alone, and in what is made from it."""

    code: ClassVar[CeremonyKind] = CeremonyKind.GENERATE_KEY
    kind: Literal["generate-key"]
    key: KeyAttributes

    def actions(self, folder: Path) -> list[Action]:  # noqa: ARG002 - no file beside the plan
        """Generate."""
        item = self.key.item(KeySource.GENERATE)
        return [Action(operation=Operation.LOAD_KEY, item=item, what=f"generate vending key {self.key.name}")]

    def script(self) -> list[str]:
        """In words."""
        return [
            f"Vending key {self.key.name} is drawn inside the module; its check value is read out and written down."
        ]

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - they are what this does
        """Generate."""
        checked, _ = stage.ceremony.load_key(self.key.item(KeySource.GENERATE))
        stage.step(
            "vending key generated",
            key=self.key.name,
            check_value=checked.octets.hex().upper(),
            algorithm=checked.algorithm.label,
        )
