"""Officers as plans name them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hsm.errors import SignatureUnreadable
from hsm.officers import OFFICERS_MAX, CeremonyKind, Enrolment, Officer, OfficersItem
from hsm.ssh_signatures import OfficerKey

OFFICER_NAME = re.compile(r"[!-~]([ -~]{0,30}[!-~])?")
"""What an officer may be called."""


def kind_name(kind: CeremonyKind) -> str:
    """Return how plans call a kind: ``load-key``."""
    return kind.name.lower().replace("_", "-")


class OfficerEntry(BaseModel):
    """One officer.

    Args:
        name: 1 to 32 printable ASCII characters.
        key: a line as in ``id_ed25519.pub``.
        valid_from, valid_until: the first day, and the first day no more (UTC).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=f"^{OFFICER_NAME.pattern}$")]
    key: str
    valid_from: date
    valid_until: date

    @field_validator("key")
    @classmethod
    def _check_key(cls, text: str) -> str:
        try:
            return str(OfficerKey.parse(text))
        except SignatureUnreadable as error:
            raise ValueError(str(error)) from None

    @property
    def officer(self) -> Officer:
        """As the module takes it."""
        key = OfficerKey.parse(self.key)
        return Officer(
            name=self.name,
            key=key.public,
            application=key.application,
            valid_from=_minutes(self.valid_from),
            valid_until=_minutes(self.valid_until),
        )


class OfficerList(BaseModel):
    """All officers of a token, and how many of them each kind of ceremony needs.

    Args:
        officer: two at least.
        needed: for every kind that ``exceptions`` does not name.
        exceptions: by kind, such as ``load-key = 3``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    officer: Annotated[list[OfficerEntry], Field(min_length=2, max_length=OFFICERS_MAX)]
    needed: Annotated[int, Field(ge=2, le=OFFICERS_MAX)]
    exceptions: dict[str, Annotated[int, Field(ge=2, le=OFFICERS_MAX)]] = {}

    @model_validator(mode="after")
    def _check(self) -> OfficerList:
        unknown = set(self.exceptions) - {kind_name(kind) for kind in CeremonyKind}
        if unknown:
            raise ValueError(f"there is no kind of ceremony {min(unknown)!r}")
        if max([self.needed, *self.exceptions.values()]) > len(self.officer):
            raise ValueError("more officers are needed than there are")
        if len({entry.name for entry in self.officer}) != len(self.officer):
            raise ValueError("two officers have the same name")
        if len({entry.key for entry in self.officer}) != len(self.officer):
            raise ValueError("two officers have the same key")
        if any(entry.valid_from >= entry.valid_until for entry in self.officer):
            raise ValueError("the term of an officer ends before it begins")
        return self

    @property
    def item(self) -> OfficersItem:
        """As the module takes it."""
        thresholds = {kind: self.exceptions.get(kind_name(kind), self.needed) for kind in CeremonyKind}
        return OfficersItem(officers=[entry.officer for entry in self.officer], thresholds=thresholds)

    @property
    def enrolment(self) -> Enrolment:
        """As a token will show it."""
        return Enrolment.unpack(self.item.pack())

    @property
    def lines(self) -> list[str]:
        """In words, for script and record."""
        return [
            f"{entry.name}, {OfficerKey.parse(entry.key).fingerprint}, {entry.valid_from} to {entry.valid_until}"
            for entry in self.officer
        ]


def _minutes(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) // 60
