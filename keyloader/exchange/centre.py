"""A small key management centre, FOR TESTS: it holds vending keys in clear, which no real centre does.

It shows what a centre has to do to send keys to a Keywatt module, and serves tests, rehearsals and demonstrations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from Crypto.Cipher import DES
from cryptography.hazmat.primitives.asymmetric.ec import ECDH, SECP384R1, EllipticCurvePublicKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hsm.ceremony_requests import KEY_LOAD_NAMESPACE, KeySource, LoadKeyItem, key_load_text
from hsm.ssh_signatures import OfficerKey, sign
from keyloader.errors import RequestFileInvalid
from keyloader.exchange.key_load_file import FILE_NAMESPACE, KeyLoadFile, WrappedKey
from keyloader.exchange.request_file import KeyRequest
from keyloader.key_attributes import KeyAttributes

_KDF_LABEL = b"keywatt-key-load/1"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClearKey:
    """A vending key with what it is for; its repr shows nothing."""

    attributes: KeyAttributes
    key: bytes

    @property
    def check_value(self) -> str:
        """As :func:`check_value`."""
        return check_value(self.key)


def check_value(key: bytes) -> str:
    """Return the check value of a vending key, six hexadecimal digits, by the algorithm that belongs to its length."""
    if len(key) == 20:
        return hashlib.sha256(b"\x01" + key).hexdigest()[:6].upper()
    return DES.new(key, DES.MODE_ECB).encrypt(bytes(8)).hex()[:6].upper()  # noqa: S304 - what DKGA02 is made of


def throwaway_key(length: int, number: int) -> bytes:
    """Return a key that is nobody's, to rehearse with; of a DES key every octet has odd parity."""
    octets = hashlib.sha256(b"rehearsal" + bytes([number])).digest()[:length]
    return octets if length == 20 else bytes(octet ^ (octet.bit_count() % 2 == 0) for octet in octets)


def wrapping_key(shared: bytes, load: LoadKeyItem, point: bytes, transport: bytes) -> bytes:
    """Return the key under which a vending key travels: one-step KDF of SP 800-56C with SHA-256."""
    digest = hashlib.sha256(load.pack()).digest()
    return hashlib.sha256(b"\0\0\0\1" + shared + _KDF_LABEL + digest + point + transport).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """A centre: its name and the key it signs with."""

    name: str
    private: Ed25519PrivateKey

    @property
    def key(self) -> OfficerKey:
        """The public half."""
        return OfficerKey(public=self.private.public_key().public_bytes_raw())

    def send(self, request: KeyRequest, keys: Sequence[ClearKey]) -> KeyLoadFile:
        """Wrap keys for the module that asks; raises RequestFileInvalid for a point that is not on the curve.

        A real centre first verifies the request with the audit key it was given (:meth:`KeyRequest.verify`).
        """
        draft = KeyLoadFile.model_construct(
            module=request.module,
            serial=request.serial,
            transport=request.transport,
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            centre=self.name,
            centre_key=str(self.key),
            keys=[self._wrap(request, key) for key in keys],
            signature="",
        )
        return self.sign(draft)

    def sign(self, file: KeyLoadFile) -> KeyLoadFile:
        """Sign the whole file."""
        signature = sign(self.private, FILE_NAMESPACE, file.signed)
        return KeyLoadFile.model_validate(file.model_dump() | {"signature": str(signature)})

    def _wrap(self, request: KeyRequest, key: ClearKey) -> WrappedKey:
        transport = bytes.fromhex(request.transport)
        try:
            theirs = EllipticCurvePublicKey.from_encoded_point(SECP384R1(), transport)
        except ValueError:
            raise RequestFileInvalid("the transport key is no point on P-384") from None
        ephemeral = generate_private_key(SECP384R1())
        point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        load = key.attributes.item(KeySource.WRAPPED, expected=bytes.fromhex(key.check_value))
        shared = ephemeral.exchange(ECDH(), theirs)
        wrapped = aes_key_wrap_with_padding(wrapping_key(shared, load, point, transport), key.key)
        text = key_load_text(request.module, request.serial, transport, load, point, wrapped)
        return WrappedKey(
            attributes=key.attributes,
            check_value=key.check_value,
            point=point.hex(),
            wrapped=wrapped.hex(),
            signature=sign(self.private, KEY_LOAD_NAMESPACE, text.encode()).signature.hex(),
        )
