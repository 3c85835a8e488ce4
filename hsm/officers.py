"""Officers of a token, and what they approve, octet for octet as in ``module/include/keywatt_fm.h``."""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from hsm.errors import FrameInvalid
from hsm.requests import Operation

OFFICERS_MAX = 16
ACTIONS_MAX = 32
NAMESPACE = "approval@keywatt.dev"
"""What ssh-keygen -Y sign is given as -n for approvals."""
ACCEPTANCE_NAMESPACE = "acceptance@keywatt.dev"
"""The same for those who take a module over."""

_HEAD = struct.Struct(">B15x16s")
_OFFICER = struct.Struct(">32s32s32sQQ")
_BEGIN = struct.Struct(f">BB6x32s{ACTIONS_MAX * 32}s")
_BEGUN = struct.Struct(">HBB4x32s")
_APPROVE = struct.Struct(">32sBI3x64s")
_APPROVED = struct.Struct(">HBB12x")
_COMPONENT = struct.Struct(">BBBBB3x32s20s4x")
_KEY_PLACE = slice(40, 60)


class CeremonyKind(enum.IntEnum):
    """What a ceremony is for; each kind has its own number of officers that must approve."""

    INITIALISE = 1
    OFFICERS = 2
    LOAD_KEY = 3
    GENERATE_KEY = 4
    KEY_FILE = 5
    TABLES = 6
    BACKUP = 7
    RESTORE = 8
    DESTROY_KEY = 9
    HAND_OVER = 10
    LEASE = 11
    POLICY = 12
    RETIRE_KEY = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Officer:
    """A security officer.

    Args:
        name: 1 to 32 printable ASCII characters.
        key: Ed25519, 32 octets.
        application: of a FIDO2 key, such as ``ssh:``; empty for a plain key.
        valid_from, valid_until: minutes since 1970 UTC; the second is the first minute in which it is over.
    """

    name: str
    key: bytes
    application: str = ""
    valid_from: int
    valid_until: int

    @property
    def application_digest(self) -> bytes:
        """What the module keeps of the application: SHA-256, or zeros."""
        return hashlib.sha256(self.application.encode()).digest() if self.application else bytes(32)

    def pack(self) -> bytes:
        """Return the 112 octets."""
        return _OFFICER.pack(
            self.name.encode("ascii"), self.key, self.application_digest, self.valid_from, self.valid_until
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolledOfficer:
    """An officer as the token shows one: of the application its digest alone."""

    name: str
    key: bytes
    application_digest: bytes
    valid_from: int
    valid_until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficersItem:
    """All officers of a token, and how many of them each kind of ceremony needs."""

    officers: Sequence[Officer]
    thresholds: Mapping[CeremonyKind, int]

    def pack(self) -> bytes:
        """Return the block; raises FrameInvalid for more officers than there is room for."""
        if len(self.officers) > OFFICERS_MAX:
            raise FrameInvalid(f"a token has at most {OFFICERS_MAX} officers")
        thresholds = bytes(
            self.thresholds.get(CeremonyKind(kind), 0) if kind else 0 for kind in range(len(CeremonyKind) + 1)
        )
        entries = b"".join(officer.pack() for officer in self.officers)
        return _HEAD.pack(len(self.officers), thresholds) + entries.ljust(OFFICERS_MAX * _OFFICER.size, b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """The officers of a token as it shows them."""

    officers: tuple[EnrolledOfficer, ...]
    thresholds: Mapping[CeremonyKind, int]
    digest: bytes = b""
    """SHA-256 of the block as the token has it."""

    @classmethod
    def unpack(cls, block: bytes) -> Self:
        """Read a block."""
        count, thresholds = _HEAD.unpack_from(block)
        entries = [_OFFICER.unpack_from(block, _HEAD.size + place * _OFFICER.size) for place in range(count)]
        return cls(
            officers=tuple(
                EnrolledOfficer(
                    name=name.rstrip(b"\0").decode("ascii", "replace"),
                    key=key,
                    application_digest=application,
                    valid_from=since,
                    valid_until=until,
                )
                for name, key, application, since, until in entries
            ),
            thresholds={kind: thresholds[kind] for kind in CeremonyKind},
            digest=hashlib.sha256(block).digest(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginItem:
    """A ceremony: its kind, the digest of its plan, and all that it may do."""

    kind: CeremonyKind
    plan: bytes
    actions: Sequence[bytes]

    def pack(self) -> bytes:
        """Return the item; raises FrameInvalid for more actions than one ceremony has."""
        if len(self.actions) > ACTIONS_MAX:
            raise FrameInvalid(f"a ceremony does at most {ACTIONS_MAX} things")
        return _BEGIN.pack(self.kind, len(self.actions), self.plan, b"".join(self.actions))


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A ceremony that is under way: how many must approve, how many are enrolled, and the nonce that they sign."""

    reason: int
    needed: int
    enrolled: int
    nonce: bytes

    @classmethod
    def unpack(cls, octets: bytes) -> Self:
        """Read 40 octets."""
        reason, needed, enrolled, nonce = _BEGUN.unpack(octets)
        return cls(reason=reason, needed=needed, enrolled=enrolled, nonce=nonce)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """An officer's signature over :func:`approval_text`; flags and counter are those of a FIDO2 key, else zero."""

    key: bytes
    signature: bytes
    flags: int = 0
    counter: int = 0

    def pack(self) -> bytes:
        """Return the 104 octets of the item."""
        return _APPROVE.pack(self.key, self.flags, self.counter, self.signature)

    @classmethod
    def unpack(cls, octets: bytes) -> Self:
        """Read 104 octets."""
        key, flags, counter, signature = _APPROVE.unpack(octets)
        return cls(key=key, flags=flags, counter=counter, signature=signature)


def unpack_approved(octets: bytes) -> tuple[int, int, int]:
    """Return reason, approvals so far and approvals needed."""
    reason, count, needed = _APPROVED.unpack(octets)
    return reason, count, needed


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ComponentPart:
    """Some octets of a component as they are typed; its repr shows none of them.

    Args:
        number, total: which component of how many, from 1.
        offset: where the part begins; 0 begins the component anew.
        key_length: 20 for DKGA04, 8 for DKGA02.
        officer: key of the officer who enters it.
        octets: the part.
    """

    number: int
    total: int
    offset: int
    key_length: int
    officer: bytes
    octets: bytes

    def pack(self) -> bytes:
        """Return the 64 octets of the item."""
        return _COMPONENT.pack(
            self.number, self.total, self.offset, len(self.octets), self.key_length, self.officer, self.octets
        )


def action_digest(operation: Operation, item: bytes) -> bytes:
    """Return what stands for one thing that a ceremony does; a key in it does not enter."""
    if operation is Operation.LOAD_KEY:
        item = item[: _KEY_PLACE.start] + bytes(20) + item[_KEY_PLACE.stop :]
    return hashlib.sha256(bytes([operation]) + item).digest()


def approval_text(module_id: str, item: BeginItem, nonce: bytes) -> str:
    """Return the lines that officers sign."""
    return _head("approval", module_id, item, nonce)


def acceptance_text(module_id: str, item: BeginItem, nonce: bytes) -> str:
    """Return the lines that those sign who take a module over; the module does not judge them."""
    return _head("acceptance", module_id, item, nonce)


def record_text(
    module_id: str,
    item: BeginItem,
    nonce: bytes,
    done: int,
    officers: Sequence[tuple[bytes, str]],
    needed: int,
    record: bytes,
) -> str:
    """Return the lines that the module's audit key signs at the end of a ceremony.

    Args:
        module_id: of the module.
        item: what the ceremony was begun with.
        nonce: of the ceremony.
        done: how many of the actions were done.
        officers: keys and names of those who approved, in the order of their enrolment.
        needed: how many had to.
        record: SHA-256 of the record.
    """
    lines = [f"done {done} of {len(item.actions)}", f"approvals {len(officers)} of {needed}"]
    lines += [f"officer {key.hex()} {name}" for key, name in officers]
    return _head("record", module_id, item, nonce) + "\n".join([*lines, f"record {record.hex()}", ""])


def _head(what: str, module_id: str, item: BeginItem, nonce: bytes) -> str:
    actions = hashlib.sha256(b"".join(item.actions)).hexdigest()
    return (
        f"keywatt {what} 1\nmodule {module_id}\nkind {int(item.kind)}\nplan {item.plan.hex()}\n"
        f"actions {actions}\nnonce {nonce.hex()}\n"
    )
