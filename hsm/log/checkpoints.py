"""Checkpoints (c2sp.org/tlog-checkpoint): origin, size and root of a log, signed by it."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Self

from hsm.log.errors import CheckpointInvalid, NoteInvalid
from hsm.log.merkle import HASH_LENGTH
from hsm.log.notes import Note, VerifierKey, decode_base64

CHECKPOINT = "checkpoint"
"""Name of the file that holds the newest one."""

WITNESSED = "checkpoint.witnessed"
"""Name of the file that holds the newest one that the quorum of the witness policy has cosigned."""

FORKED = "checkpoint.forked"
"""Name of the file that holds a checkpoint which this log signed and does not have: there is another history of it."""

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a log says of itself at one moment: ``root`` is over the first ``size`` entries."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """Three lines, as they are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a note; raises CheckpointInvalid. Extension lines are refused: this log makes none."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0] or _SIZE.fullmatch(lines[1]) is None:
            raise CheckpointInvalid("a checkpoint is three lines: origin, size, root")
        try:
            root = decode_base64(lines[2], "the root")
        except NoteInvalid as error:
            raise CheckpointInvalid(str(error)) from None
        if len(root) != HASH_LENGTH:
            raise CheckpointInvalid("a root has 32 octets")
        return cls(origin=lines[0], size=int(lines[1]), root=root)

    @classmethod
    def open(cls, note: Note, key: VerifierKey) -> Self:
        """Read a checkpoint that the log with this key signed; raises NoteInvalid or CheckpointInvalid."""
        note.verify(key)
        checkpoint = cls.parse(note.text)
        if checkpoint.origin != key.name:
            raise CheckpointInvalid(f"this is a checkpoint of {checkpoint.origin}, not of {key.name}")
        return checkpoint
