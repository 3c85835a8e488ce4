"""Requests and answers of the functionality module, octet for octet as in ``module/include/keywatt_fm.h``.

The appliance packs, the worker passes on, the module unpacks; integers are big-endian, lengths fixed.
"""

from __future__ import annotations

import enum
import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from hsm.errors import FrameInvalid
from hsm.reasons import Reason

INTERFACE_VERSION = 1
BATCH_MAX = 1000
_HEADER = struct.Struct(">BBH4x")
HEADER_LENGTH = _HEADER.size


class Operation(enum.IntEnum):
    """The vendor mechanisms."""

    ISSUE = 0x01
    VERIFY = 0x02
    KEY_CHANGE = 0x03
    CHECK_VALUE = 0x04
    STATUS = 0x05
    SELF_TEST = 0x06
    AUDIT_KEY = 0x07
    SIGN_CHECKPOINT = 0x08
    INIT_TOKEN = 0x10
    LOAD_KEY = 0x11
    INSTALL_TABLES = 0x12
    MAKE_AUDIT_KEY = 0x13
    OFFICERS = 0x14
    SET_OFFICERS = 0x15
    BEGIN_CEREMONY = 0x16
    APPROVE = 0x17
    COMPONENT = 0x18
    DESTROY_KEY = 0x19
    SIGN_RECORD = 0x1A
    RETIRE_KEY = 0x1B
    TRANSPORT_KEY = 0x1C
    END_TRANSPORT = 0x1D
    LOAD_WRAPPED = 0x1E
    CENTRES = 0x1F
    SET_CENTRES = 0x20
    SET_BLOCK_KEY = 0x21
    LOAD_BLOCK = 0x22
    SET_LEASE = 0x23
    SET_POLICY = 0x24
    MANDATE = 0x25
    PRESENT_LEASE = 0x26


class Mark(enum.IntFlag):
    """What an answer bears witness of."""

    CERTIFICATION = 0x01
    TEST_KEY = 0x02
    SAMPLE_TABLES = 0x04


# Looking a member up by its value costs more than the rest of reading an answer.
_reason = functools.cache(Reason)
_mark = functools.cache(Mark)

_ISSUE = struct.Struct(">BBBBBB2s18s6xI4xq16s")
_ISSUED = struct.Struct(">HBBBB2xI20s16s")
_VERIFY = struct.Struct(">BB2x2s18s20s4x")
_VERIFIED = struct.Struct(">HBBBBBxI4x16s")
_CHANGE = struct.Struct(">BBBB2s2s18s6sqB23x")
_CHANGED = struct.Struct(">HBBBBBB80s8x")
_CHECKED = struct.Struct(">HB3s10x")
_AUDIT_KEY = struct.Struct(">HB5x32s8x")
_CHECKPOINT = struct.Struct(">Q32s")
_SIGNED = struct.Struct(">H6x64s")
_ISSUE_RESERVED_TID = 0x01
_ISSUE_VALIDATE_ONLY = 0x02
_CHANGE_VALIDATE_ONLY = 0x01
_FLAG_KEY_CHANGE = 0x01
_FLAG_KEY_EXPIRED = 0x02


def _signed(value: int) -> bytes:
    return value.to_bytes(16, "big", signed=True)


@dataclass(slots=True, kw_only=True)
class IssueItem:
    """One token to issue.

    Args:
        token_class, subclass: class 1 takes neither meter nor key.
        ea, tct, random_number, tariff_index, pan, token_identifier: zero or empty in class 1.
        value: credit and limits in least significant bits, signed; class 1: control << 16 | manufacturer code; else
            the raw sixteen bits.
        reserved: take the reserved identifier 00:01.
        clock_minutes: minutes since 1970 in the system's zone, in certification mode only; else 0.
        validate_only: apply every rule, but make no token.
    """

    token_class: int
    subclass: int
    value: int
    ea: int = 0
    tct: int = 0
    random_number: int = 0
    tariff_index: str = ""
    pan: str = ""
    token_identifier: int = 0
    reserved: bool = False
    clock_minutes: int = 0
    validate_only: bool = False

    def pack(self) -> bytes:
        """Return the 64 octets of the item."""
        return _ISSUE.pack(
            self.token_class,
            self.subclass,
            self.ea,
            _ISSUE_RESERVED_TID * self.reserved | _ISSUE_VALIDATE_ONLY * self.validate_only,
            self.random_number,
            self.tct,
            self.tariff_index.encode("ascii"),
            self.pan.encode("ascii"),
            self.token_identifier,
            self.clock_minutes,
            _signed(self.value),
        )


@dataclass(slots=True, kw_only=True, repr=False)
class Issued:
    """The module's answer to an IssueItem; digits are empty if refused or only validated. Its repr shows no digits."""

    reason: Reason
    token_class: int
    subclass: int
    marks: Mark
    random_number: int
    token_identifier: int
    digits: str
    granted: int
    log_index: int | None = None

    @classmethod
    def unpack(cls, octets: bytes, log_index: int | None = None) -> Self:
        """Read 48 octets."""
        reason, token_class, subclass, marks, rnd, tid, digits, granted = _ISSUED.unpack(octets)
        return cls(
            reason=_reason(reason),
            token_class=token_class,
            subclass=subclass,
            marks=_mark(marks),
            random_number=rnd,
            token_identifier=tid,
            digits=digits.rstrip(b"\0").decode("ascii"),
            granted=int.from_bytes(granted, "big", signed=True),
            log_index=log_index,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VerifyItem:
    """One token number to verify; in class 1 everything but the digits is zero or empty."""

    digits: str
    ea: int = 0
    tct: int = 0
    tariff_index: str = ""
    pan: str = ""

    def pack(self) -> bytes:
        """Return the 48 octets of the item."""
        tariff_index, pan = self.tariff_index.encode("ascii"), self.pan.encode("ascii")
        return _VERIFY.pack(self.ea, self.tct, tariff_index, pan, self.digits.encode("ascii"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a genuine token says. A key-change token says no more than that it is one."""

    reason: Reason
    token_class: int
    subclass: int
    marks: Mark
    random_number: int
    token_identifier: int
    value: int
    is_key_change: bool
    key_expired: bool
    log_index: int | None = None

    @classmethod
    def unpack(cls, octets: bytes, log_index: int | None = None) -> Self:
        """Read 32 octets."""
        reason, token_class, subclass, marks, rnd, flags, tid, value = _VERIFIED.unpack(octets)
        return cls(
            reason=Reason(reason),
            token_class=token_class,
            subclass=subclass,
            marks=Mark(marks),
            random_number=rnd,
            token_identifier=tid,
            value=int.from_bytes(value, "big", signed=True),
            is_key_change=bool(flags & _FLAG_KEY_CHANGE),
            key_expired=bool(flags & _FLAG_KEY_EXPIRED),
            log_index=log_index,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChangeItem:
    """One key-change set to make; the old key is that of the request, the new one is named here."""

    ea: int
    set_size: int
    tct: int
    pan: str
    old_tariff_index: str
    new_tariff_index: str
    new_supply_group_code: str
    new_key_revision_number: int
    clock_minutes: int = 0
    validate_only: bool = False

    def pack(self) -> bytes:
        """Return the 64 octets of the item."""
        return _CHANGE.pack(
            self.ea,
            self.set_size,
            self.tct,
            self.new_key_revision_number,
            self.old_tariff_index.encode("ascii"),
            self.new_tariff_index.encode("ascii"),
            self.pan.encode("ascii"),
            self.new_supply_group_code.encode("ascii"),
            self.clock_minutes,
            _CHANGE_VALIDATE_ONLY * self.validate_only,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class KeyChanged:
    """The module's answer to a KeyChangeItem; its repr shows no digits."""

    reason: Reason
    marks: Mark
    key_expiry_number: int
    key_revision_number: int
    key_type: int
    rollover: bool
    tokens: tuple[str, ...]
    log_index: int | None = None

    @classmethod
    def unpack(cls, octets: bytes, log_index: int | None = None) -> Self:
        """Read 96 octets."""
        reason, count, marks, ken, krn, kt, rollover, digits = _CHANGED.unpack(octets)
        return cls(
            reason=Reason(reason),
            marks=Mark(marks),
            key_expiry_number=ken,
            key_revision_number=krn,
            key_type=kt,
            rollover=bool(rollover),
            tokens=tuple(digits[20 * i : 20 * i + 20].decode("ascii") for i in range(count)),
            log_index=log_index,
        )


_CHECK_VALUE_LABELS = (
    "none",
    "DES(VK, 8 zero octets)[0..2]",
    "SHA-256(01 || VK)[0..2]",
    "AES-CMAC(key, 16 zero octets)[0..2]",
)


class CheckValueAlgorithm(enum.IntEnum):
    """How a check value is computed; a check value without its algorithm says nothing."""

    NONE = 0
    DES_ENCRYPT_ZEROS = 1
    SHA256_01_KEY = 2
    CMAC_ZEROS = 3

    @property
    def label(self) -> str:
        """How it is printed."""
        return _CHECK_VALUE_LABELS[self.value]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckValue:
    """A key check value, three octets, with its algorithm."""

    reason: Reason
    algorithm: CheckValueAlgorithm
    octets: bytes

    @classmethod
    def unpack(cls, octets: bytes) -> Self:
        """Read 16 octets."""
        reason, algorithm, value = _CHECKED.unpack(octets)
        return cls(reason=Reason(reason), algorithm=CheckValueAlgorithm(algorithm), octets=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditKey:
    """The public half of the key that signs checkpoints: Ed25519, 32 octets."""

    reason: Reason
    public: bytes

    @classmethod
    def unpack(cls, octets: bytes) -> Self:
        """Read 48 octets."""
        reason, _, public = _AUDIT_KEY.unpack(octets)
        return cls(reason=Reason(reason), public=public)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignCheckpointItem:
    """What a checkpoint says of the log: entries, and the root over them (32 octets)."""

    size: int
    root: bytes

    def pack(self) -> bytes:
        """Return the 40 octets of the item."""
        return _CHECKPOINT.pack(self.size, self.root)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """The signature of the audit key (64 octets) over the text that the module composed."""

    reason: Reason
    signature: bytes

    @classmethod
    def unpack(cls, octets: bytes) -> Self:
        """Read 72 octets."""
        reason, signature = _SIGNED.unpack(octets)
        return cls(reason=Reason(reason), signature=signature)


class Item(Protocol):
    """Something that a request holds one or more of."""

    def pack(self) -> bytes:
        """Return its octets; they have the length that the operation's items have."""
        ...


ITEM_LENGTH = {
    Operation.ISSUE: _ISSUE.size,
    Operation.VERIFY: _VERIFY.size,
    Operation.KEY_CHANGE: _CHANGE.size,
}
ANSWER_LENGTH = {
    Operation.ISSUE: _ISSUED.size,
    Operation.VERIFY: _VERIFIED.size,
    Operation.KEY_CHANGE: _CHANGED.size,
}


def pack_request(operation: Operation, items: Sequence[Item] = ()) -> bytes:
    """Return header and items; raises FrameInvalid for more than BATCH_MAX items, or an item beyond its fields."""
    if len(items) > BATCH_MAX:
        raise FrameInvalid(f"a batch holds at most {BATCH_MAX} items")
    try:
        return _HEADER.pack(INTERFACE_VERSION, operation, len(items)) + b"".join(item.pack() for item in items)
    except (struct.error, OverflowError, UnicodeEncodeError) as error:
        raise FrameInvalid("a field does not fit into its octets") from error


def item_count(operation: Operation, request: bytes) -> int:
    """Return how many items a batch has; raises FrameInvalid unless it has the length that so many take."""
    length = ITEM_LENGTH[operation]
    count = int.from_bytes(request[2:HEADER_LENGTH][:2], "big")
    if not 1 <= count <= BATCH_MAX or len(request) != HEADER_LENGTH + count * length:
        raise FrameInvalid("a batch has not the length of its items")
    return count


def split_answer(operation: Operation, answer: bytes, count: int) -> list[bytes]:
    """Return the item answers of a batch; raises FrameInvalid unless the answer has the length it must have."""
    length = ANSWER_LENGTH[operation]
    if len(answer) != HEADER_LENGTH + count * length or answer[1] != operation:
        raise FrameInvalid("the module's answer has the wrong length")
    return [answer[HEADER_LENGTH + i * length : HEADER_LENGTH + (i + 1) * length] for i in range(count)]
