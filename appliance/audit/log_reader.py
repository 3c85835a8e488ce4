"""Reads the module's log, as far as its newest checkpoint goes; the appliance can read its folder, never write it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import LogEntryUnknown, LogUnreadable
from hsm.client import ModuleClient
from hsm.log.checkpoints import CHECKPOINT, Checkpoint
from hsm.log.errors import LogError
from hsm.log.merkle import consistency_proof, inclusion_proof, leaf_hash
from hsm.log.notes import Note
from hsm.log.receipts import Receipt
from hsm.log.tiles import TILE_WIDTH, TileReader


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

    async def newest(self, *, fresh: bool = False) -> Snapshot:
        """Return the log at its newest checkpoint; ``fresh``: have the present state signed first.

        Raises:
            LogUnreadable: no checkpoint there, or one that is none.
            HsmError: the module does not sign.
        """
        if fresh:
            await self._client.checkpoint()
        return await asyncio.to_thread(self._open)

    async def covering(self, index: int) -> Snapshot:
        """Return the log at a checkpoint that covers an entry; raises as :meth:`newest`."""
        snapshot = await self.newest()
        return snapshot if index < snapshot.size else await self.newest(fresh=True)

    def _open(self) -> Snapshot:
        try:
            return Snapshot(self._folder, Note.parse((self._folder / CHECKPOINT).read_bytes()))
        except OSError as error:
            raise LogUnreadable(f"the log's checkpoint: {error.strerror}") from error
        except LogError as error:
            raise LogUnreadable(f"the log's checkpoint: {error}") from error
