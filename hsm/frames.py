"""Messages on the unix socket between appliance and module process: typed, length-prefixed, versioned.

    length (4, of all that follows) version (1) kind (1) generation (2) correlation (8) body

The generation of an answer changes when the worker takes over another token store; that of a request is zero.

Request bodies: a key reference (SGC, 6 ASCII digits; KRN, 1; zero, 1; all zero for none), for what is logged the
askers (below), then a request of the functionality module. Answer bodies: what the module answered, then for what is
logged eight octets for each item: the index of its entry in the log, all ones for none. Cosignatures are a
checkpoint, a C2SP signed note; their answer is empty. A lease is a present-lease item; its answer is two octets, the
reason. Several frames may be under
way; answers keep the order of requests.

Askers say for whom each item is, as the appliance has it: length (4), number of clients (2), for each its length (2)
and name (UTF-8), then for each item the place of its client (2) and its request id (16). Length zero: nobody is named.
"""

from __future__ import annotations

import enum
import struct
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from hsm import errors
from hsm.errors import FrameInvalid, HsmError
from hsm.keys import KeyReference
from hsm.requests import Operation
from sts.errors import StsError
from sts.identifiers import KeyRevisionNumber, SupplyGroupCode

VERSION = 3
LENGTH = struct.Struct(">I")
_HEADER = struct.Struct(">BBHQ")
_REFERENCE = struct.Struct(">6sBx")
_COUNT = struct.Struct(">H")
_ASKED = struct.Struct(">H16s")
_CLIENT_MAX = 1024
_NO_INDEX = (1 << 64) - 1
BODY_MAX = 1024 * 1024  # four thousand key records fit
FRAME_MAX = _HEADER.size + BODY_MAX


class Kind(enum.IntEnum):
    """What a frame asks for or answers."""

    ISSUE = 1
    VERIFY = 2
    KEY_CHANGE = 3
    CHECK_VALUE = 4
    STATUS = 5
    KEYS = 6
    CHECKPOINT = 7
    AUDIT_KEY = 8
    COSIGNATURES = 9
    OFFICERS = 10
    LEASE = 11
    MANDATE = 12
    ERROR = 255


OPERATION_OF = {
    Kind.ISSUE: Operation.ISSUE,
    Kind.VERIFY: Operation.VERIFY,
    Kind.KEY_CHANGE: Operation.KEY_CHANGE,
    Kind.CHECK_VALUE: Operation.CHECK_VALUE,
    Kind.STATUS: Operation.STATUS,
    Kind.AUDIT_KEY: Operation.AUDIT_KEY,
    Kind.OFFICERS: Operation.OFFICERS,
    Kind.MANDATE: Operation.MANDATE,
}

_ERRORS: dict[str, type[HsmError]] = {
    error.reason: error
    for error in (
        errors.VendingKeyUnknown,
        errors.FrameInvalid,
        errors.ModuleFault,
        errors.ModuleBusy,
        errors.LogUnavailable,
        errors.CosignaturesRefused,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One message. Its repr shows no body, which may carry tokens."""

    kind: Kind
    correlation: int
    body: bytes
    generation: int = 0

    def __repr__(self) -> str:
        return f"Frame(kind={self.kind.name}, correlation={self.correlation}, body=<{len(self.body)} octets>)"

    def pack(self) -> bytes:
        """Return the octets, length first."""
        rest = _HEADER.pack(VERSION, self.kind, self.generation, self.correlation) + self.body
        return LENGTH.pack(len(rest)) + rest

    @classmethod
    def unpack(cls, rest: bytes) -> Self:
        """Read what follows the length; raises FrameInvalid for anything that is not exactly a frame."""
        if not _HEADER.size <= len(rest) <= FRAME_MAX:
            raise FrameInvalid("a frame has the wrong length")
        version, kind, generation, correlation = _HEADER.unpack_from(rest)
        if version != VERSION or kind not in Kind.__members__.values():
            raise FrameInvalid("a frame has an unknown version or kind")
        return cls(kind=Kind(kind), correlation=correlation, body=rest[_HEADER.size :], generation=generation)


def check_length(prefix: bytes) -> int:
    """Return the length that a prefix announces; raises FrameInvalid before anything so large is read."""
    length: int = LENGTH.unpack(prefix)[0]
    if not _HEADER.size <= length <= FRAME_MAX:
        raise FrameInvalid("a frame announces a length that is out of range")
    return length


LOGGED = frozenset({Kind.ISSUE, Kind.VERIFY, Kind.KEY_CHANGE})
"""What leaves an entry in the log for each of its items."""


@dataclass(slots=True, kw_only=True)
class Asker:
    """For whom an item is: the client's name, and the 16 octets of its request id."""

    client: str
    request_id: bytes


NOBODY = Asker(client="", request_id=bytes(16))


def pack_askers(askers: Sequence[Asker]) -> bytes:
    """Join askers, one for each item, with names that :func:`is_name`."""
    places: dict[str, int] = {}
    for asker in askers:
        places.setdefault(asker.client, len(places))
    names = [client.encode("utf-8", "replace") for client in places]
    parts = [_COUNT.pack(len(names)), *(_COUNT.pack(len(name)) + name for name in names)]
    parts += [_ASKED.pack(places[asker.client], asker.request_id) for asker in askers]
    octets = b"".join(parts)
    return LENGTH.pack(len(octets)) + octets


def unpack_askers(octets: bytes) -> tuple[list[Asker], bytes]:
    """Part askers and request; no askers if nobody is named. Raises FrameInvalid."""
    if len(octets) < LENGTH.size:
        raise FrameInvalid("a body lacks its askers")
    (length,) = LENGTH.unpack_from(octets)
    end = LENGTH.size + length
    if end > len(octets):
        raise FrameInvalid("the askers are cut short")
    if length == 0:
        return [], octets[end:]
    try:
        return _askers(octets[LENGTH.size : end]), octets[end:]
    except (struct.error, IndexError):
        raise FrameInvalid("the askers are malformed") from None


def _askers(octets: bytes) -> list[Asker]:
    (count,) = _COUNT.unpack_from(octets)
    position, clients = _COUNT.size, []
    for _ in range(count):
        (length,) = _COUNT.unpack_from(octets, position)
        position += _COUNT.size + length
        if length > _CLIENT_MAX or position > len(octets):
            raise FrameInvalid("the askers are malformed")
        clients.append(_client(octets[position - length : position]))
    return [
        Asker(client=clients[place], request_id=request_id)
        for place, request_id in _ASKED.iter_unpack(octets[position:])
    ]


def _client(octets: bytes) -> str:
    try:
        name = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise FrameInvalid("a client's name is no UTF-8") from None
    if not is_name(name):
        raise FrameInvalid("a client's name has control characters")
    return name


def is_name(name: str) -> bool:
    """Tell whether a client's name can be written down: at most 1,024 octets of UTF-8, no control characters."""
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return False
    return length <= _CLIENT_MAX and (name.isprintable() or not any(unicodedata.category(c) == "Cc" for c in name))


def pack_indices(indices: Sequence[int | None]) -> bytes:
    """Join places in the log."""
    return struct.pack(f">{len(indices)}Q", *(_NO_INDEX if index is None else index for index in indices))


def part_indices(octets: bytes, count: int) -> tuple[bytes, list[int | None]]:
    """Part an answer and the places in the log of its ``count`` items; raises FrameInvalid."""
    start = len(octets) - 8 * count
    if start < 0:
        raise FrameInvalid("an answer lacks its places in the log")
    indices = struct.unpack_from(f">{count}Q", octets, start)
    return octets[:start], [None if index == _NO_INDEX else index for index in indices]


def pack_body(reference: KeyReference | None, request: bytes) -> bytes:
    """Join key reference and request."""
    if reference is None:
        return bytes(_REFERENCE.size) + request
    return _REFERENCE.pack(reference.supply_group_code.digits.encode(), int(reference.key_revision_number)) + request


def unpack_body(body: bytes) -> tuple[KeyReference | None, bytes]:
    """Part key reference and request; raises FrameInvalid."""
    if len(body) < _REFERENCE.size:
        raise FrameInvalid("a body lacks its key reference")
    head, request = body[: _REFERENCE.size], body[_REFERENCE.size :]
    if head == bytes(_REFERENCE.size):
        return None, request
    sgc, krn = _REFERENCE.unpack(head)
    try:
        reference = KeyReference(
            supply_group_code=SupplyGroupCode(digits=sgc.decode("ascii")),
            key_revision_number=KeyRevisionNumber(number=krn),
        )
    except (StsError, UnicodeDecodeError) as error:
        raise FrameInvalid("a key reference is malformed") from error
    if head[-1] != 0:
        raise FrameInvalid("a key reference is malformed")
    return reference, request


def pack_error(correlation: int, error: HsmError) -> Frame:
    """Make the answer that tells an error: its reason code, a line break, its message."""
    return Frame(kind=Kind.ERROR, correlation=correlation, body=f"{error.reason}\n{error}".encode()[:BODY_MAX])


def unpack_error(body: bytes) -> HsmError:
    """Return the error that the other side had; one that we do not know becomes a ModuleFault."""
    reason, _, message = body.decode("utf-8", "replace").partition("\n")
    return _ERRORS.get(reason, errors.ModuleFault)(message)


def pack_labels(labels: list[str]) -> bytes:
    """Join key records, each with a length of two octets before it."""
    return b"".join(struct.pack(">H", len(label)) + label.encode("ascii") for label in labels)


def unpack_labels(body: bytes) -> list[str]:
    """Part key records; raises FrameInvalid."""
    labels, position = [], 0
    while position < len(body):
        if len(body) - position < 2:
            raise FrameInvalid("a key list is cut short")
        (length,) = struct.unpack_from(">H", body, position)
        record = body[position + 2 : position + 2 + length]
        if len(record) != length:
            raise FrameInvalid("a key list is cut short")
        labels.append(record.decode("ascii", "replace"))
        position += 2 + length
    return labels
