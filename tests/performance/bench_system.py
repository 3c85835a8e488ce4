"""One running system, and the tools that load it and read its counters."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keywatt.type.v1 import meter_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client import request_ids
from hsm.system_users import APPLIANCE_USER, as_user
from sts import luhn
from tests.support.system import ROOT, System

BUILD = ROOT / "build" / "performance"
SERVICE = "/keywatt.vending.v1.VendingService/"
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Figures:
    """What one measurement gave; rates and costs are per token."""

    rate: float
    p50: float
    p99: float
    cpu: float = 0.0
    module_cpu: float = 0.0
    client_cpu: float = 0.0
    commits: float = 0.0


def compile_tools() -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    p11 = subprocess.run(["pkg-config", "--cflags", "p11-kit-1"], capture_output=True, text=True, check=True)
    for name, flags in (("load", ["-lnghttp2", "-lssl", "-lcrypto"]), ("fm", [*p11.stdout.split(), "-ldl"])):
        source = ROOT / "tests" / "performance" / f"{name}.c"
        warnings = ["-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["cc", *warnings, "-o", str(BUILD / name), str(source), *flags], check=True)


def cpu_seconds(*processes: int) -> float:
    total = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def request(source: random.Random) -> vending_pb2.IssueCreditTokenRequest:
    # Meters of the range that fill.py fills, so that the growth shows.
    payload = f"{source.randrange(10_000_000) + 10_000_000:010d}"
    return vending_pb2.IssueCreditTokenRequest(
        meter=meter_pb2.MeterConfiguration(
            meter_pan=payload + luhn.check_digit(payload),
            supply_group_code="201457",
            key_revision_number=1,
            tariff_index="01",
            encryption_algorithm=meter_pb2.ENCRYPTION_ALGORITHM_EA11,
        ),
        credit_type=vending_pb2.CREDIT_TYPE_ELECTRICITY,
        amount="25.6",
        request_id=request_ids.new(),
    )


def write_bodies(path: Path, count: int, size: int = 0) -> None:
    """Write ``count`` messages: single requests, or batches of ``size``."""
    source = random.Random(request_ids.new())
    with path.open("wb") as file:
        for _ in range(count):
            octets = request(source).SerializeToString()
            if size:
                requests = [vending_pb2.TokenRequest(credit=request(source)) for _ in range(size)]
                octets = vending_pb2.BatchIssueTokensRequest(requests=requests).SerializeToString()
            file.write(struct.pack(">I", len(octets)) + octets)


class Bench:
    """One system, one no-op server beside it, and the tools to load both."""

    def __init__(self, system: System, noop_port: int, noop_process: int, folder: Path) -> None:
        self.system = system
        self.noop_port = noop_port
        self.noop_process = noop_process
        self.bodies = folder / "bodies"

    def load(self, port: int, method: str, clients: int, warm: float, seconds: float) -> dict[str, Any]:
        client = self.system.state / "client"
        files = [str(client / name) for name in ("server-ca.pem", "client.pem", "client.key")]
        command = [str(BUILD / "load"), "127.0.0.1", str(port), *files, SERVICE + method, str(self.bodies)]
        command += [str(clients), str(warm), str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
        if done.returncode:
            raise SystemExit(done.stderr)
        found: dict[str, Any] = json.loads(done.stdout)
        if found["errors"]:
            raise SystemExit(f"{method}: {found}")
        return found

    def counters(self) -> dict[str, int]:
        before = self.system.log("appliance").count('"event": "counters"')
        os.kill(self.system.appliance_pid, signal.SIGUSR1)
        while True:
            lines = [line for line in self.system.log("appliance").splitlines() if '"event": "counters"' in line]
            if len(lines) > before:
                found: dict[str, int] = json.loads(lines[-1])
                return found
            time.sleep(0.005)

    def keywatt(self, clients: int, seconds: float, *, size: int = 0, rate: int = 3000) -> Figures:
        """Measure Keywatt; ``rate`` is how many calls a second there have to be bodies for."""
        warm = min(0.5, seconds / 3)
        write_bodies(self.bodies, int((seconds + warm) * rate / max(1, size)) + clients + 2, size)
        method = "BatchIssueTokens" if size else "IssueCreditToken"
        processes = self.system.appliance_pid, self.system.worker_pid
        before, cpu = self.counters(), [cpu_seconds(process) for process in processes]
        found = self.load(self.system.port, method, clients, warm, seconds)
        after = self.counters()
        tokens = after["requests"] - before["requests"]
        spent = [cpu_seconds(process) - old for process, old in zip(processes, cpu, strict=True)]
        per_call = max(1, size)
        return Figures(
            rate=found["calls"] * per_call / found["seconds"],
            p50=found["p50_us"],
            p99=found["p99_us"],
            cpu=spent[0] / tokens * 1e6,
            module_cpu=spent[1] / tokens * 1e6,
            client_cpu=found["client_cpu_us"] / per_call,
            commits=(after["commits"] - before["commits"]) / tokens,
        )

    def noop(self, clients: int, seconds: float) -> Figures:
        warm = min(0.5, seconds / 3)
        write_bodies(self.bodies, int((seconds + warm) * 8000) + clients)
        cpu = cpu_seconds(self.noop_process)
        found = self.load(self.noop_port, "IssueCreditToken", clients, warm, seconds)
        calls = found["calls"] * (1 + warm / seconds)
        return Figures(
            rate=found["calls"] / found["seconds"],
            p50=found["p50_us"],
            p99=found["p99_us"],
            cpu=(cpu_seconds(self.noop_process) - cpu) / calls * 1e6,
            client_cpu=found["client_cpu_us"],
        )

    def stream(self, seconds: float) -> Figures:
        command = [sys.executable, "-m", "tests.performance.stream", str(self.system.state), str(seconds)]
        before, cpu = self.counters(), cpu_seconds(self.system.appliance_pid)
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
        tokens = self.counters()["requests"] - before["requests"]
        spent = cpu_seconds(self.system.appliance_pid) - cpu
        return Figures(rate=found["rate"], p50=found["p50_us"], p99=found["p99_us"], cpu=spent / tokens * 1e6)

    def module(self, seconds: float) -> Figures:
        """Measure the module process alone: the appliance's client, batches of 1,000, two under way."""
        command = [sys.executable, "-m", "tests.performance.module", str(self.system.state / "run" / "module.sock")]
        cpu = cpu_seconds(self.system.worker_pid)
        # The module answers to the appliance's system user only.
        who = as_user(APPLIANCE_USER)
        done = subprocess.run([*command, str(seconds)], capture_output=True, text=True, check=True, cwd=ROOT, **who)
        found = json.loads(done.stdout)
        spent = cpu_seconds(self.system.worker_pid) - cpu
        return Figures(rate=found["rate"], p50=0, p99=0, module_cpu=spent / found["tokens"] * 1e6)
