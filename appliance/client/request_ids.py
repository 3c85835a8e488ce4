"""Request ids for clients: UUID version 7, whose time in front keeps the ledger's index together."""

from __future__ import annotations

import os
import time
from uuid import UUID


def new() -> str:
    """Return a new request id."""
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))
