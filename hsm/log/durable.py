"""Files that outlive a crash. Errors of the disk come out as OSError."""

from __future__ import annotations

import os
from pathlib import Path


def write_all(descriptor: int, octets: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of it, however often the system writes less than it is asked to."""
    rest = memoryview(octets)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        if written <= 0:
            raise OSError("nothing was written")
        rest, offset = rest[written:], offset + written


def replace_file(path: Path, octets: bytes) -> None:
    """Write a file so that after a crash it is the old one or the new one, whole; durable when this returns."""
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        write_all(descriptor, octets, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.rename(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make durable which files a folder has."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
