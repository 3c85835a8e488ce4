"""Requests of ceremony mode, as in ``module/include/keywatt_fm.h``: what is loaded, made, retired and destroyed."""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from hsm.errors import FrameInvalid

POINT_LENGTH = 97
CENTRES_MAX = 8
BLOCK_KEY_LENGTH = 32
KEY_BLOCK_MAX = 512
KEY_LOAD_NAMESPACE = "key-load@keywatt.dev"

_LOAD = struct.Struct(">6sBBBBBBHHqqBBB3sBx20s4sqQQ8x")
_TABLES = struct.Struct(">32s96s")
_INIT = struct.Struct(">32s64s64s")
_KEY_NAME = struct.Struct(">6sBx")
_TRANSPORT = struct.Struct(">H6x97s7x64s")
_WRAPPED = struct.Struct(">96s97sB40s32s64s6x")
_CENTRE = struct.Struct(">32s32s")
_CENTRES_HEAD = struct.Struct(">B7x")
_BLOCK_KEY = struct.Struct(">BBB3s4s6x")
_BLOCK = struct.Struct(">512s")


class KeySource(enum.IntEnum):
    """Where the octets of a key to load are."""

    ITEM = 0
    COMPONENTS = 1
    GENERATE = 2
    WRAPPED = 3


def _values_digest(check_values: bytes) -> bytes:
    """Return what a request holds of the check values of components: four octets, or nothing if they are not known."""
    return hashlib.sha256(check_values).digest()[:4] if check_values else b""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LoadKeyItem:
    """A vending key to load in ceremony mode; its repr shows nothing of the key.

    Args:
        class0, class2: allowed subclasses, bit n for subclass n.
        activation, issued_until, refresh_until: minutes since 1970 in the system's zone, 0 for none.
        unit_limit, currency_limit: the most that a token may grant, in least significant bits; 0 for none.
        key: 8 octets for DKGA02, 20 for DKGA04; empty unless the source is ITEM.
        source: where the key is.
        expected: the check value that the key must have, three octets, or empty.
        components: how many, if they are the source; else 0.
        component_values: check values of the components, three octets each, in order; empty if they are not known.
    """

    supply_group_code: str
    key_revision_number: int
    key_type: int
    dkga: int
    base_date: int
    key_expiry_number: int
    key_change: bool
    class0: int
    class2: int
    activation: int
    issued_until: int
    refresh_until: int = 0
    unit_limit: int = 0
    currency_limit: int = 0
    key: bytes = b""
    source: KeySource = KeySource.ITEM
    expected: bytes = b""
    components: int = 0
    component_values: bytes = b""

    def pack(self) -> bytes:
        """Return the 96 octets of the item."""
        return _LOAD.pack(
            self.supply_group_code.encode("ascii"),
            self.key_revision_number,
            self.key_type,
            self.dkga,
            self.base_date,
            self.key_expiry_number,
            self.key_change,
            self.class0,
            self.class2,
            self.activation,
            self.issued_until,
            len(self.key) if self.source is KeySource.ITEM else (20 if self.dkga == 4 else 8),
            self.source,
            bool(self.expected),
            self.expected,
            self.components,
            self.key,
            _values_digest(self.component_values),
            self.refresh_until,
            self.unit_limit,
            self.currency_limit,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class InstallTablesItem:
    """STA tables to install in ceremony mode: a name, and T1 || T2 || P (96 octets)."""

    name: str
    tables: bytes

    def pack(self) -> bytes:
        """Return the 128 octets of the item."""
        return _TABLES.pack(self.name.encode("ascii"), self.tables)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class InitTokenItem:
    """A token to initialise in ceremony mode."""

    label: str
    so_pin: str
    user_pin: str

    def pack(self) -> bytes:
        """Return the 160 octets of the item."""
        label = self.label.encode("utf-8").ljust(32)
        return _INIT.pack(label, self.so_pin.encode("ascii"), self.user_pin.encode("ascii"))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyNameItem:
    """A vending key to destroy or to retire."""

    supply_group_code: str
    key_revision_number: int

    def pack(self) -> bytes:
        """Return the 8 octets of the item."""
        return _KEY_NAME.pack(self.supply_group_code.encode("ascii"), self.key_revision_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportKey:
    """The public half of the key pair for one delivery: an uncompressed point on P-384, signed by the audit key."""

    reason: int
    point: bytes
    signature: bytes

    @classmethod
    def unpack(cls, octets: bytes) -> Self:
        """Read 176 octets."""
        reason, point, signature = _TRANSPORT.unpack(octets)
        return cls(reason=reason, point=point, signature=signature)


def transport_text(module_id: str, serial: str, profile: int, point: bytes) -> str:
    """Return the lines that the audit key signs when a transport key is made."""
    return f"keywatt transport 1\nmodule {module_id}\nserial {serial}\nprofile {profile}\npoint {point.hex()}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadWrappedItem:
    """A vending key that a centre has wrapped for this token's transport key.

    Args:
        load: its attributes, with source WRAPPED and the check value that it must have.
        point: the centre's ephemeral point, 97 octets.
        wrapped: the key under AES key wrap with padding: 32 octets for DKGA04, 16 for DKGA02.
        centre: Ed25519 key of the centre, 32 octets.
        signature: of the centre over :func:`key_load_text`, 64 octets.
    """

    load: LoadKeyItem
    point: bytes
    wrapped: bytes
    centre: bytes
    signature: bytes

    def pack(self) -> bytes:
        """Return the 336 octets of the item."""
        return _WRAPPED.pack(self.load.pack(), self.point, len(self.wrapped), self.wrapped, self.centre, self.signature)


def key_load_text(
    module_id: str, serial: str, transport: bytes, load: LoadKeyItem, point: bytes, wrapped: bytes
) -> str:
    """Return the lines that a centre signs for one key.

    Args:
        module_id: of the module that it is for.
        serial: of its token.
        transport: point of the token's transport key.
        load: attributes of the key.
        point: the centre's ephemeral point.
        wrapped: the key, wrapped.
    """

    def digest(octets: bytes) -> str:
        return hashlib.sha256(octets).hexdigest()

    return (
        f"keywatt key-load 1\nmodule {module_id}\nserial {serial}\ntransport {digest(transport)}\n"
        f"load {digest(load.pack())}\npoint {digest(point)}\nwrapped {wrapped.hex()}\n"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """A key management centre: name, and Ed25519 key (32 octets)."""

    name: str
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CentresItem:
    """The centres whose key files a token takes."""

    centres: Sequence[Centre]

    def pack(self) -> bytes:
        """Return the 520 octets; raises FrameInvalid for more centres than there is room for."""
        if len(self.centres) > CENTRES_MAX:
            raise FrameInvalid(f"a token knows at most {CENTRES_MAX} centres")
        entries = b"".join(_CENTRE.pack(centre.name.encode("ascii"), centre.key) for centre in self.centres)
        return _CENTRES_HEAD.pack(len(self.centres)) + entries.ljust(CENTRES_MAX * _CENTRE.size, b"\0")

    @classmethod
    def unpack(cls, block: bytes) -> Self:
        """Read a block."""
        (count,) = _CENTRES_HEAD.unpack_from(block)
        entries = [_CENTRE.unpack_from(block, _CENTRES_HEAD.size + place * _CENTRE.size) for place in range(count)]
        return cls(
            centres=[Centre(name=name.rstrip(b"\0").decode("ascii", "replace"), key=key) for name, key in entries]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockKeyItem:
    """A key block protection key to load from components, 32 octets long; fields as in LoadKeyItem."""

    components: int
    expected: bytes = b""
    component_values: bytes = b""

    def pack(self) -> bytes:
        """Return the 16 octets of the item."""
        return _BLOCK_KEY.pack(
            self.components,
            BLOCK_KEY_LENGTH,
            bool(self.expected),
            self.expected,
            _values_digest(self.component_values),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBlockItem:
    """A vending key in a key block of X9.143, version D; the block is ASCII and holds no clear key."""

    block: str

    def pack(self) -> bytes:
        """Return the 512 octets; raises FrameInvalid for a longer block."""
        octets = self.block.encode("ascii")
        if len(octets) > KEY_BLOCK_MAX:
            raise FrameInvalid(f"a key block has at most {KEY_BLOCK_MAX} characters")
        return _BLOCK.pack(octets)
