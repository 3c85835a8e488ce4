"""The page that worker and supervisor share: is the worker ready, and since when is it inside the library.

Sixteen octets of shared memory; each eight-octet field is written whole by one side only.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from typing import Self

_SIZE = mmap.PAGESIZE
_BUSY = 0
_READY = 8
_FIELD = struct.Struct("=Q")


class Heartbeat:
    """A shared page over a file descriptor that both processes hold."""

    def __init__(self, descriptor: int) -> None:
        """Map the page behind ``descriptor``."""
        self.descriptor = descriptor
        self._page = mmap.mmap(descriptor, _SIZE)

    @classmethod
    def create(cls) -> Self:
        """Make a page that a child can inherit."""
        descriptor = os.memfd_create("keywatt-heartbeat")
        os.ftruncate(descriptor, _SIZE)
        return cls(descriptor)

    def close(self) -> None:
        """Unmap, and close the descriptor."""
        self._page.close()
        os.close(self.descriptor)

    def begin(self) -> None:
        """Say that the worker enters the library."""
        _FIELD.pack_into(self._page, _BUSY, time.monotonic_ns())

    def end(self) -> None:
        """Say that the worker is back."""
        _FIELD.pack_into(self._page, _BUSY, 0)

    def set_ready(self) -> None:
        """Say that the worker has passed its self-tests and serves."""
        _FIELD.pack_into(self._page, _READY, 1)

    @property
    def is_ready(self) -> bool:
        """Whether the worker serves."""
        return bool(_FIELD.unpack_from(self._page, _READY)[0])

    @property
    def busy_seconds(self) -> float:
        """How long the worker has been inside the library; 0 if it is not."""
        since: int = _FIELD.unpack_from(self._page, _BUSY)[0]
        return (time.monotonic_ns() - since) / 1e9 if since else 0.0
