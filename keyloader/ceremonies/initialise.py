"""Initialise a token: its first officers enrol themselves, and the audit key is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from hsm.officers import CeremonyKind
from hsm.requests import Operation
from keyloader.ceremonies.base import Action, Basis, CeremonyType, Stage
from keyloader.officer_list import OfficerList


class Initialise(CeremonyType):
    """A blank token becomes one with officers and an audit key."""

    code: ClassVar[CeremonyKind] = CeremonyKind.INITIALISE
    basis: ClassVar[Basis] = Basis.NOTHING
    kind: Literal["initialise"]
    officers: OfficerList

    def actions(self, folder: Path) -> list[Action]:  # noqa: ARG002 - no file beside the plan
        """Enrol, and make the audit key."""
        return [
            Action(operation=Operation.SET_OFFICERS, item=self.officers.item, what="enrol the officers"),
            Action(operation=Operation.MAKE_AUDIT_KEY, item=None, what="make the audit key"),
        ]

    def script(self) -> list[str]:
        """In words."""
        return [
            "The token is initialised; its PINs are drawn at random and kept by the module's system user.",
            *(f"Officer to enrol: {line}" for line in self.officers.lines),
            "The officers are enrolled.",
            "The audit key is made inside the module; its public half is read out and written down.",
        ]

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - they are what this does
        """Enrol, and make the audit key."""
        stage.ceremony.set_officers(self.officers.item)
        for line in self.officers.lines:
            stage.step("officer enrolled", officer=line)
        public, _ = stage.ceremony.make_audit_key()
        stage.step("audit key made", public=public.hex(), algorithm="Ed25519")
