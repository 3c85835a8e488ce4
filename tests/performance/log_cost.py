"""What the module's log costs: the same load with and without it, and a log that grows."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hsm.log.tiles import TileReader
from hsm.log.verifier import verify_log
from hsm.log.writer import LogWriter
from tests.log.support import SIGNER, fresh_leaf, publish
from tests.support.lab import CONTEXTS
from tests.support.system import System, run_script, running


class ServersWithoutLog(run_script.Servers):  # type: ignore[misc,name-defined]  # loaded by path
    """The two processes, the module's without its log."""

    def _start(self, name: str, user: str, command: list[str]) -> subprocess.Popen[bytes]:
        if name == "module":
            command = [sys.executable, "-m", "tests.performance.without_log", *command[1:]]
        started: subprocess.Popen[bytes] = super()._start(name, user, command)
        return started


@contextmanager
def running_without_log() -> Iterator[System]:
    with running("online", CONTEXTS) as system:
        system.stop()
        system.servers = ServersWithoutLog(system.state, system.port)
        system.servers.wait_until_up()
        yield system


def grown(folder: Path, sizes: list[int]) -> Iterator[tuple[int, float, float, float, float]]:
    """Make one log grow; give at each size microseconds an entry in batches of 1,000 and alone, octets, and verified/s."""
    writer, number = LogWriter.open(folder), 0
    for size in sizes:
        while number < size:
            writer.append([fresh_leaf(number + place) for place in range(1000)])
            number += 1000
        batches = [
            [fresh_leaf(number + place) for place in range(start, start + 1000)] for start in range(0, 20_000, 1000)
        ]
        started = time.perf_counter()
        for batch in batches:
            writer.append(batch)
        together = (time.perf_counter() - started) / 20_000 * 1e6
        number += 20_000
        singles = [[fresh_leaf(number + place)] for place in range(1000)]
        started = time.perf_counter()
        for single in singles:
            writer.append(single)
        alone = (time.perf_counter() - started) / 1000 * 1e6
        number += 1000
        publish(writer)
        writer.fold()
        started = time.perf_counter()
        report = verify_log(folder, SIGNER.key, processes=2)
        assert report.is_whole
        verified = report.size / (time.perf_counter() - started)
        octets = sum(len(entry) for entry in TileReader(folder, number).entries(0)) / 256 + 2 + 32 * 257 / 256
        yield number, together, alone, octets, verified
    writer.close()
