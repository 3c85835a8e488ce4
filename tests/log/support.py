"""A log made by the product's own writer, signed by a key of the test's own: what tests alter and prove."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hsm.log import leaves
from hsm.log.checkpoints import Checkpoint
from hsm.log.leaves import LeafType
from hsm.log.notes import COSIGNATURE, ED25519, Note, Signature, VerifierKey
from hsm.log.writer import LogWriter


@dataclass(frozen=True)
class Signer:
    """A key pair of a log or a witness."""

    private: Ed25519PrivateKey
    key: VerifierKey

    @classmethod
    def make(cls, name: str = "module-1", kind: int = ED25519, seed: int = 1) -> Signer:
        private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        return cls(private, VerifierKey(name=name, kind=kind, public=private.public_key().public_bytes_raw()))

    def sign(self, text: str, time: int = 1_700_000_000) -> Signature:
        message, prefix = text.encode(), b""
        if self.key.kind == COSIGNATURE:
            message, prefix = f"cosignature/v1\ntime {time}\n".encode() + message, time.to_bytes(8, "big")
        return Signature(name=self.key.name, key_id=self.key.key_id, octets=prefix + self.private.sign(message))

    def checkpoint(self, size: int, root: bytes) -> Note:
        text = Checkpoint(origin=self.key.name, size=size, root=root).text
        return Note(text=text, signatures=(self.sign(text),))


SIGNER = Signer.make()


def fresh_leaf(number: int) -> bytes:
    return leaves.issue(
        time=1_700_000_000_000 + number,
        client="spiffe://example/shop",
        request=f"{number:032x}",
        key=(14, "201457/1", "6c3de4"),
        ea=11,
        tct=2,
        marks=2,
        meter="600727000000000009",
        ti="01",
        token_class=0,
        subclass=0,
        tid=6_000_000 + number,
        value=256,
        token=leaves.token_hash(f"{number:020d}"),
    )


leaf = functools.cache(fresh_leaf)


def refusal(number: int) -> bytes:
    return leaves.make(LeafType.REFUSAL, 1_700_000_000_000 + number, reason="AMOUNT_ZERO", client="", request="0" * 32)


def publish(writer: LogWriter, signer: Signer = SIGNER) -> Note:
    note = signer.checkpoint(writer.size, writer.root())
    writer.publish(note)
    return note


def make_log(folder: Path, size: int, *, batch: int = 100, every: int = 0) -> list[Note]:
    """Make a log of ``size`` entries; return its checkpoints, one after each ``every`` entries and the last."""
    writer, notes = LogWriter.open(folder), []
    while writer.size < size:
        count = min(batch, size - writer.size)
        writer.append([leaf(writer.size + place) for place in range(count)])
        if every and writer.size % every < count:
            notes.append(publish(writer))
    notes.append(publish(writer))
    writer.fold()
    writer.close()
    return notes
