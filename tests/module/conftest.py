"""The module as production has it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.lab import Lab


@pytest.fixture
def production_library(lab: Lab, tmp_path: Path) -> Path:
    """The module, built with another fixed path for its configuration: production reads no other."""
    source = Path(__file__).parents[2] / "hsm" / "module"
    path = f"-DKW_CONFIG_PATH='\"{lab.config}\"'"
    subprocess.run(["make", "-s", "-C", str(source), f"OUT={tmp_path}", f"CFLAGS={path}"], check=True, timeout=120)
    return tmp_path / "libkeywatt-fm.so"
