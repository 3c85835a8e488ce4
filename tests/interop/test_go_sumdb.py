"""Our log, read by an implementation that is none of ours: golang.org/x/mod/sumdb, as Debian packages it."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hsm.log.checkpoints import Checkpoint
from tests.log.support import SIGNER, make_log

GO = shutil.which("go")
SOURCES = Path("/usr/share/gocode/src/golang.org/x/mod/sumdb")
pytestmark = pytest.mark.skipif(
    (GO is None or not SOURCES.is_dir()) and not os.environ.get("CI"), reason="needs golang-go, golang-golang-x-mod-dev"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("go") / "read_log"
    environment = os.environ | {
        "GO111MODULE": "off",
        "GOPATH": "/usr/share/gocode",
        "GOCACHE": str(target.parent / "cache"),
        "CGO_ENABLED": "0",
    }
    command = [str(GO), "build", "-o", str(target), str(Path(__file__).with_name("read_log.go"))]
    subprocess.run(command, check=True, env=environment, timeout=300)
    return target


def read(program: Path, folder: Path, *older: str) -> subprocess.CompletedProcess[str]:
    command = [str(program), str(folder), str(SIGNER.key), *older]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("size", [1, 255, 256, 257, 1000, 66_000])
def test_notes_tiles_and_proofs_are_those_of_the_go_checksum_database(program: Path, tmp_path: Path, size: int) -> None:
    notes = make_log(tmp_path / "log", size, batch=97, every=max(size // 5, 1))
    older = []
    for note in notes:
        checkpoint = Checkpoint.parse(note.text)
        older += [str(checkpoint.size), base64.b64encode(checkpoint.root).decode()]
    done = read(program, tmp_path / "log", *older)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"module-1: {size} entries, {len(notes)} older trees\n"


def test_it_finds_what_is_altered(program: Path, tmp_path: Path) -> None:
    make_log(tmp_path / "log", 300)
    for name in ("tile/entries/000", "tile/0/000", "checkpoint"):
        path = tmp_path / "log" / name
        before = path.read_bytes()
        path.write_bytes(before[:40] + bytes([before[40] ^ 1]) + before[41:])
        assert read(program, tmp_path / "log").returncode == 1, name
        path.write_bytes(before)
    assert read(program, tmp_path / "log").returncode == 0
