"""The log as it is written: entries durable in the journal first, then tiles; read again after a crash, never guessed.

FOLDER/journal      the newest entries; see :mod:`hsm.log.journal`
FOLDER/tile/…       hash tiles and entry bundles
FOLDER/state.json   how far the tiles are durable: size, root, and what the writer wants to remember
FOLDER/checkpoint   the newest signed checkpoint, with the cosignatures of witnesses as they come in
FOLDER/checkpoint.witnessed   the newest one that enough witnesses have cosigned
FOLDER/checkpoint.forked   proof that this is not the only history: with it, nobody writes here any more
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from hsm.log import tiles
from hsm.log.checkpoints import CHECKPOINT, FORKED, WITNESSED, Checkpoint
from hsm.log.durable import flush_folder, replace_file, write_all
from hsm.log.errors import BatchTooLarge, LogDamaged, LogError, LogUnavailable, TileMissing
from hsm.log.journal import JOURNAL_OCTETS, Journal, Record
from hsm.log.merkle import HASH_LENGTH, Frontier, leaf_hash, peaks_of, root_of
from hsm.log.notes import Note
from hsm.log.tiles import TILE_WIDTH, TileReader

_STATE = "state.json"


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # The path of the log is no secret, but the name of what failed says enough.
        raise LogUnavailable(f"the log cannot be written: {error.strerror or error}") from error


class LogWriter:
    """The one writer of a log. After any LogUnavailable it is of no use any more: open it again.

    ``facts`` is whatever the owner wants to find again after a restart; it becomes durable with the next fold.
    """

    def __init__(self, folder: Path, journal: Journal, lock: int) -> None:
        self._folder = folder
        self._journal = journal
        self._lock = lock
        self._frontier = Frontier()
        # Of each level the hashes of its last tile, of the entries those of the last bundle.
        self._levels: list[bytearray] = []
        self._bundle = bytearray()
        self._written: list[Path] = []
        # Partial tiles that are durable: what a path of width and place holds never changes, so it is written once.
        self._partials: set[str] = set()
        self._broken = False
        self.facts: dict[str, Any] = {}

    @classmethod
    def open(cls, folder: Path, *, journal_octets: int = JOURNAL_OCTETS) -> Self:
        """Open a log, an empty one if the folder is empty, and read again what the last writer left.

        Raises:
            LogUnavailable: the disk fails, or another process writes this log.
            LogDamaged: what is there contradicts itself.
        """
        with _guarded():
            if not folder.exists():
                folder.mkdir(mode=0o750)
                flush_folder(folder.parent)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not (folder / _STATE).exists():
                    _begin(folder, journal_octets)
                writer = cls(folder, _journal(folder), lock)
            except BlockingIOError:
                os.close(lock)
                raise LogUnavailable("another process writes this log") from None
            except BaseException:
                os.close(lock)
                raise
            try:
                writer._recover()
            except BaseException:
                writer.close()
                raise
        return writer

    @property
    def size(self) -> int:
        """How many entries are durable."""
        return self._frontier.size

    @property
    def is_torn(self) -> bool:
        """Whether a batch at the journal's end was not whole when the log was opened: it was never acknowledged."""
        return self._journal.is_torn

    def last(self) -> bytes | None:
        """Return the last entry; None if there is none. Raises LogDamaged."""
        if not self.size:
            return None
        try:
            return TileReader(self._folder, self.size).entries((self.size - 1) // TILE_WIDTH)[-1]
        except TileMissing as error:
            raise LogDamaged(str(error)) from error

    def frontier(self) -> Frontier:
        """Return a copy of the tree's right edge, to compare with later."""
        return Frontier(self._frontier.size, self._frontier.peaks)

    def begins_with(self, frontier: Frontier) -> bool:
        """Tell whether the log, as its tiles are, begins with the tree of a frontier. Raises LogDamaged."""
        if frontier.size > self.size:
            return False
        try:
            return root_of(frontier.size, TileReader(self._folder, self.size).node) == frontier.root()
        except TileMissing as error:
            raise LogDamaged(str(error)) from error

    def put(self, name: str, octets: bytes) -> None:
        """Write a small file beside the log, whole or not at all. Raises LogUnavailable."""
        with _guarded():
            replace_file(self._folder / name, octets)

    def root(self) -> bytes:
        """Return the root over all of them."""
        return self._frontier.root()

    def root_at(self, size: int) -> bytes:
        """Return the root at a size that had a checkpoint, as the tiles have it. Raises LogDamaged."""
        try:
            return root_of(size, TileReader(self._folder, size).node)
        except TileMissing as error:
            raise LogDamaged(str(error)) from error

    def append(self, entries: Sequence[bytes]) -> int:
        """Append entries, 1 to 65,535 octets each; return the index of the first. When this returns they are durable.

        Raises:
            LogUnavailable: they may be in the log or not; nothing that needs them may be released.
        """
        self._require_whole()
        first = self.size
        payload = b"".join(map(tiles.pack_entry, entries))
        if not self._journal.can_hold(len(payload)):
            raise BatchTooLarge("a batch is larger than the journal")
        self._broken = True
        with _guarded():
            if not self._journal.has_room(len(payload)):
                self._fold()
            self._journal.append(Record(first=first, count=len(entries), payload=payload))
            self._take(entries)
        self._broken = False
        return first

    def fold(self) -> None:
        """Make all tiles durable and let the journal begin anew. Raises LogUnavailable."""
        self._require_whole()
        self._broken = True
        with _guarded():
            self._fold()
        self._broken = False

    def publish(self, note: Note) -> None:
        """Put a checkpoint of the present size in force, with the tiles that belong to it. Raises LogUnavailable."""
        self._require_whole()
        self._broken = True
        with _guarded():
            self._write_partial()
            replace_file(self._folder / CHECKPOINT, note.pack())
        self._broken = False

    def close(self) -> None:
        """Let go of the files; nothing is lost that :meth:`append` returned from."""
        self._broken = True
        self._journal.close()
        os.close(self._lock)

    def _require_whole(self) -> None:
        if self._broken:
            raise LogUnavailable("the log failed before and was not opened again")

    def _take(self, entries: Sequence[bytes]) -> None:
        for entry in entries:
            leaf = leaf_hash(entry)
            self._frontier.add(leaf)
            self._bundle += tiles.pack_entry(entry)
            if self._push(0, leaf):
                index = self.size // TILE_WIDTH - 1
                self._write(tiles.bundle_path(index), self._bundle)
                self._bundle.clear()

    def _push(self, level: int, node: bytes) -> bool:
        """Append a hash to a level; tell whether that made its tile full, which then is written."""
        if level == len(self._levels):
            self._levels.append(bytearray())
        tile = self._levels[level]
        tile += node
        if len(tile) < TILE_WIDTH * HASH_LENGTH:
            return False
        # Eight levels up the root of this very tile is the last peak that was made.
        above = Frontier()
        for position in range(0, len(tile), HASH_LENGTH):
            above.add(bytes(tile[position : position + HASH_LENGTH]))
        index = (self.size >> tiles.TILE_HEIGHT * level) // TILE_WIDTH - 1
        self._write(tiles.tile_path(level, index), tile)
        tile.clear()
        self._push(level + 1, above.root())
        return True

    def _write(self, name: str, octets: bytes | bytearray) -> None:
        path = self._folder / name
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        draft = path.with_name(path.name + ".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            write_all(descriptor, octets, 0)
        finally:
            os.close(descriptor)
        draft.rename(path)
        self._written.append(path)

    def _write_partial(self) -> None:
        """Make the tiles of the present size durable."""
        for level, index, width in tiles.tiles_of(self.size):
            if width == TILE_WIDTH:
                continue
            contents = {tiles.tile_path(level, index, width): self._levels[level]}
            if level == 0:
                contents[tiles.bundle_path(index, width)] = self._bundle
            for name in contents.keys() - self._partials:
                self._write(name, contents[name])
                self._partials.add(name)
        _flush(self._folder, self._written)

    def _fold(self) -> None:
        self._write_partial()
        octets = self._journal.octets
        state = {"size": self.size, "root": self.root().hex(), "journal": octets, "facts": self.facts}
        replace_file(self._folder / _STATE, json.dumps(state, sort_keys=True).encode())
        for path in self._written:
            if path.parent.suffix != ".p":
                _forget_partial(path)
                self._partials = {
                    name for name in self._partials if not name.startswith(f"{path.relative_to(self._folder)}.p/")
                }
        self._written.clear()
        self._journal.restart()

    # --- after a restart ----------------------------------------------------------------------------------------

    def _recover(self) -> None:
        try:
            state = json.loads((self._folder / _STATE).read_bytes())
            size, root = int(state["size"]), bytes.fromhex(state["root"])
            octets = int(state["journal"])
            self.facts = dict(state["facts"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise LogDamaged("state.json is not what a writer leaves") from None
        if octets != self._journal.octets:
            raise LogDamaged(f"the journal has {self._journal.octets} octets, not {octets}")
        try:
            self._read_edge(size, root)
            for record in self._journal.replay(size):
                entries = tiles.unpack_bundle(record.payload, record.count, "the journal")
                self._take(entries)
        except TileMissing as error:
            raise LogDamaged(str(error)) from error
        # What a failed flush left in the cache and not on the disk is written once more, under the eyes of fsync.
        self._fold()
        if (self._folder / FORKED).exists():
            raise LogDamaged(f"{FORKED} proves that there is another history of this log")
        for name in (CHECKPOINT, WITNESSED):
            self._compare_with_checkpoint(name)

    def _read_edge(self, size: int, root: bytes) -> None:
        reader = TileReader(self._folder, size)
        if root_of(size, reader.node) != root:
            raise LogDamaged(f"the tiles do not make the root of {size} entries that was made durable")
        edge = Frontier()
        for level, index, width in tiles.tiles_of(size):
            is_partial = width < TILE_WIDTH
            if is_partial:
                self._partials.add(tiles.tile_path(level, index, width))
            self._levels.append(bytearray(reader.tile(level, index)) if is_partial else bytearray())
            if level == 0 and is_partial:
                self._partials.add(tiles.bundle_path(index, width))
                for entry in reader.entries(index):
                    edge.add(leaf_hash(entry))
                    self._bundle += tiles.pack_entry(entry)
                hashes = Frontier()
                for position in range(0, width * HASH_LENGTH, HASH_LENGTH):
                    hashes.add(bytes(self._levels[0][position : position + HASH_LENGTH]))
                if hashes.root() != edge.root():
                    raise LogDamaged(f"the last bundle of {size} entries does not fit its tile")
        self._frontier = Frontier(size, [reader.node(*place) for place in peaks_of(0, size)])

    def _compare_with_checkpoint(self, name: str) -> None:
        path = self._folder / name
        if not path.exists():
            return
        try:
            checkpoint = Checkpoint.parse(Note.parse(path.read_bytes()).text)
        except LogError as error:
            raise LogDamaged(f"{name} is unreadable: {error}") from error
        if checkpoint.size > self.size:
            raise LogDamaged(f"a checkpoint of {checkpoint.size} entries was signed, the log has {self.size}")
        try:
            root = root_of(checkpoint.size, TileReader(self._folder, self.size).node)
        except TileMissing as error:
            raise LogDamaged(str(error)) from error
        if root != checkpoint.root:
            raise LogDamaged(f"the log does not begin with the {checkpoint.size} entries that were signed")


def _journal(folder: Path) -> Journal:
    try:
        return Journal.open(folder / "journal")
    except FileNotFoundError:
        raise LogDamaged("the journal is missing") from None


def _begin(folder: Path, journal_octets: int) -> None:
    if (folder / "tile").exists() or (folder / CHECKPOINT).exists():
        raise LogDamaged("there are tiles, but no state.json")
    # A journal of an attempt that did not come so far holds nothing.
    (folder / "journal").unlink(missing_ok=True)
    Journal.create(folder / "journal", journal_octets)
    state = {"size": 0, "root": Frontier().root().hex(), "journal": journal_octets, "facts": {}}
    replace_file(folder / _STATE, json.dumps(state, sort_keys=True).encode())


def _flush(root: Path, paths: Sequence[Path]) -> None:
    folders = {root}
    for path in paths:
        if not path.exists():
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folder = path.parent
        while folder not in folders:
            folders.add(folder)
            folder = folder.parent
    for folder in folders:
        flush_folder(folder)


def _forget_partial(full: Path) -> None:
    """Remove the partial tiles of a tile that is full and durable; readers take what they need from the full one."""
    folder = full.with_name(full.name + ".p")
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()
