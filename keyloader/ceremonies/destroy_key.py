"""Destroy a vending key; older token stores still hold it until they are destroyed too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from hsm.officers import CeremonyKind
from hsm.requests import Operation
from keyloader.ceremonies.base import Action, Stage
from keyloader.ceremonies.named_key import NamedKeyType


class DestroyKey(NamedKeyType):
    """A key that is needed no more."""

    code: ClassVar[CeremonyKind] = CeremonyKind.DESTROY_KEY
    operation: ClassVar[Operation] = Operation.DESTROY_KEY
    verb: ClassVar[str] = "destroy"
    kind: Literal["destroy-key"]

    def script(self) -> list[str]:
        """In words."""
        return [
            f"Vending key {self.name} is destroyed in the new token store.",
            "The stores before it still hold it; they are destroyed by hand when nobody needs them to roll back.",
        ]

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - they are what this does
        """Destroy."""
        stage.ceremony.destroy_key(self.item)
        stage.step("vending key destroyed", key=self.name)
