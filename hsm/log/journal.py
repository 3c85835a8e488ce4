"""The journal: where entries are made durable, one flush for a batch, until tiles hold them.

A file of fixed size, full of zeros at first, so that a flush writes data and nothing else. Each batch is a record that
begins at a multiple of 4,096 octets: a torn write never touches what was flushed before it.

    magic (8) first index (8) count (4) length (4) entries, as in a bundle (length) SHA-256 of all before it (32)

When its entries are in durable tiles the journal begins anew at its start; what is left of older records has indices
that lie below.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hsm.log.durable import write_all
from hsm.log.errors import LogDamaged

_MAGIC = b"KWLOGJ1\n"
_HEADER = struct.Struct(">8sQII")
_DIGEST_LENGTH = 32
_ALIGNMENT = 4096
JOURNAL_OCTETS = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One batch: index of its first entry, number of entries, their octets as in a bundle."""

    first: int
    count: int
    payload: bytes


def _aligned(length: int) -> int:
    return -(-length // _ALIGNMENT) * _ALIGNMENT


class Journal:
    """An open journal. Errors of the disk come out as OSError."""

    def __init__(self, descriptor: int, octets: int) -> None:
        self._descriptor = descriptor
        self.octets = octets
        """Size of the file, which never changes."""
        self.is_torn = False
        """Whether the last :meth:`replay` met a record at the end that was not whole."""
        self._position = 0

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a journal."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        return cls(descriptor, os.fstat(descriptor).st_size)

    @staticmethod
    def create(path: Path, octets: int = JOURNAL_OCTETS) -> None:
        """Make an empty journal, whole or not at all."""
        _create(path, octets)

    def can_hold(self, length: int) -> bool:
        """Whether a record with so many octets of entries fits into an empty journal."""
        return _aligned(_HEADER.size + length + _DIGEST_LENGTH) <= self.octets

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def has_room(self, length: int) -> bool:
        """Whether a record with so many octets of entries fits behind the last one."""
        return self._position + _aligned(_HEADER.size + length + _DIGEST_LENGTH) <= self.octets

    def append(self, record: Record) -> None:
        """Write a record; when this returns it is durable."""
        head = _HEADER.pack(_MAGIC, record.first, record.count, len(record.payload))
        octets = head + record.payload
        octets += hashlib.sha256(octets).digest()
        write_all(self._descriptor, octets.ljust(_aligned(len(octets)), b"\0"), self._position)
        os.fdatasync(self._descriptor)
        self._position += _aligned(len(octets))

    def restart(self) -> None:
        """Begin anew: all that is in it is durable elsewhere."""
        self._position = 0

    def replay(self, size: int) -> Iterator[Record]:
        """Give the records that follow a tree of ``size``, in order; a torn one at the end is none.

        Raises:
            LogDamaged: a record that was flushed is not whole, or one is missing.
        """
        octets = self._read()
        position = 0
        while (record := _record_at(octets, position)) is not None and record.first == size:
            yield record
            size += record.count
            position += _aligned(_HEADER.size + len(record.payload) + _DIGEST_LENGTH)
        self.is_torn = record is None and _announces(octets, position, size)
        for later in range(position, len(octets), _ALIGNMENT):
            record = _record_at(octets, later)
            if record is not None and record.first >= size:
                raise LogDamaged(f"the journal holds entry {record.first}, but not entry {size}")

    def _read(self) -> bytes:
        parts, position = [], 0
        while part := os.pread(self._descriptor, 1 << 20, position):
            parts.append(part)
            position += len(part)
        return b"".join(parts)


def _create(path: Path, octets: int) -> None:
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        write_all(descriptor, bytes(octets), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.rename(path)


def _announces(octets: bytes, position: int, size: int) -> bool:
    """Tell whether a record with this first index begins here, whole or not."""
    return octets[position : position + 16] == _HEADER.pack(_MAGIC, size, 0, 0)[:16]


def _record_at(octets: bytes, position: int) -> Record | None:
    if len(octets) - position < _HEADER.size:
        return None
    magic, first, count, length = _HEADER.unpack_from(octets, position)
    end = position + _HEADER.size + length
    if magic != _MAGIC or end + _DIGEST_LENGTH > len(octets):
        return None
    if hashlib.sha256(octets[position:end]).digest() != octets[end : end + _DIGEST_LENGTH]:
        return None
    return Record(first=first, count=count, payload=octets[position + _HEADER.size : end])
