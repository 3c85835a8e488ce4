"""Hand a module over: new officers take the place of those before, and sign that they take it as they find it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hsm.officers import CeremonyKind
from hsm.requests import Operation
from keyloader.ceremonies.base import Action, CeremonyType, Stage, Throwaway
from keyloader.officer_list import OfficerList

_Line = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e]*$")]


class HandOver(CeremonyType):
    """A module goes from one party to another.

    Args:
        from_party, to_party: who gives and who takes, as the paper names them.
        seals: numbers of the seals on the machine, as they are read at the table.
        officers: who judges over the module from now on.
    """

    code: ClassVar[CeremonyKind] = CeremonyKind.HAND_OVER
    kind: Literal["hand-over"]
    from_party: _Line
    to_party: _Line
    seals: Annotated[list[_Line], Field(max_length=20)] = Field(default=[])
    officers: OfficerList

    def actions(self, folder: Path) -> list[Action]:  # noqa: ARG002 - no file beside the plan
        """Replace the officers."""
        what = f"hand the module over from {self.from_party} to {self.to_party}: replace the list of officers"
        return [Action(operation=Operation.SET_OFFICERS, item=self.officers.item, what=what)]

    def script(self) -> list[str]:
        """In words."""
        return [
            *(f"Seal {seal} is read on the machine and compared." for seal in self.seals),
            "Every key of the token proves its record; the keys are read out and compared with the inventory.",
            *(f"Officer from now on: {line}" for line in self.officers.lines),
            f"Each of them signs that {self.to_party} takes the module over as the record describes it.",
            f"The officers of {self.from_party} are replaced.",
        ]

    def rehearsed(self, throwaway: Throwaway) -> tuple[CeremonyType, Path]:
        """Give the new officers throw-away keys."""
        entries = [entry.model_copy(update={"key": throwaway.key_for(entry.name)}) for entry in self.officers.officer]
        officers = self.officers.model_copy(update={"officer": entries})
        return self.model_copy(update={"officers": officers}), throwaway.plan_folder

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - they are what this does
        """Have seals and keys compared, take the signatures, and replace the officers."""
        for seal in self.seals:
            if not stage.confirm(f"Is seal {seal} there and whole?"):
                stage.step("seal missing or broken", seal=seal)
                continue
            stage.step("seal compared", seal=seal)
        for label in sorted(stage.ceremony.session.labels):
            stage.step("key handed over", record=label)
        stage.accept(self.officers.enrolment.officers)
        stage.ceremony.set_officers(self.officers.item)
        for line in self.officers.lines:
            stage.step("officer enrolled", officer=line)
