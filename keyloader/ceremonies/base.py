"""What every type of ceremony has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from hsm.ceremony import Ceremony
from hsm.officers import CeremonyKind, action_digest
from hsm.requests import Item, Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing that the module is asked to do, as officers approve it.

    Args:
        operation: of the functionality module.
        item: what it is asked with; None for a bare request.
        what: in words, for the script and the record.
    """

    operation: Operation
    item: Item | None
    what: str

    @property
    def digest(self) -> bytes:
        """What stands for it in the approval."""
        return action_digest(self.operation, b"" if self.item is None else self.item.pack())


def actions_digest(actions: Sequence[Action]) -> bytes:
    """Return SHA-256 over the actions of a ceremony, as it stands in what officers sign."""
    return sha256(b"".join(action.digest for action in actions)).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """An officer who has approved the ceremony."""

    name: str
    key: bytes


class Stage(Protocol):
    """What a type of ceremony works with while it goes."""

    ceremony: Ceremony
    approvers: list[Approver]
    is_rehearsal: bool

    def step(self, what: str, **facts: str) -> None:
        """Write a step into the record, with its time, and show it."""

    def choose(self, question: str, names: Sequence[str]) -> str:
        """Have one of several names chosen."""

    def enter_secret(self, prompt: str, length: int, part: SecretSink) -> None:
        """Have hexadecimal digits entered without echo; each part goes to the sink as it is typed, then is gone."""

    def confirm(self, question: str) -> bool:
        """Ask a question that is answered with Yes or No."""


class SecretSink(Protocol):
    """Takes a part of a secret: where it begins, and its octets."""

    def __call__(self, offset: int, octets: bytes) -> None:
        """Take a part."""


class CeremonyType(BaseModel):
    """A type of ceremony, with what a plan says of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    code: ClassVar[CeremonyKind]

    def actions(self, folder: Path) -> list[Action]:
        """Return what the module is asked to do; ``folder`` is that of the plan. Raises KeyLoaderError."""
        raise NotImplementedError

    def script(self) -> list[str]:
        """Return the steps in words, as they are printed for those who watch."""
        raise NotImplementedError

    def prepare_rehearsal(self, ceremony: Ceremony) -> None:
        """Put into the throw-away token what this ceremony expects to find."""

    def rehearsed(self) -> CeremonyType:
        """Return the type as it is rehearsed: without what only the real secrets can fulfil."""
        return self

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:
        """Do it, after enough officers have approved. Raises KeyLoaderError or HsmError; then nothing of it counts."""
        raise NotImplementedError
