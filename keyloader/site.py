"""Site files: where on this machine a ceremony finds what it needs; nothing of the plan is in one."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from keyloader.errors import PlanInvalid, SiteFault
from keyloader.field_errors import describe


class Site(BaseModel):
    """A machine on which ceremonies are held.

    Args:
        token_folder: holds the token stores and the PIN; belongs to the module's system user.
        token_label: of the token.
        token_serial: that the token must have; empty before it is initialised.
        ceremony_config: configuration of the functionality module with ``mode = ceremony``.
        records: folder of the records.
        backups: folder of the backups; needed for that ceremony alone.
        printer: name that ``lp`` knows; empty if records are printed elsewhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_folder: Path
    token_label: str = "keywatt"  # noqa: S105 - a name
    token_serial: str = ""
    ceremony_config: Path
    records: Path
    backups: Path | None = None
    printer: str = ""

    @property
    def pin_file(self) -> Path:
        """Where the PIN of the token is."""
        return self.token_folder / "pin"

    def read_pin(self) -> str:
        """Return the PIN of the token; raises SiteFault."""
        try:
            return self.pin_file.read_text("ascii").strip()
        except OSError as error:
            raise SiteFault(f"{self.pin_file}: {error.strerror}") from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a site file; raises PlanInvalid."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text("utf-8")))
        except OSError as error:
            raise PlanInvalid(f"{path}: {error.strerror}") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise PlanInvalid(f"{path}: {error}") from None
        except ValidationError as error:
            raise PlanInvalid(f"{path}: {describe(error)}") from None

    def send_to_printer(self, path: Path) -> None:
        """Print a file, if the site has a printer; raises SiteFault."""
        if not self.printer:
            return
        command = ["lp", "-d", self.printer, str(path)]
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
            raise SiteFault(f"{path} could not be printed on {self.printer}; the ceremony itself is done")

    def require(self) -> None:
        """See that all is there before anything begins; raises SiteFault."""
        for path in (self.token_folder, self.records):
            if not path.is_dir():
                raise SiteFault(f"{path} is no folder")
        if not self.ceremony_config.is_file():
            raise SiteFault(f"{self.ceremony_config} is missing")
        if self.printer and shutil.which("lp") is None:
            raise SiteFault("the site names a printer, and there is no lp to reach it")
