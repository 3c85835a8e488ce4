"""Reads the module's log, as far as its newest checkpoint goes; the appliance can read its folder, never write it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import LogEntryUnknown, LogEntryUnwitnessed, LogUnreadable
from hsm.client import ModuleClient
from hsm.log.checkpoints import CHECKPOINT, WITNESSED, Checkpoint
from hsm.log.errors import LogError
from hsm.log.merkle import consistency_proof, inclusion_proof, leaf_hash, verify_inclusion
from hsm.log.notes import ED25519, NOTE_MAX, Note, VerifierKey
from hsm.log.receipts import Receipt
from hsm.log.tiles import TILE_WIDTH, TileReader, read_regular


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except LogError as error:
        raise LogUnreadable(f"the log: {error}") from error


class Snapshot:
    """The log at one checkpoint. Blocking; what cannot be read is LogUnreadable."""

    def __init__(self, folder: Path, note: Note) -> None:
        self.note = note
        self.checkpoint = Checkpoint.parse(note.text)
        self._reader = TileReader(folder, self.checkpoint.size)

    @property
    def size(self) -> int:
        """How many entries it covers."""
        return self.checkpoint.size

    def inclusion(self, index: int, size: int) -> tuple[bytes, list[bytes]]:
        """Return the hash of an entry and its proof in the tree of ``size``; raises LogEntryUnknown."""
        if not 0 <= index < size <= self.size:
            raise LogEntryUnknown(f"the newest checkpoint covers {self.size} entries")
        with _readable():
            return leaf_hash(self._reader.entry(index)), inclusion_proof(index, size, self._reader.node)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Return the proof from the tree of ``old`` to that of ``new``; raises LogEntryUnknown."""
        if not 0 < old <= new <= self.size:
            raise LogEntryUnknown(f"the newest checkpoint covers {self.size} entries")
        with _readable():
            return consistency_proof(old, new, self._reader.node)

    def entry(self, index: int) -> bytes:
        """Return an entry; raises LogEntryUnknown."""
        if not 0 <= index < self.size:
            raise LogEntryUnknown(f"the newest checkpoint covers {self.size} entries")
        with _readable():
            return self._reader.entry(index)

    def proven_entry(self, index: int) -> bytes:
        """Return an entry that is proven to be in the tree that the checkpoint signs; raises as :meth:`entry`."""
        entry = self.entry(index)
        with _readable():
            proof = inclusion_proof(index, self.size, self._reader.node)
            verify_inclusion(index, self.size, leaf_hash(entry), self.checkpoint.root, proof)
        return entry

    def receipt(self, index: int) -> bytes:
        """Return the receipt of an entry; raises LogEntryUnknown."""
        if not 0 <= index < self.size:
            raise LogEntryUnknown(f"the newest checkpoint covers {self.size} entries")
        with _readable():
            return Receipt.make(self._reader, index, self.note).pack()

    def run(self, start: int) -> list[bytes]:
        """Return some entries from ``start`` on, to the end of a bundle."""
        if start >= self.size:
            return []
        tile = start // TILE_WIDTH
        with _readable():
            return self._reader.entries(tile)[start % TILE_WIDTH :]

    def find(self, text: bytes) -> Iterator[int]:
        """Give the indices of entries that contain ``text``, newest first; reads the whole log."""
        for tile in range((self.size - 1) // TILE_WIDTH, -1, -1):
            with _readable():
                entries = self._reader.entries(tile)
            for place in range(len(entries) - 1, -1, -1):
                if text in entries[place]:
                    yield tile * TILE_WIDTH + place


class LogReader:
    """The way to the module's log.

    Args:
        folder: the log.
        client: the module, which signs fresh checkpoints.
    """

    def __init__(self, folder: Path, client: ModuleClient) -> None:
        self._folder = folder
        self._client = client
        self._key: tuple[int, VerifierKey] | None = None
        self._largest = 0

    async def newest(self, *, fresh: bool = False) -> Snapshot:
        """Return the log at its newest checkpoint; ``fresh``: have the present state signed first.

        Raises:
            LogUnreadable: no checkpoint there, or one that is none.
            HsmError: the module does not sign.
        """
        key = await self._verifier_key()
        octets = await self._client.checkpoint() if fresh else None
        # As it was before the reading: another reading may overtake this one.
        largest = self._largest
        snapshot = await asyncio.to_thread(self._open, key, octets)
        if snapshot.size < largest:
            raise LogUnreadable(f"the log's checkpoint covers {snapshot.size} entries, one before {largest}")
        self._largest = max(self._largest, snapshot.size)
        return snapshot

    async def witnessed(self) -> Snapshot:
        """Return the log at the newest checkpoint that enough witnesses have cosigned.

        Raises:
            LogEntryUnwitnessed: there is none.
            LogUnreadable, HsmError: as :meth:`newest`.
        """
        snapshot = await asyncio.to_thread(self._open_witnessed, await self._verifier_key())
        if snapshot is None:
            raise LogEntryUnwitnessed("no checkpoint of this log has been cosigned by enough witnesses")
        return snapshot

    async def at_hand(self, index: int) -> Snapshot | None:
        """Return the log at a checkpoint that covers an entry, best one with cosignatures; None if there is none yet.

        Raises:
            LogUnreadable, HsmError: as :meth:`newest`.
        """
        witnessed = await asyncio.to_thread(self._open_witnessed, await self._verifier_key())
        if witnessed is not None and index < witnessed.size:
            return witnessed
        snapshot = await self.newest()
        return snapshot if index < snapshot.size else None

    async def covering(self, index: int, *, witnessed: bool = False) -> Snapshot:
        """Return the log at a checkpoint that covers an entry, signed now if there is none.

        Args:
            index: of the entry.
            witnessed: take one that enough witnesses have cosigned, or none.

        Raises:
            LogEntryUnwitnessed: there is none.
            LogUnreadable, HsmError: as :meth:`newest`.
        """
        if witnessed:
            snapshot = await self.witnessed()
            if index >= snapshot.size:
                raise LogEntryUnwitnessed(f"witnesses have cosigned {snapshot.size} entries so far")
            return snapshot
        return await self.at_hand(index) or await self.newest(fresh=True)

    async def _verifier_key(self) -> VerifierKey:
        """Return the module's key, asked for once on each connection."""
        if self._key is None or self._key[0] != self._client.connections:
            status = await self._client.status()
            public = await self._client.audit_key()
            key = VerifierKey(name=status.module_id, kind=ED25519, public=public)
            self._key = (self._client.connections, key)
        return self._key[1]

    def _open_witnessed(self, key: VerifierKey) -> Snapshot | None:
        try:
            return self._open(key, None, WITNESSED)
        except LogUnreadable as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def _open(self, key: VerifierKey, octets: bytes | None, name: str = CHECKPOINT) -> Snapshot:
        try:
            note = Note.parse(read_regular(self._folder / name, NOTE_MAX) if octets is None else octets)
            note.verify(key)
            return Snapshot(self._folder, note)
        except OSError as error:
            raise LogUnreadable(f"the log's checkpoint: {error.strerror}") from error
        except LogError as error:
            raise LogUnreadable(f"the log's checkpoint: {error}") from error
