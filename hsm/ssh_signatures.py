"""Officers' keys and signatures in OpenSSH's formats (PROTOCOL, PROTOCOL.sshsig, PROTOCOL.u2f).

An officer signs with ``ssh-keygen -Y sign -n approval@keywatt.dev``, with a plain Ed25519 key or with a FIDO2 one
(``sk-ssh-ed25519@openssh.com``), which wants a touch. What is read here is judged by the module, not here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

from hsm.errors import SignatureUnreadable

_PLAIN = b"ssh-ed25519"
_FIDO2 = b"sk-ssh-ed25519@openssh.com"
_MAGIC = b"SSHSIG"
_BEGIN = "-----BEGIN SSH SIGNATURE-----"
_END = "-----END SSH SIGNATURE-----"
_USER_PRESENT = 0x01
_TEXT_MAX = 16 * 1024
_LENGTH = struct.Struct(">I")


def _string(octets: bytes) -> bytes:
    return _LENGTH.pack(len(octets)) + octets


class _Reader:
    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._position = 0

    def take(self, count: int) -> bytes:
        end = self._position + count
        if count < 0 or end > len(self._octets):
            raise SignatureUnreadable("a key or signature is cut short")
        taken, self._position = self._octets[self._position : end], end
        return taken

    def number(self) -> int:
        value: int = _LENGTH.unpack(self.take(_LENGTH.size))[0]
        return value

    def string(self) -> bytes:
        return self.take(self.number())

    def end(self) -> None:
        if self._position != len(self._octets):
            raise SignatureUnreadable("a key or signature has more than it should")


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficerKey:
    """A public key.

    Args:
        public: Ed25519, 32 octets.
        application: of a FIDO2 key, such as ``ssh:``; empty for a plain one.
    """

    public: bytes
    application: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a line as in an ``id_ed25519.pub``, comment or not; raises SignatureUnreadable."""
        words = text.split()
        if len(words) < 2:
            raise SignatureUnreadable("a public key is a type and base64, as in an .pub file")
        key = cls.unpack(_base64(words[1]))
        if words[0].encode() != key.kind:
            raise SignatureUnreadable("the public key is of another type than it says")
        return key

    def __str__(self) -> str:
        return f"{self.kind.decode()} {base64.b64encode(self.pack()).decode()}"

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` shows it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.pack()).digest()).decode().rstrip("=")

    @property
    def application_digest(self) -> bytes:
        """What a token keeps of the application: SHA-256, or zeros for a plain key."""
        return hashlib.sha256(self.application.encode()).digest() if self.application else bytes(32)

    @property
    def kind(self) -> bytes:
        """Name of the type, as OpenSSH has it."""
        return _FIDO2 if self.application else _PLAIN

    def pack(self) -> bytes:
        """Return the blob."""
        blob = _string(self.kind) + _string(self.public)
        return blob + _string(self.application.encode()) if self.application else blob

    @classmethod
    def unpack(cls, blob: bytes) -> Self:
        """Read a blob; raises SignatureUnreadable."""
        reader = _Reader(blob)
        found = reader.string()
        if found not in (_PLAIN, _FIDO2):
            raise SignatureUnreadable(
                "an officer's key is Ed25519, plain or FIDO2 (ssh-keygen -t ed25519 or ed25519-sk)"
            )
        public = reader.string()
        try:
            application = reader.string().decode("ascii") if found == _FIDO2 else ""
        except UnicodeDecodeError:
            raise SignatureUnreadable("the application of a FIDO2 key is no text") from None
        reader.end()
        if len(public) != 32 or (found == _FIDO2 and not application):
            raise SignatureUnreadable("a public key has another length than Ed25519 keys have")
        return cls(public=public, application=application)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficerSignature:
    """A signature: by whom, for what, and what a FIDO2 key adds."""

    key: OfficerKey
    namespace: str
    signature: bytes
    flags: int = 0
    counter: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``ssh-keygen -Y sign`` writes; raises SignatureUnreadable."""
        if len(text) > _TEXT_MAX:
            raise SignatureUnreadable("this is too long for a signature")
        lines = [line.strip() for line in text.strip().splitlines()]
        if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
            raise SignatureUnreadable(f"a signature begins with {_BEGIN}")
        reader = _Reader(_base64("".join(lines[1:-1])))
        if reader.take(len(_MAGIC)) != _MAGIC or reader.number() != 1:
            raise SignatureUnreadable("this is no signature of version 1")
        key = OfficerKey.unpack(reader.string())
        namespace, reserved, hashed = reader.string(), reader.string(), reader.string()
        blob = _Reader(reader.string())
        reader.end()
        if reserved or hashed != b"sha512":
            raise SignatureUnreadable("a signature is over SHA-512, as ssh-keygen makes it")
        if blob.string() != key.kind:
            raise SignatureUnreadable("key and signature are of different types")
        signature = blob.string()
        flags, counter = (blob.take(1)[0], blob.number()) if key.application else (0, 0)
        blob.end()
        if len(signature) != 64:
            raise SignatureUnreadable("a signature has 64 octets")
        return cls(
            key=key, namespace=namespace.decode("ascii", "replace"), signature=signature, flags=flags, counter=counter
        )

    def __str__(self) -> str:
        blob = _string(self.key.kind) + _string(self.signature)
        if self.key.application:
            blob += bytes([self.flags]) + _LENGTH.pack(self.counter)
        octets = _MAGIC + _LENGTH.pack(1) + _string(self.key.pack()) + _string(self.namespace.encode())
        octets += _string(b"") + _string(b"sha512") + _string(blob)
        encoded = base64.b64encode(octets).decode()
        lines = [encoded[at : at + 70] for at in range(0, len(encoded), 70)]
        return "\n".join([_BEGIN, *lines, _END, ""])

    def proves(self, key: OfficerKey, namespace: str, message: bytes) -> bool:
        """Tell whether this very key has signed a message for this purpose; judged as the module judges.

        A FIDO2 key must be for the same application, and somebody must have touched it.
        """
        if self.key != key or self.namespace != namespace:
            return False
        octets = signed_octets(namespace, message)
        if self.key.application:
            if not self.flags & _USER_PRESENT:
                return False
            head = hashlib.sha256(self.key.application.encode()).digest() + bytes([self.flags])
            octets = head + self.counter.to_bytes(4, "big") + hashlib.sha256(octets).digest()
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(self.signature, octets)
        except InvalidSignature:
            return False
        return True


def signed_octets(namespace: str, message: bytes) -> bytes:
    """Return what a plain key signs for a message."""
    digest = hashlib.sha512(message).digest()
    return _MAGIC + _string(namespace.encode()) + _string(b"") + _string(b"sha512") + _string(digest)


def sign(private: Ed25519PrivateKey, namespace: str, message: bytes) -> OfficerSignature:
    """Sign as ``ssh-keygen -Y sign`` does, with a key that is not in a file of OpenSSH's."""
    key = OfficerKey(public=private.public_key().public_bytes_raw())
    return OfficerSignature(key=key, namespace=namespace, signature=private.sign(signed_octets(namespace, message)))


def read_private(octets: bytes, ask: Callable[[], str]) -> Ed25519PrivateKey:
    """Read a private key, PEM (PKCS#8) or OpenSSH's own form.

    Args:
        octets: of the file.
        ask: asks for its passphrase, if it has one.

    Raises:
        SignatureUnreadable: it is no Ed25519 key, or the passphrase is wrong. Nothing of it is told.
    """
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in octets[:100] else load_pem_private_key
    try:
        try:
            key = load(octets, None)
        except TypeError:
            key = load(octets, ask().encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SignatureUnreadable("this is no private key, or the passphrase is wrong") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureUnreadable("an officer's key is Ed25519")
    return key


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureUnreadable("this is not base64") from None
