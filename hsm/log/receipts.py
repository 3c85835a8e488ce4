"""Receipts: one entry with all that proves it, in a file of its own (c2sp.org/tlog-proof).

    c2sp.org/tlog-proof@v1
    extra <base64 of the entry>
    index <n>
    <inclusion proof, one hash a line>
    <empty line>
    <checkpoint with its signatures>

Who has the verifier key of the module needs nothing else: no Keywatt, no network, no log.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Self

from hsm.log.checkpoints import Checkpoint
from hsm.log.errors import NoteInvalid, ProofInvalid
from hsm.log.merkle import HASH_LENGTH, inclusion_proof, leaf_hash, verify_inclusion
from hsm.log.notes import Note, VerifierKey, decode_base64
from hsm.log.policy import NO_WITNESSES, WitnessPolicy
from hsm.log.tiles import TileReader

_FIRST = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile(r"0|[1-9][0-9]{0,18}")
_HASHES_MAX = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """An entry, its place, the hashes from it to the root, and a checkpoint with that root."""

    entry: bytes
    index: int
    proof: tuple[bytes, ...]
    checkpoint: Note

    @classmethod
    def make(cls, reader: TileReader, index: int, checkpoint: Note) -> Self:
        """Make the receipt of an entry from a log's tiles, which are read as far as the checkpoint goes.

        Raises:
            ProofInvalid: the checkpoint does not cover the entry.
            TileMissing: the log is not whole.
        """
        proof = inclusion_proof(index, reader.size, reader.node)
        return cls(entry=reader.entry(index), index=index, proof=tuple(proof), checkpoint=checkpoint)

    def pack(self) -> bytes:
        """Return the file."""
        lines = [_FIRST, f"extra {base64.b64encode(self.entry).decode()}", f"index {self.index}"]
        lines += [base64.b64encode(node).decode() for node in self.proof]
        return ("\n".join(lines) + "\n\n").encode() + self.checkpoint.pack()

    @classmethod
    def parse(cls, octets: bytes) -> Self:
        """Read the file; raises ProofInvalid or NoteInvalid. Nothing of it is proven yet."""
        head, found, note = octets.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise ProofInvalid("a receipt is ASCII down to its checkpoint") from None
        if not found or len(lines) < 3 or lines[0] != _FIRST:
            raise ProofInvalid(f"a receipt begins with {_FIRST}")
        if not lines[1].startswith("extra ") or not lines[2].startswith("index "):
            raise ProofInvalid("a receipt has the entry as extra, then its index")
        if _INDEX.fullmatch(lines[2].removeprefix("index ")) is None or len(lines) - 3 > _HASHES_MAX:
            raise ProofInvalid("a receipt has an index and at most 63 hashes")
        try:
            proof = tuple(decode_base64(line, "a hash of the proof") for line in lines[3:])
            entry = decode_base64(lines[1].removeprefix("extra "), "the entry")
        except NoteInvalid as error:
            raise ProofInvalid(str(error)) from None
        if any(len(node) != HASH_LENGTH for node in proof):
            raise ProofInvalid("a hash of the proof has another length than 32 octets")
        index = int(lines[2].removeprefix("index "))
        return cls(entry=entry, index=index, proof=proof, checkpoint=Note.parse(note))

    def verify(self, key: VerifierKey, policy: WitnessPolicy = NO_WITNESSES) -> Checkpoint:
        """Prove that the entry is in the log with this key; return the checkpoint that says so.

        Args:
            key: of the log.
            policy: which witnesses must have cosigned.

        Raises:
            NoteInvalid, CheckpointInvalid, ProofInvalid: it is not proven.
        """
        checkpoint = Checkpoint.open(self.checkpoint, key)
        if policy.logs and key not in policy.logs:
            raise ProofInvalid("the witness policy is for other logs")
        cosigned = policy.cosigned(self.checkpoint)
        if not policy.is_met(cosigned):
            raise ProofInvalid(f"{len(cosigned)} of the witnesses have signed, which is not enough")
        verify_inclusion(self.index, checkpoint.size, leaf_hash(self.entry), checkpoint.root, self.proof)
        return checkpoint
