"""Enrol and retire officers: the whole list is replaced, by those who are enrolled now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from hsm.officers import CeremonyKind
from hsm.requests import Operation
from keyloader.ceremonies.base import Action, CeremonyType, Stage
from keyloader.officer_list import OfficerList


class ChangeOfficers(CeremonyType):
    """The list of officers is replaced; what the plan does not name any more is retired."""

    code: ClassVar[CeremonyKind] = CeremonyKind.OFFICERS
    kind: Literal["officers"]
    officers: OfficerList

    def actions(self, folder: Path) -> list[Action]:  # noqa: ARG002 - no file beside the plan
        """Replace the list."""
        return [Action(operation=Operation.SET_OFFICERS, item=self.officers.item, what="replace the list of officers")]

    def script(self) -> list[str]:
        """In words."""
        return [*(f"Officer from now on: {line}" for line in self.officers.lines), "The list of officers is replaced."]

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - they are what this does
        """Replace the list."""
        before = stage.ceremony.officers()
        stage.ceremony.set_officers(self.officers.item)
        names = {entry.name for entry in self.officers.officer}
        for officer in () if before is None else before.officers:
            if officer.name not in names:
                stage.step("officer retired", officer=officer.name)
        for line in self.officers.lines:
            stage.step("officer enrolled", officer=line)
