"""Retire a vending key: it issues nothing any more; meters are led away from it, and its tokens can be verified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from hsm.officers import CeremonyKind
from hsm.requests import Operation
from keyloader.ceremonies.base import Action, Stage
from keyloader.ceremonies.named_key import NamedKeyType


class RetireKey(NamedKeyType):
    """A key whose successor is in service."""

    code: ClassVar[CeremonyKind] = CeremonyKind.RETIRE_KEY
    operation: ClassVar[Operation] = Operation.RETIRE_KEY
    verb: ClassVar[str] = "retire"
    kind: Literal["retire-key"]

    def script(self) -> list[str]:
        """In words."""
        return [
            f"Vending key {self.name} is retired: it issues nothing any more, and no meter is changed to it.",
            "Meters that still hold it can be changed away from it. This cannot be undone but by an older token store.",
        ]

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - they are what this does
        """Retire."""
        stage.ceremony.retire_key(self.item)
        stage.step("vending key retired", key=self.name)
