"""Put a policy in force by ceremony: the token keeps its number and digest, and the appliance takes no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hsm.mandate import PolicyItem
from hsm.officers import CeremonyKind
from hsm.requests import Operation
from keyloader.ceremonies.base import Action, CeremonyType, Stage


class PutPolicy(CeremonyType):
    """The next policy.

    Args:
        number: of the policy; greater than that of every policy before.
        sha256: of its canonical form, as ``keywatt-policy check`` shows it (hexadecimal).
    """

    code: ClassVar[CeremonyKind] = CeremonyKind.POLICY
    kind: Literal["policy"]
    number: Annotated[int, Field(ge=1, le=2**31)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @property
    def item(self) -> PolicyItem:
        """As the module takes it."""
        return PolicyItem(number=self.number, digest=bytes.fromhex(self.sha256))

    def actions(self, folder: Path) -> list[Action]:  # noqa: ARG002 - the policy itself is not needed
        """Put it in force."""
        what = f"put policy {self.number} in force, {self.sha256}"
        return [Action(operation=Operation.SET_POLICY, item=self.item, what=what)]

    def script(self) -> list[str]:
        """In words."""
        return [
            f"Policy {self.number} comes into force. Its SHA-256 is {self.sha256};",
            "each officer compares it with what keywatt-policy check says of the policy that was agreed on.",
        ]

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - they are what this does
        """Put it in force."""
        stage.ceremony.set_policy(self.item)
        stage.step("policy in the token", number=str(self.number), sha256=self.sha256)
