"""The witness protocol (c2sp.org/tlog-witness), both sides of it, without a network.

A log sends ``old <size>``, the consistency proof from there, an empty line and its checkpoint. The witness
remembers the last checkpoint that it saw of each log, and cosigns only what is consistent with it: a log that was
rewound, or that shows two histories, finds no cosignature any more.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hsm.log.checkpoints import Checkpoint
from hsm.log.durable import replace_file
from hsm.log.errors import LogError, NoteInvalid, ProofInvalid, RequestInvalid, WitnessStateInvalid
from hsm.log.merkle import HASH_LENGTH, Frontier, verify_consistency
from hsm.log.notes import COSIGNATURE, NOTE_MAX, Note, Signature, VerifierKey, decode_base64
from hsm.log.tiles import read_regular

PATH = "/add-checkpoint"
SIZE_TYPE = "text/x.tlog.size"
REQUEST_MAX = NOTE_MAX + 64 * 64
_HASHES_MAX = 63
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")
_STATE_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCheckpoint:
    """A request.

    Args:
        old: size of the checkpoint that the witness saw last, as the log believes; 0 for none.
        proof: that the new checkpoint is consistent with it, up to 63 hashes; empty if ``old`` is 0.
        checkpoint: the new checkpoint, signed by the log.
    """

    old: int
    proof: tuple[bytes, ...]
    checkpoint: Note

    def pack(self) -> bytes:
        """Return the body."""
        lines = [f"old {self.old}", *(base64.b64encode(node).decode() for node in self.proof)]
        return ("\n".join(lines) + "\n\n").encode() + self.checkpoint.pack()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a body; raises RequestInvalid or NoteInvalid."""
        head, found, note = body.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise RequestInvalid("a request is ASCII down to its checkpoint") from None
        old = _OLD.fullmatch(lines[0])
        if not found or old is None or len(lines) - 1 > _HASHES_MAX:
            raise RequestInvalid("a request is a line: old and a size, up to 63 hashes, an empty line, a checkpoint")
        proof = tuple(decode_base64(line, "a hash of the proof") for line in lines[1:])
        if any(len(node) != HASH_LENGTH for node in proof):
            raise RequestInvalid("a hash of the proof has another length than 32 octets")
        return cls(old=int(old[1]), proof=proof, checkpoint=Note.parse(note))


def parse_cosignatures(body: bytes, text: str, key: VerifierKey) -> Signature:
    """Return the newest cosignature of a witness from its answer; lines of others are ignored.

    Args:
        body: the answer.
        text: of the checkpoint that was sent.
        key: of the witness.

    Raises:
        NoteInvalid: there is none, or it is wrong.
    """
    try:
        lines = body.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise NoteInvalid("the witness answers no text") from None
    own = [one for one in map(Signature.parse, lines) if one.name == key.name and one.key_id == key.key_id]
    if not own:
        raise NoteInvalid(f"{key.name} answers no cosignature of its own")
    return max(own, key=lambda one: key.verify(text, one.octets) or 0)


def cosign(private: Ed25519PrivateKey, name: str, text: str, seconds: int) -> Signature:
    """Cosign the text of a checkpoint at a POSIX time."""
    message = f"cosignature/v1\ntime {seconds}\n{text}".encode()
    key = VerifierKey(name=name, kind=COSIGNATURE, public=private.public_key().public_bytes_raw())
    return Signature(name=name, key_id=key.key_id, octets=seconds.to_bytes(8, "big") + private.sign(message))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a witness answers: HTTP status, content type, body."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class WitnessState:
    """The last checkpoint of each log, in a folder: durable before it is acknowledged, one process at a time."""

    def __init__(self, folder: Path) -> None:
        """Open a folder that exists; raises WitnessStateInvalid if another process has it."""
        self._folder = folder
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise WitnessStateInvalid("another process works with this folder") from None

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._descriptor)

    def get(self, key: VerifierKey) -> tuple[int, bytes]:
        """Return size and root that were seen last of a log; those of the empty tree if none were."""
        try:
            state = json.loads(read_regular(self._path(key), _STATE_MAX))
            size, root = state["size"], bytes.fromhex(state["root"])
        except FileNotFoundError:
            return 0, Frontier().root()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WitnessStateInvalid("what was seen last cannot be read") from error
        if not isinstance(size, int) or isinstance(size, bool) or size < 0 or len(root) != HASH_LENGTH:
            raise WitnessStateInvalid("what was seen last is not what a witness writes")
        return size, root

    def put(self, key: VerifierKey, size: int, root: bytes) -> None:
        """Remember; durable when this returns. Raises OSError."""
        state = {"log": str(key), "size": size, "root": root.hex()}
        replace_file(self._path(key), json.dumps(state, sort_keys=True).encode())

    def _path(self, key: VerifierKey) -> Path:
        return self._folder / f"{key.public.hex()}.json"


class WitnessService:
    """A witness.

    Args:
        name: of its key.
        private: its key.
        logs: those that it witnesses.
        state: what it remembers.
        now: POSIX time, seconds.
    """

    def __init__(
        self,
        name: str,
        private: Ed25519PrivateKey,
        logs: Sequence[VerifierKey],
        state: WitnessState,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._private = private
        self._logs: Mapping[str, VerifierKey] = {log.name: log for log in logs}
        self._state = state
        self._now = now
        self._lock = threading.Lock()

    def add_checkpoint(self, body: bytes) -> Answer:
        """Answer a request; nothing it says makes this raise."""
        try:
            request = AddCheckpoint.parse(body)
            checkpoint = Checkpoint.parse(request.checkpoint.text)
        except LogError as error:
            return _refusal(400, str(error))
        log = self._logs.get(checkpoint.origin)
        if log is None:
            return _refusal(404, "this log is not witnessed here")
        try:
            request.checkpoint.verify(log)
        except NoteInvalid:
            return _refusal(403, "the log has not signed this checkpoint")
        if request.old > checkpoint.size:
            return _refusal(400, "the old size is larger than the new one")
        try:
            with self._lock:
                return self._advance(log, request, checkpoint)
        except (OSError, WitnessStateInvalid):
            return _refusal(500, "the witness cannot remember checkpoints at present")

    def _advance(self, log: VerifierKey, request: AddCheckpoint, checkpoint: Checkpoint) -> Answer:
        size, root = self._state.get(log)
        if request.old != size:
            return Answer(status=409, body=f"{size}\n".encode(), content_type=SIZE_TYPE)
        try:
            _verify(request, checkpoint, root)
        except ProofInvalid as error:
            return _refusal(422, str(error))
        # Also if it is there already: what was renamed before a crash or a failed flush need not be durable.
        self._state.put(log, checkpoint.size, checkpoint.root)
        line = cosign(self._private, self._name, request.checkpoint.text, int(self._now()))
        return Answer(status=200, body=str(line).encode())


def _verify(request: AddCheckpoint, checkpoint: Checkpoint, root: bytes) -> None:
    """Raise ProofInvalid unless the checkpoint is consistent with the root that was seen at the old size."""
    verify_consistency(request.old, checkpoint.size, root, checkpoint.root, request.proof)


def _refusal(status: int, what: str) -> Answer:
    return Answer(status=status, body=f"{what}\n".encode())


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[WitnessState]:
    """Open a witness's folder for a while; see WitnessState."""
    state = WitnessState(folder)
    try:
        yield state
    finally:
        state.close()
