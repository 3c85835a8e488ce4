"""Enrol key management centres: the whole list is replaced, by as many officers as change the officers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hsm.ceremony_requests import CENTRES_MAX, Centre, CentresItem
from hsm.officers import CeremonyKind
from hsm.requests import Operation
from hsm.ssh_signatures import OfficerKey
from keyloader.ceremonies.base import Action, CeremonyType, Stage
from keyloader.exchange.centre_key import CentreKey
from keyloader.officer_list import OFFICER_NAME


class CentreEntry(BaseModel):
    """One centre.

    Args:
        name: 1 to 32 printable ASCII characters.
        key: a line as in ``id_ed25519.pub``; a plain key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=f"^{OFFICER_NAME.pattern}$")]
    key: CentreKey


class ChangeCentres(CeremonyType):
    """The list of centres is replaced; files of those that the plan does not name are refused from then on.

    Args:
        centre: at most eight; none, to take no more files.
    """

    code: ClassVar[CeremonyKind] = CeremonyKind.OFFICERS
    kind: Literal["centres"]
    centre: Annotated[list[CentreEntry], Field(max_length=CENTRES_MAX)] = Field(default=[])

    @model_validator(mode="after")
    def _check(self) -> Self:
        for what in ("name", "key"):
            if len({getattr(entry, what) for entry in self.centre}) != len(self.centre):
                raise ValueError(f"two centres have the same {what}")
        return self

    @property
    def item(self) -> CentresItem:
        """As the module takes it."""
        return CentresItem(
            centres=[Centre(name=entry.name, key=OfficerKey.parse(entry.key).public) for entry in self.centre]
        )

    def actions(self, folder: Path) -> list[Action]:  # noqa: ARG002 - no file beside the plan
        """Replace the list."""
        return [Action(operation=Operation.SET_CENTRES, item=self.item, what="replace the list of centres")]

    def script(self) -> list[str]:
        """In words."""
        lines = [f"{entry.name}, {OfficerKey.parse(entry.key).fingerprint}" for entry in self.centre]
        return [*(f"Centre whose files are taken: {line}" for line in lines), "The list of centres is replaced."]

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - they are what this does
        """Replace the list."""
        before = stage.ceremony.centres()
        stage.ceremony.set_centres(self.item)
        names = {entry.name for entry in self.centre}
        for centre in before.centres:
            if centre.name not in names:
                stage.step("centre removed", centre=centre.name)
        for entry in self.centre:
            stage.step("centre enrolled", centre=entry.name, key=OfficerKey.parse(entry.key).fingerprint)
