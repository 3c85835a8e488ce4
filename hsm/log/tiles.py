"""The tree as static files (c2sp.org/tlog-tiles): hash tiles, entry bundles, and reading proofs from them."""

from __future__ import annotations

import functools
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from hsm.log.errors import TileMissing
from hsm.log.merkle import HASH_LENGTH, Frontier

TILE_WIDTH = 256
TILE_HEIGHT = 8
ENTRY_MAX = 65_535
_LENGTH = struct.Struct(">H")


def _number(index: int) -> str:
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups))


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of a hash tile below the log's root; ``width`` 1 to 256."""
    return f"tile/{level}/{_number(index)}" + ("" if width == TILE_WIDTH else f".p/{width}")


def bundle_path(index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of an entry bundle; ``width`` 1 to 256."""
    return f"tile/entries/{_number(index)}" + ("" if width == TILE_WIDTH else f".p/{width}")


def tiles_of(size: int) -> Iterator[tuple[int, int, int]]:
    """Name the last tile of each level of a tree: level, index, width (1 to 256); none for an empty level."""
    level = 0
    while size:
        full, partial = divmod(size, TILE_WIDTH)
        yield (level, full, partial) if partial else (level, full - 1, TILE_WIDTH)
        size = full
        level += 1


def width_in(size: int, level: int, index: int) -> int:
    """Return the width that a tile has in a tree of ``size``: 256, less at the edge, 0 outside."""
    hashes = size >> TILE_HEIGHT * level
    return max(0, min(TILE_WIDTH, hashes - index * TILE_WIDTH))


def pack_entry(entry: bytes) -> bytes:
    """Return an entry as it stands in a bundle."""
    return _LENGTH.pack(len(entry)) + entry


def unpack_bundle(octets: bytes, width: int, name: str) -> list[bytes]:
    """Return the first ``width`` entries of a bundle; raises TileMissing if it is shorter or ends within an entry."""
    entries: list[bytes] = []
    position, end = 0, len(octets)
    for _ in range(width):
        if end - position < _LENGTH.size:
            raise TileMissing(f"{name} holds {len(entries)} entries, not {width}")
        (length,) = _LENGTH.unpack_from(octets, position)
        position += _LENGTH.size + length
        if position > end:
            raise TileMissing(f"{name} ends within an entry")
        entries.append(octets[position - length : position])
    if position != end:
        raise TileMissing(f"{name} goes on after its last entry")
    return entries


def read_regular(path: Path, most: int) -> bytes:
    """Read a regular file, no link, of at most so many octets; anything else is an OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            raise OSError("no regular file of a size that it may have")
        return file.read(most)


class TileReader:
    """Reads a log's folder as far as ``size``. What is missing or short is a TileMissing that names the file."""

    def __init__(self, folder: Path, size: int, *, cached: int = 64) -> None:
        self._folder = folder
        self.size = size
        self._tile = functools.lru_cache(maxsize=cached)(self._read_tile)

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a complete node: from its tile, or computed from the hashes of one tile."""
        tile_level, rest = divmod(level, TILE_HEIGHT)
        first = index << rest
        tile = self.tile(tile_level, first // TILE_WIDTH)
        start = first % TILE_WIDTH * HASH_LENGTH
        end = start + (HASH_LENGTH << rest)
        if end > len(tile):
            raise TileMissing(f"{tile_path(tile_level, first // TILE_WIDTH)} is too short")
        frontier = Frontier()
        for position in range(start, end, HASH_LENGTH):
            frontier.add(tile[position : position + HASH_LENGTH])
        return frontier.root()

    def tile(self, level: int, index: int) -> bytes:
        """Return the hashes of a tile, as many as the tree of this size has."""
        return self._tile(level, index)

    def entries(self, index: int) -> list[bytes]:
        """Return the entries of a bundle."""
        width = width_in(self.size, 0, index)
        name = bundle_path(index, width)
        return unpack_bundle(self._read(name, bundle_path(index), width, None), width, name)

    def entry(self, index: int) -> bytes:
        """Return one entry; raises TileMissing if the log does not go so far."""
        if not 0 <= index < self.size:
            raise TileMissing(f"the log of {self.size} has no entry {index}")
        return self.entries(index // TILE_WIDTH)[index % TILE_WIDTH]

    def _read_tile(self, level: int, index: int) -> bytes:
        width = width_in(self.size, level, index)
        octets = self._read(tile_path(level, index, width), tile_path(level, index), width, HASH_LENGTH)
        if len(octets) != width * HASH_LENGTH:
            raise TileMissing(f"{tile_path(level, index, width)} has {len(octets)} octets, not {width * HASH_LENGTH}")
        return octets

    def _read(self, name: str, full: str, width: int, each: int | None) -> bytes:
        """Read a partial tile, or, where it has grown full since, what was there of it then."""
        most = TILE_WIDTH * (HASH_LENGTH if each is not None else _LENGTH.size + ENTRY_MAX)
        try:
            return read_regular(self._folder / name, most)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise TileMissing(f"{name}: {error.strerror or error}") from error
        if name == full:
            raise TileMissing(f"{name} is missing")
        try:
            octets = read_regular(self._folder / full, most)
        except OSError:
            raise TileMissing(f"{name} is missing") from None
        if each is not None:
            return octets[: width * each]
        return b"".join(pack_entry(entry) for entry in unpack_bundle(octets, TILE_WIDTH, full)[:width])
