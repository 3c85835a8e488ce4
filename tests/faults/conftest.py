"""Systems whose tokens have officers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ceremony.table import Room
from tests.support.ceremonial import with_officers
from tests.support.system import System


@pytest.fixture
def room() -> Iterator[tuple[System, Room]]:
    """A system whose token was initialised in a ceremony; it does not run yet."""
    with with_officers() as found:
        yield found
