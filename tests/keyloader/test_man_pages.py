"""Man pages are made from the commands, and name every one of them; completion answers."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.ceremony.table import PROGRAM
from tests.support.system import load_script

pages = load_script("tools/man_pages.py")


@pytest.mark.parametrize("name", ["keyloader", "keywatt"])
def test_pages_are_to_date(name: str) -> None:
    text = (pages.TARGET / f"{name}.1").read_text("utf-8")
    assert text == pages.render(name), "run python tools/man_pages.py"


def test_every_command_is_in_its_page() -> None:
    text = (pages.TARGET / "keyloader.1").read_text("utf-8")
    for command in ("lint", "rehearse", "run", "print", "verify", "rollback", "keychange run", "kmc send"):
        assert f".SS {command}\n" in text


def test_the_shell_completes() -> None:
    environment = os.environ | {"_KEYLOADER_COMPLETE": "complete_bash", "COMP_WORDS": "keyloader re", "COMP_CWORD": "1"}
    done = subprocess.run([PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "rehearse" in done.stdout
