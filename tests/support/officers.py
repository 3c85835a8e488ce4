"""Officers with keys of the tests' own, plain and FIDO2."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hsm.officers import NAMESPACE, Approval, CeremonyKind, Officer, OfficersItem
from hsm.ssh_signatures import OfficerKey, OfficerSignature, sign, signed_octets

DAY = 24 * 60


def now() -> int:
    return int(time.time() // 60)


@dataclass(frozen=True)
class Person:
    """An officer, with the private key that only he has."""

    name: str
    private: Ed25519PrivateKey
    application: str = ""
    valid_from: int = 0
    valid_until: int = 1 << 40

    @classmethod
    def make(cls, name: str, seed: int, **more: object) -> Person:
        return cls(name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32), **more)  # type: ignore[arg-type]

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    @property
    def key(self) -> OfficerKey:
        return OfficerKey(public=self.public, application=self.application)

    @property
    def officer(self) -> Officer:
        return Officer(
            name=self.name,
            key=self.public,
            application=self.application,
            valid_from=self.valid_from,
            valid_until=self.valid_until,
        )

    def sign(self, text: str, namespace: str = NAMESPACE, *, flags: int = 1, counter: int = 7) -> OfficerSignature:
        if not self.application:
            return sign(self.private, namespace, text.encode())
        head = hashlib.sha256(self.application.encode()).digest() + bytes([flags]) + counter.to_bytes(4, "big")
        message = head + hashlib.sha256(signed_octets(namespace, text.encode())).digest()
        return OfficerSignature(
            key=self.key, namespace=namespace, signature=self.private.sign(message), flags=flags, counter=counter
        )

    def approve(self, text: str, **more: int) -> Approval:
        signature = self.sign(text, **more)  # type: ignore[arg-type]
        return Approval(
            key=self.public, signature=signature.signature, flags=signature.flags, counter=signature.counter
        )


ALICE, BOB, CAROL = Person.make("Alice", 201), Person.make("Bob", 202), Person.make("Carol", 203, application="ssh:")
PEOPLE = (ALICE, BOB, CAROL)


def officers(*people: Person, **thresholds: int) -> OfficersItem:
    needed = dict.fromkeys(CeremonyKind, 2) | {CeremonyKind[name]: count for name, count in thresholds.items()}
    return OfficersItem(officers=[person.officer for person in people or PEOPLE], thresholds=needed)
