"""A system for all tests of the log's readers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.lab import CONTEXTS
from tests.support.system import System, running


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running("online", CONTEXTS) as system:
        yield system
