"""A room in which a token was initialised, copied for every test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ceremony.table import Room, hold
from tests.support.lab import SOFTHSM


def remove(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Room:
    room = Room.make(tmp_path_factory.mktemp("room"), SOFTHSM)
    hold(room, room.initialise_plan(), "Alice", "Carol")
    return room


@pytest.fixture
def room(initialised: Room, tmp_path: Path) -> Iterator[Room]:
    """A copy of the initialised room, at a path of its own."""
    folder = tmp_path / "room"
    shutil.copytree(initialised.folder, folder, symlinks=True)
    for path in folder.glob("*.*"):
        if path.suffix in {".toml", ".conf"}:
            path.write_text(path.read_text().replace(str(initialised.folder), str(folder)))
    officers = [type(one)(one.name, folder / one.path.name) for one in initialised.officers]
    yield Room(folder, officers)
    remove(folder)
