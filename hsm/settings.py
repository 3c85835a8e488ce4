"""Settings of the module process: one TOML file, strict, no secret in it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hsm.errors import HsmError


class SettingsInvalid(HsmError):
    """The settings file is missing, is no TOML, or has an unknown or wrong field."""

    reason = "SETTINGS_INVALID"
    hint = "See the message for the field; docs/runbook.md lists them all."


class LogSettings(BaseModel):
    """The module's log.

    Args:
        folder: where it lies; this user writes it, the appliance may read it.
        checkpoint_seconds: while entries are added, a checkpoint is signed so often.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path
    checkpoint_seconds: float = Field(default=10.0, gt=0, le=3600)


class ModuleSettings(BaseModel):
    """The module process.

    Args:
        socket: unix socket that the appliance connects to.
        module_config: configuration of the functionality module, owned by root.
        softhsm_config: SoftHSM's own configuration; None for another library.
        pin_file: file with the user PIN, mode 0600.
        library: the functionality module, unless it is the packaged one.
        client_users: names of the system users that may connect.
        log: see LogSettings.
        operation_deadline_seconds: a call of the library that takes longer ends the worker.
        start_deadline_seconds: the same for loading, login and self-tests.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    socket: Path
    module_config: Path
    pin_file: Path
    softhsm_config: Path | None = None
    library: Path | None = None
    client_users: list[str] = Field(min_length=1)
    log: LogSettings
    operation_deadline_seconds: float = Field(default=2.0, gt=0, le=60)
    start_deadline_seconds: float = Field(default=20.0, gt=0, le=300)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file; raises SettingsInvalid."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text("utf-8")))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise SettingsInvalid(f"{path}: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise SettingsInvalid(f"{path}: {field}: {first['msg']}") from error
