"""A module process whose worker has a clock that a test sets; the product hands its worker no environment."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.system import ROOT, run_script

_PROGRAM = """#!{python}
import subprocess, sys
from hsm import supervisor
real = subprocess.Popen
def popen(command, **more):
    more["env"] = dict(more["env"], LD_PRELOAD="{library}", KEYWATT_TEST_CLOCK="{offset}")
    return real(command, **more)
supervisor.subprocess.Popen = popen
sys.exit(supervisor.main())
"""


@contextlib.contextmanager
def stepped_clocks() -> Iterator[Callable[[float], None]]:
    """Let appliance and worker of every system that is started within have a clock; give what sets it, in minutes."""
    folder = Path(tempfile.mkdtemp(prefix="keywatt-clock-", dir="/var/tmp"))
    folder.chmod(0o755)
    library, offset, program = folder / "clock.so", folder / "offset", folder / "keywatt-module"
    source = ROOT / "tests" / "support" / "clock_shim.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    offset.write_bytes(bytes(8))
    program.write_text(_PROGRAM.format(python=sys.executable, library=library, offset=offset))
    program.chmod(0o755)

    def step(minutes: float) -> None:
        with offset.open("r+b") as clock:
            clock.write(struct.pack("=q", int(minutes * 60e9)))

    real = run_script.program
    environment = {"LD_PRELOAD": str(library), "KEYWATT_TEST_CLOCK": str(offset)}
    os.environ.update(environment)
    run_script.program = lambda name: str(program) if name == "keywatt-module" else real(name)
    try:
        yield step
    finally:
        run_script.program = real
        for name in environment:
            os.environ.pop(name, None)
        shutil.rmtree(folder)
