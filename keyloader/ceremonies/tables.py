"""Install EA07 tables from the licensee's file, which lies beside the plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hsm.ceremony_requests import InstallTablesItem
from hsm.officers import CeremonyKind
from hsm.requests import Operation
from keyloader import tables_file
from keyloader.ceremonies.base import Action, CeremonyType, Stage
from keyloader.errors import PlanInvalid


class InstallTables(CeremonyType):
    """The tables of the STS Association replace those before.

    Args:
        file: name of the file in the plan's folder.
        sha256: of the tables, as ``keyloader sta-tables check`` shows it.
    """

    code: ClassVar[CeremonyKind] = CeremonyKind.TABLES
    needs_files: ClassVar[bool] = True
    kind: Literal["tables"]
    file: Annotated[str, Field(pattern=r"^[^/]+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    def actions(self, folder: Path) -> list[Action]:
        """Install."""
        tables = tables_file.read(folder / self.file)
        if tables.digest.hex() != self.sha256:
            raise PlanInvalid(f"{self.file} holds other tables than the plan says")
        item = InstallTablesItem(name=tables.name, tables=tables.octets)
        return [Action(operation=Operation.INSTALL_TABLES, item=item, what=f"install the EA07 tables {tables.name}")]

    def script(self) -> list[str]:
        """In words."""
        return [f"The EA07 tables of {self.file} with SHA-256 {self.sha256} are installed."]

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:
        """Install."""
        for action in actions:
            if isinstance(action.item, InstallTablesItem):
                stage.ceremony.install_tables(action.item)
                stage.step("EA07 tables installed", name=action.item.name, sha256=self.sha256)
