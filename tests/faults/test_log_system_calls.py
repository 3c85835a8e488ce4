"""System calls of the real worker made to fail, or to be its last, by strace: each write, flush and rename of the log.

What the worker sees is what a failing disk makes it see; in-process injection (tests/log/test_writer.py) goes through
every call of the writer in turn, this shows the same of the process that users run, under load.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.test_crashes import audit_log
from tests.support.lab import CONTEXTS, RULES
from tests.support.shop import Shop
from tests.support.system import System, running

_RENAME = "?rename,?renameat,?renameat2"
_SECONDS = 1.2


@contextlib.contextmanager
def injecting(worker: int, call: str, fault: str, when: str, output: Path) -> Iterator[None]:
    """Attach strace to a worker; what it did is in ``output`` afterwards."""
    command = ["strace", "-f", "-p", str(worker), "-o", str(output), "-e", f"trace={call}"]
    command += ["-e", f"inject={call}:{fault}:when={when}"]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    try:
        line = tracer.stderr.readline()
        if "Operation not permitted" in line:
            pytest.skip("processes cannot be traced here")
        assert "attached" in line, line
        yield
    finally:
        tracer.terminate()
        tracer.wait(20)
        tracer.stderr.close()


@pytest.fixture
def system() -> Iterator[System]:
    edits = [("module.toml", "[log]\n", "[log]\ncheckpoint_seconds = 0.1\n")]
    with running("online", CONTEXTS + RULES, edits=edits) as system:
        yield system


@pytest.mark.root
@pytest.mark.timeout(300)
def test_calls_that_fail_under_load(system: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faults = [
        (call, fault, when)
        for call, when in (("pwrite64", "5+41"), ("fdatasync", "5+41"), ("fsync", "2+7"), (_RENAME, "2+5"))
        for fault in ("error=EIO", "error=ENOSPC")
    ]
    # A write that writes nothing, as some file systems say it when they are full.
    faults.append(("pwrite64", "retval=0", "5+41"))
    injected = 0
    with Shop([system], seed=7) as shop:
        for place, (call, fault, when) in enumerate(faults):
            output = tmp_path / f"{place}"
            with injecting(system.worker_pid, call, fault, when, output):
                time.sleep(_SECONDS)
            found = output.read_text().count("(INJECTED)")
            assert found, f"{call} {fault} was never reached"
            injected += found
            sells_again(shop)
    inside, left_over = audit_log(system, shop, restarted=False)
    with capsys.disabled():
        print(f"\n  {injected} faults injected; {inside} entries, {left_over} without an answer", end="")


@pytest.mark.root
@pytest.mark.timeout(300)
def test_calls_that_are_the_last(system: System, tmp_path: Path) -> None:
    """kill -9 exactly at a call: before it happened, with all that came before it in doubt."""
    with Shop([system], seed=8) as shop:
        for place, (call, number) in enumerate(
            (call, number)
            for call, numbers in (
                ("pwrite64", (1, 2, 9)),
                ("fdatasync", (1, 2, 9)),
                ("fsync", (1, 2, 3, 4)),
                (_RENAME, (1, 2, 3)),
            )
            for number in numbers
        ):
            worker = system.worker_pid
            with injecting(worker, call, "signal=SIGKILL", str(number), tmp_path / f"{place}"):
                end = time.monotonic() + 20
                while Path(f"/proc/{worker}").exists() and system.worker_pid == worker:
                    assert time.monotonic() < end, f"{call} {number} was never reached"
                    time.sleep(0.01)
            sells_again(shop)
    audit_log(system, shop)


def sells_again(shop: Shop) -> None:
    before = len(shop.sold)
    end = time.monotonic() + 30
    while len(shop.sold) < before + 8:
        assert not shop.failures, shop.failures
        assert time.monotonic() < end, "nothing is sold any more"
        time.sleep(0.01)
