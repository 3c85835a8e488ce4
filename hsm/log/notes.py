"""Signed notes (c2sp.org/signed-note) and cosignatures (c2sp.org/tlog-cosignature), with Ed25519."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hsm.log.errors import NoteInvalid

ED25519 = 0x01
COSIGNATURE = 0x04
_DASH = "\N{EM DASH} "
_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]+")
_SIGNATURES_MAX = 64
NOTE_MAX = 64 * 1024
"""The longest note that is read."""
_TIME = struct.Struct(">Q")


def decode_base64(text: str, what: str) -> bytes:
    """Return the octets of standard base64 with padding; raises NoteInvalid for anything else."""
    try:
        octets = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteInvalid(f"{what} is not base64") from None
    if base64.b64encode(octets).decode() != text:
        raise NoteInvalid(f"{what} is not canonical base64")
    return octets


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public key by name: ``name+key id+base64(type || key)``.

    Args:
        name: no blanks, no ``+``; of a log it is the origin.
        kind: ED25519 for notes, COSIGNATURE for witnesses.
        public: 32 octets.
    """

    name: str
    kind: int
    public: bytes

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None or self.kind not in (ED25519, COSIGNATURE) or len(self.public) != 32:
            raise NoteInvalid("a verifier key has a name without blanks and plus, and an Ed25519 key")

    @property
    def key_id(self) -> bytes:
        """Four octets: SHA-256(name || LF || type || key)[:4]."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([self.kind]) + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the form that ``str`` gives; raises NoteInvalid."""
        name, first, rest = text.partition("+")
        key_id, second, encoded = rest.partition("+")
        octets = decode_base64(encoded, "the verifier key") if first and second else b""
        if not octets:
            raise NoteInvalid("a verifier key has the form name+key id+base64")
        key = cls(name=name, kind=octets[0], public=octets[1:])
        if key.key_id.hex() != key_id:
            raise NoteInvalid("the id of the verifier key does not fit the key")
        return key

    def verify(self, text: str, signature: bytes) -> int | None:
        """Check a signature over a note's text; return a cosignature's POSIX time, or None. Raises NoteInvalid."""
        message, time = text.encode(), None
        if self.kind == COSIGNATURE:
            if len(signature) != _TIME.size + 64:
                raise NoteInvalid(f"the cosignature of {self.name} has the wrong length")
            (time,) = _TIME.unpack_from(signature)
            message = f"cosignature/v1\ntime {time}\n".encode() + message
            signature = signature[_TIME.size :]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise NoteInvalid(f"the signature of {self.name} is wrong") from None
        return time


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature line: who, and the key id (4 octets) with what it made."""

    name: str
    key_id: bytes
    octets: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.octets).decode()}\n"

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read a line without its end; raises NoteInvalid."""
        name, blank, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not blank or _NAME.fullmatch(name) is None:
            raise NoteInvalid("a signature line has the form: dash, name, base64")
        octets = decode_base64(encoded, "a signature")
        if len(octets) < 5:
            raise NoteInvalid("a signature is too short")
        return cls(name=name, key_id=octets[:4], octets=octets[4:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text, which ends in a line end, with its signatures."""

    text: str
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, octets: bytes) -> Self:
        """Read a note; raises NoteInvalid for anything that is not exactly one."""
        try:
            whole = octets.decode("utf-8")
        except UnicodeDecodeError:
            raise NoteInvalid("a note is UTF-8") from None
        if any(character < " " and character != "\n" for character in whole):
            raise NoteInvalid("a note has no control characters")
        text, found, lines = whole.rpartition("\n\n")
        if not found or not lines.endswith("\n"):
            raise NoteInvalid("a note is a text, an empty line and signatures")
        signatures = lines[:-1].split("\n")
        if len(signatures) > _SIGNATURES_MAX:
            raise NoteInvalid(f"a note has more than {_SIGNATURES_MAX} signatures")
        return cls(text=text + "\n", signatures=tuple(Signature.parse(line) for line in signatures))

    def pack(self) -> bytes:
        """Return the octets."""
        return (self.text + "\n" + "".join(map(str, self.signatures))).encode()

    def verify(self, key: VerifierKey) -> int | None:
        """Check that ``key`` signed; return a cosignature's time. Unknown signatures are ignored.

        Raises:
            NoteInvalid: it did not, or its signature is wrong.
        """
        mine = [one.octets for one in self.signatures if one.name == key.name and one.key_id == key.key_id]
        if not mine:
            raise NoteInvalid(f"{key.name} has not signed this")
        # One that is wrong rejects the note, however many are right.
        return [key.verify(self.text, octets) for octets in mine][-1]

    def cosigned(self, key: VerifierKey) -> int | None:
        """Return when a witness cosigned, POSIX time; None if it did not. Raises NoteInvalid if that is wrong."""
        if all((signature.name, signature.key_id) != (key.name, key.key_id) for signature in self.signatures):
            return None
        return self.verify(key)

    def merged(self, signatures: Sequence[Signature]) -> Self:
        """Return the note with more signatures; one of the same key is replaced."""
        newer = {(signature.name, signature.key_id): signature for signature in signatures}
        kept = [one for one in self.signatures if (one.name, one.key_id) not in newer]
        return replace(self, signatures=(*kept, *newer.values()))
