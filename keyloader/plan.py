"""Plan files: what a ceremony is to do, reviewed before, approved by its digest; nothing of the host is in one."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from keyloader.ceremonies import CeremonyPlan
from keyloader.errors import PlanInvalid
from keyloader.field_errors import describe
from keyloader.officer_list import OFFICER_NAME

_PLAN_MAX = 256 * 1024
# Nothing that moves a cursor or hides what stands beside it.
_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e]*$"
_LINES = r"^[^\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]*$"


class Participant(BaseModel):
    """Somebody who is there.

    Args:
        name: as it is signed.
        role: officers approve; the operator types; witnesses and auditors watch and sign the printed script.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(min_length=1, max_length=80, pattern=_LINE)]
    role: Literal["officer", "operator", "witness", "auditor"]


class Plan(BaseModel):
    """A plan.

    Args:
        format: ``keywatt-plan/1``.
        title: one line.
        module: id of the module that it is for.
        not_before, not_after: the days within which it may be executed.
        participants: two officers at least, and somebody who watches.
        ceremony: what is done; ``kind`` says which fields it has.
        note: anything that those present should know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    format: Literal["keywatt-plan/1"]
    title: Annotated[str, Field(min_length=1, max_length=120, pattern=_LINE)]
    module: Annotated[str, Field(pattern=r"^[!-~]{1,64}$")]
    not_before: date
    not_after: date
    participants: Annotated[list[Participant], Field(min_length=2, max_length=40)]
    ceremony: CeremonyPlan
    note: Annotated[str, Field(max_length=4000, pattern=_LINES)] = ""

    @model_validator(mode="after")
    def _check(self) -> Plan:
        if self.not_after < self.not_before:
            raise ValueError("not_after lies before not_before")
        names = [participant.name for participant in self.participants]
        if len(set(names)) != len(names):
            raise ValueError("participants: a name stands twice")
        if any(one.role == "officer" and OFFICER_NAME.fullmatch(one.name) is None for one in self.participants):
            raise ValueError("participants: an officer is named in 1 to 32 printable ASCII characters")
        if sum(participant.role == "officer" for participant in self.participants) < 2:
            raise ValueError("participants: a ceremony has two officers at least")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """A plan as it lies on the disk: what is read once is what is confirmed, approved and done."""

    plan: Plan
    text: str
    folder: Path

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file, 32 octets."""
        return hashlib.sha256(self.text.encode()).digest()

    @classmethod
    def read(cls, path: Path) -> PlanFile:
        """Read a plan; raises PlanInvalid with the field that is wrong."""
        try:
            if path.stat().st_size > _PLAN_MAX:
                raise PlanInvalid(f"{path}: too large to be a plan")
            text = path.read_bytes().decode("utf-8")
        except OSError as error:
            raise PlanInvalid(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise PlanInvalid(f"{path}: a plan is UTF-8") from None
        return cls(plan=parse(text, str(path)), text=text, folder=path.parent)


def parse(text: str, name: str) -> Plan:
    """Read the text of a plan; raises PlanInvalid."""
    try:
        return Plan.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, ValidationError):
            raise PlanInvalid(f"{name}: {describe(error)}") from None
        raise PlanInvalid(f"{name}: {error}") from None
