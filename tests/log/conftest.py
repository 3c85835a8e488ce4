"""Folders in memory: tests that make every call of the disk fail would otherwise flush a real one a hundred thousand times."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")  # noqa: S108 - with mkdtemp


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    base = MEMORY if os.access(MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="keywatt-log-", dir=base))
    yield folder
    shutil.rmtree(folder)
