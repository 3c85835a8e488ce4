"""What every type of ceremony has."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from hsm.ceremony import Ceremony
from hsm.officers import CeremonyKind, EnrolledOfficer, action_digest
from hsm.requests import Item, Operation
from keyloader.site import Site


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


class Basis(enum.Enum):
    """What a ceremony works on."""

    CURRENT = "a copy of the token store in force"
    NOTHING = "an empty folder: there is no token store yet"


class Stage(Protocol):
    """What a type of ceremony works with while it goes."""

    approvers: list[Approver]
    is_rehearsal: bool
    site: Site
    store: Path | None

    @property
    def ceremony(self) -> Ceremony:
        """The module, once the ceremony has begun."""

    def step(self, what: str, **facts: str) -> None:
        """Write a step into the record, with its time, and show it."""

    def choose(self, question: str, names: Sequence[str]) -> str:
        """Have one of several names chosen."""

    def enter_secret(self, prompt: str, length: int, part: SecretSink) -> None:
        """Have hexadecimal digits entered without echo; each part goes to the sink as it is typed, then is gone."""

    def show_secret(self, prompt: str, lines: Sequence[str]) -> None:
        """Show something to one person, until Enter is pressed; the screen is cleared before and after."""

    def confirm(self, question: str) -> bool:
        """Ask a question that is answered with Yes or No."""

    def accept(self, officers: Sequence[EnrolledOfficer]) -> None:
        """Have officers sign that they take the token over; raises ApprovalRefused."""

    def when_recorded(self, work: Callable[[], None]) -> None:
        """Name what is to be done once the record is written, before the ceremony counts."""

    def undo_if_refused(self, undo: Callable[[], None]) -> None:
        """Name what is to be done if the ceremony does not come to its end."""


class SecretSink(Protocol):
    """Takes a part of a secret: where it begins, and its octets."""

    def __call__(self, offset: int, octets: bytes) -> None:
        """Take a part."""


class Throwaway(Protocol):
    """The token of a rehearsal, with officers whose keys nobody keeps."""

    @property
    def folder(self) -> Path:
        """Where the rehearsal may write."""

    @property
    def plan_folder(self) -> Path:
        """Where the plan and its files are."""

    @property
    def officers(self) -> Sequence[Approver]:
        """Those who are enrolled in it."""

    def holding(self, kind: CeremonyKind, *actions: Action) -> AbstractContextManager[Ceremony]:
        """Begin a ceremony on it that all its officers have approved."""

    def key_for(self, name: str) -> str:
        """Return the public key of an officer to rehearse with, as in an ``.pub`` file."""

    def take_away(self) -> tuple[Path, str]:
        """Leave an empty folder for the ceremony; return where the token is now, and its PIN."""

    def say(self, text: str) -> None:
        """Show a line."""


class CeremonyType(BaseModel):
    """A type of ceremony, with what a plan says of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    code: ClassVar[CeremonyKind]
    basis: ClassVar[Basis] = Basis.CURRENT
    keeps_store: ClassVar[bool] = False
    """Whether the token is only looked at: the store in force stays."""
    needs_files: ClassVar[bool] = False
    """Whether its actions can be told with the files beside the plan only."""

    def actions(self, folder: Path) -> list[Action]:
        """Return what the module is asked to do; ``folder`` is that of the plan. Raises KeyLoaderError."""
        raise NotImplementedError

    def script(self) -> list[str]:
        """Return the steps in words, as they are printed for those who watch."""
        raise NotImplementedError

    def require_site(self, site: Site) -> None:
        """See that the machine has what this type needs; raises SiteFault."""

    def may_change(self, folder: Path) -> frozenset[str]:  # noqa: ARG002 - of those that need it
        """Return the names (SGC/KRN) of keys that may be other than before; every other one must be as it was."""
        return frozenset()

    def rehearsed(self, throwaway: Throwaway) -> tuple[CeremonyType, Path]:
        """Put into the throw-away token what this ceremony expects to find.

        Returns:
            The type as it is rehearsed, without what only real secrets fulfil, and the folder of its files.
        """
        return self, throwaway.plan_folder

    def fill(self, tokens: Path, stage: Stage, folder: Path) -> str | None:  # noqa: ARG002 - of those that need it
        """Put a token into an empty folder, before the module is started on it; return its PIN.

        None: the token is to be initialised.
        """
        return None

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:
        """Do it, after enough officers have approved. Raises KeyLoaderError or HsmError; then nothing of it counts."""
        raise NotImplementedError

    def papers(self, fields: Mapping[str, Any], audit_key: bytes) -> dict[str, bytes]:  # noqa: ARG002 - of some
        """Return files that follow from the record of this ceremony, by the ends of their names."""
        return {}
