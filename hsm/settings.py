"""Settings of the module process: one TOML file, strict, no secret in it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hsm.errors import HsmError
from hsm.log.errors import PolicyInvalid
from hsm.witness_gate import TOKENS, WitnessDemands, WitnessRule


class SettingsInvalid(HsmError):
    """The settings file is missing, is no TOML, or has an unknown or wrong field."""

    reason = "SETTINGS_INVALID"
    hint = "See the message for the field; docs/runbook.md lists them all."


class WitnessRuleSettings(BaseModel):
    """One ``[[log.witnesses.require]]``: no token of these classes without cosignatures on a recent checkpoint.

    Args:
        tokens: ``*``, a class such as ``2``, or class and subclass such as ``0.4``; key-change tokens are 2.3 and on.
        quorum: name of a witness or group of the policy; without it the policy's own quorum.
        max_age_seconds: how old the cosignatures may be.
        max_entries: how many entries of the log may follow the cosigned checkpoint, 2,000 or more; a checkpoint is
            signed early when a quarter of them are there.
        after_start: whether the checkpoint must cover the start of the worker, so that a log that was put back while
            the module was off is found before the first token.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: list[Annotated[str, Field(pattern=f"^({TOKENS.pattern})$")]] = Field(min_length=1)
    quorum: str | None = None
    max_age_seconds: float = Field(default=600, ge=1, le=31 * 86_400)
    max_entries: int = Field(default=100_000, ge=2_000, le=1_000_000_000)
    after_start: bool = True


class WitnessSettings(BaseModel):
    """Who cosigns the log, and what waits for it.

    Args:
        policy: a C2SP witness policy; this user may read it, the appliance's user must not write it.
        require: rules; a token that falls under several needs all of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Path
    require: list[WitnessRuleSettings] = []

    @property
    def demands(self) -> WitnessDemands:
        """The same, as the worker takes it."""
        rules = [WitnessRule(**rule.model_dump() | {"tokens": tuple(rule.tokens)}) for rule in self.require]
        return WitnessDemands(policy=self.policy, rules=tuple(rules))


class LogSettings(BaseModel):
    """The module's log.

    Args:
        folder: where it lies; this user writes it, the appliance may read it.
        checkpoint_seconds: while entries are added, a checkpoint is signed so often.
        witnesses: see WitnessSettings; without them nothing waits for witnesses.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path
    checkpoint_seconds: float = Field(default=10.0, gt=0, le=3600)
    witnesses: WitnessSettings | None = None


class CeremonySettings(BaseModel):
    """Ceremonies whose token stores this process takes over while it runs, and whose records go into its log.

    Args:
        token_link: the link that a ceremony moves: ``tokens`` in the key loader's ``token_folder``.
        records: the key loader's ``records``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_link: Path
    records: Path


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
        ceremonies: see CeremonySettings; without it a new token store is seen at the next start.
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
    ceremonies: CeremonySettings | None = None
    operation_deadline_seconds: float = Field(default=2.0, gt=0, le=60)
    start_deadline_seconds: float = Field(default=20.0, gt=0, le=300)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file, and see that the witness policy can be read; raises SettingsInvalid."""
        try:
            settings = cls.model_validate(tomllib.loads(path.read_text("utf-8")))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise SettingsInvalid(f"{path}: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise SettingsInvalid(f"{path}: {field}: {first['msg']}") from error
        if settings.log.witnesses is not None:
            try:
                settings.log.witnesses.demands.read_policy()
            except PolicyInvalid as error:
                raise SettingsInvalid(f"{path}: log.witnesses: {error}") from error
        return settings
