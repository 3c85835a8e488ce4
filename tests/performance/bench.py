"""The benchmark: every figure beside what it is measured against, in one run, in interleaved rounds.

    make bench                      everything (about a quarter of an hour)
    make bench BENCH="--only policy"  one table of it: what a policy costs
    make bench BENCH="--quick"      fewer and shorter rounds, no growth
    make bench BENCH="--soak 600"   ten minutes of load, with the memory of each process

The load client of the unary calls and batches is load.c (libnghttp2, OpenSSL): one connection for each client, a body
of its own for each call. That of the stream is grpc in a process of its own, sending octets made beforehand.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hsm.requests import IssueItem, Operation, pack_request
from hsm.session_paths import LIBRARY_PATH
from sts import luhn
from sts.identifiers import MeterPAN
from tests.performance import log_cost, pairs, policy_cost
from tests.performance.bench_system import BUILD, Bench, Figures, compile_tools
from tests.performance.fill import fill
from tests.support.lab import CONTEXTS, EPOCH, USER_PIN, Lab
from tests.support.system import ROOT, System, free_port, running

console = Console(width=170, highlight=False)


def from_c(lab: Lab, seconds: float) -> float:
    """Return tokens a second of the functionality module, driven from C in batches of 1,000."""
    start = int((time.time() - EPOCH.timestamp()) // 60) - (16071 * 1440)
    items = [
        IssueItem(
            token_class=0,
            subclass=0,
            value=256,
            ea=11,
            tct=2,
            random_number=5,
            tariff_index="01",
            pan=MeterPAN.parse(f"{n:010d}" + luhn.check_digit(f"{n:010d}")).digits,
            token_identifier=start,
        )
        for n in range(1000)
    ]
    path = lab.folder / "request"
    path.write_bytes(pack_request(Operation.ISSUE, items))
    command = [str(BUILD / "fm"), str(LIBRARY_PATH), USER_PIN, "keywatt-vk/1 sgc=201457", str(path), str(seconds)]
    environment = os.environ | lab.environment()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout)
    if found["refused"]:
        raise SystemExit(f"the module refused {found['refused']} of {found['tokens']}")
    return float(found["tokens"] / found["seconds"])


@contextmanager
def noop_server(system: System) -> Iterator[tuple[int, int]]:
    port = free_port()
    command = [sys.executable, "-m", "tests.performance.noop", str(port), str(system.state / "appliance")]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        time.sleep(2)
        yield port, process.pid
    finally:
        process.kill()
        process.wait()


def median(values: list[float]) -> float:
    return statistics.median(values)


def middle(figures: list[Figures]) -> Figures:
    return Figures(**{name: median([getattr(f, name) for f in figures]) for name in Figures.__annotations__})


def unary(bench: Bench, rounds: int, seconds: float) -> float:
    """Print the table of single calls; return the rate at 64 clients."""
    table = Table(title="Single calls, against a no-op server (grpc.aio, same messages, same TLS); medians")
    for name in (
        "clients", "no-op/s", "p50 us", "p99 us", "CPU us", "Keywatt/s", "p50 us", "p99 us",
        "CPU us", "+ module", "commits/token", "load client us", "rate ratio", "p50 ratio",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    at_64 = 0.0
    for clients in (1, 4, 16, 64, 256):
        floor, ours = [], []
        for _ in range(rounds):
            floor.append(bench.noop(clients, seconds))
            ours.append(bench.keywatt(clients, seconds))
        f, k = middle(floor), middle(ours)
        ratio = median([b.rate / a.rate for a, b in zip(floor, ours, strict=True)])
        p50 = median([b.p50 / a.p50 for a, b in zip(floor, ours, strict=True)])
        table.add_row(
            str(clients), f"{f.rate:.0f}", f"{f.p50:.0f}", f"{f.p99:.0f}", f"{f.cpu:.0f}",
            f"{k.rate:.0f}", f"{k.p50:.0f}", f"{k.p99:.0f}", f"{k.cpu:.0f}", f"{k.module_cpu:.0f}",
            f"{k.commits:.3f}", f"{k.client_cpu:.0f}", f"{ratio:.2f}", f"{p50:.2f}",
        )  # fmt: skip
        if clients == 64:
            at_64 = k.rate
    console.print(table)
    return at_64


def bulk(bench: Bench, lab: Lab, rounds: int, seconds: float) -> None:
    """Print batches, stream, module process and module from C, each against the next one below."""
    names = (
        "single calls, 64 clients",
        "batches of 100",
        "batches of 1,000",
        "stream",
        "module process",
        "module from C",
    )
    found: dict[str, list[Figures]] = {name: [] for name in names}
    for _ in range(rounds):
        found[names[0]].append(bench.keywatt(64, seconds))
        found[names[1]].append(bench.keywatt(4, seconds, size=100, rate=30_000))
        found[names[2]].append(bench.keywatt(2, seconds, size=1000, rate=30_000))
        found[names[3]].append(bench.stream(seconds))
        found[names[4]].append(bench.module(seconds))
        found[names[5]].append(Figures(rate=from_c(lab, seconds), p50=0, p99=0))
    table = Table(title="Tokens a second, everything on this machine; medians")
    for name in (
        "what",
        "tokens/s",
        "p50 ms",
        "p99 ms",
        "CPU us/token",
        "+ module",
        "commits/token",
        "x single",
        "x module process",
    ):
        table.add_column(name, justify="left" if name == "what" else "right")
    for name in names:
        f = middle(found[name])
        against = {
            other: median([a.rate / b.rate for a, b in zip(found[name], found[other], strict=True)])
            for other in (names[0], names[4])
        }
        table.add_row(
            name, f"{f.rate:.0f}", f"{f.p50 / 1000:.1f}", f"{f.p99 / 1000:.1f}", f"{f.cpu:.0f}", f"{f.module_cpu:.0f}",
            f"{f.commits:.4f}", f"{against[names[0]]:.1f}", f"{against[names[4]]:.2f}",
        )  # fmt: skip
    console.print(table)
    driven = median([a.rate / b.rate for a, b in zip(found[names[4]], found[names[5]], strict=True)])
    console.print(f"module process against the module from C: {driven:.2f}")


def growth(folder: Path, rounds: int, seconds: float, sizes: list[int]) -> None:
    """Print the rate of single calls and batches with more and more rows in the ledger."""
    with ExitStack() as stack:
        benches = {}
        for size in sizes:
            system = stack.enter_context(running("online", CONTEXTS))
            if size:
                system.stop()
                took = fill(system.state / "ledger" / "ledger.db", size)
                console.print(f"ledger of {size:,} rows made in {took:.0f} s")
                system.start()
            benches[size] = Bench(system, 0, 0, folder)
        table = Table(title="Growth of the ledger; medians, and ratios to the empty one")
        for name in ("rows", "single, 64 clients /s", "ratio", "batches of 1,000: tokens/s", "ratio"):
            table.add_column(name, justify="right")
        single: dict[int, list[float]] = {size: [] for size in sizes}
        batches: dict[int, list[float]] = {size: [] for size in sizes}
        for _ in range(rounds):
            for size, bench in benches.items():
                single[size].append(bench.keywatt(64, seconds).rate)
                batches[size].append(bench.keywatt(2, seconds, size=1000, rate=30_000).rate)
        for size in sizes:
            ratios = [
                median([a / b for a, b in zip(rates[size], rates[sizes[0]], strict=True)])
                for rates in (single, batches)
            ]
            table.add_row(
                f"{size:,}", f"{median(single[size]):.0f}", f"{ratios[0]:.2f}",
                f"{median(batches[size]):.0f}", f"{ratios[1]:.2f}",
            )  # fmt: skip
        console.print(table)


def versus(
    title: str,
    folder: Path,
    systems: tuple[AbstractContextManager[System], AbstractContextManager[System]],
    rounds: int,
    seconds: float,
) -> None:
    """Print what something costs: the rates of a system that has it, and of one that has not."""
    table = Table(title=title)
    for name in ("what", "with /s", "without /s", "ratio"):
        table.add_column(name, justify="right" if name != "what" else "left")
    for name, found in pairs.rates(lambda system: Bench(system, 0, 0, folder), systems, rounds, seconds).items():
        table.add_row(
            name,
            f"{median([pair[0] for pair in found]):.0f}",
            f"{median([pair[1] for pair in found]):.0f}",
            f"{median([pair[0] / pair[1] for pair in found]):.2f}",
        )
    console.print(table)


def policy(folder: Path, rounds: int, seconds: float) -> None:
    """Print what a policy costs."""
    systems = policy_cost.running_governed(), running("online", CONTEXTS)
    versus("Under a policy with three limits against open; medians", folder, systems, rounds, seconds)


def log(folder: Path, rounds: int, seconds: float, sizes: list[int]) -> None:
    """Print what the module's log costs, and how that grows."""
    systems = running("online", CONTEXTS), log_cost.running_without_log()
    versus("With the module's log against without; medians", folder, systems, rounds, seconds)
    table = Table(title="Growth of the log")
    for name in (
        "entries",
        "us/entry, batches of 1,000",
        "us/entry, alone",
        "octets/entry",
        "verified /s, 2 processes",
    ):
        table.add_column(name, justify="right")
    for size, together, alone, octets, verified in log_cost.grown(folder / "log", sizes):
        table.add_row(f"{size:,}", f"{together:.1f}", f"{alone:.0f}", f"{octets:.0f}", f"{verified:,.0f}")
    console.print(table)


def soak(bench: Bench, seconds: int) -> None:
    """Load for a long time and print what memory each process holds."""

    def resident(process: int) -> float:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    processes = bench.system.appliance_pid, bench.system.worker_pid
    for minute in range(seconds // 60):
        figures = bench.keywatt(64, 60)
        memory = ", ".join(f"{resident(process):.1f}" for process in processes)
        console.print(f"minute {minute + 1}: {figures.rate:.0f} tokens/s, MiB of appliance and worker: {memory}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmarks, as ratios of one run.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, no growth")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", choices=("unary", "bulk", "growth", "policy", "log"), help="one table alone")
    parser.add_argument("--rows", type=int, nargs="*", default=[0, 1_000_000, 10_000_000])
    parser.add_argument("--soak", type=int, default=0, metavar="SECONDS", help="only this")
    arguments = parser.parse_args()
    rounds, seconds = (2, 1.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    compile_tools()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, ExitStack() as stack:
        folder = Path(name)
        lab = Lab.create(folder / "lab", CONTEXTS)
        if arguments.only in (None, "unary", "bulk") or arguments.soak:
            system = stack.enter_context(running("online", CONTEXTS))
            bench = Bench(system, *stack.enter_context(noop_server(system)), folder)
            if arguments.soak:
                soak(bench, arguments.soak)
                return
            if arguments.only != "bulk":
                unary(bench, rounds, seconds)
            if arguments.only != "unary":
                bulk(bench, lab, rounds, seconds)
            stack.close()
        if arguments.only == "growth" or (arguments.only is None and not arguments.quick):
            growth(folder, rounds, seconds, arguments.rows)
        if arguments.only in (None, "policy"):
            policy(folder, rounds, seconds)
        if arguments.only == "log" or (arguments.only is None and not arguments.quick):
            log(folder, rounds, seconds, arguments.rows)


if __name__ == "__main__":
    main()
