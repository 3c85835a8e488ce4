"""Two systems under the same load, in interleaved rounds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from tests.support.system import System


def rates(
    make_bench: Callable[[System], Any],
    systems: tuple[AbstractContextManager[System], AbstractContextManager[System]],
    rounds: int,
    seconds: float,
) -> dict[str, list[tuple[float, float]]]:
    """Return the rates of both, round by round, of single calls by clients, and of batches."""
    found: dict[str, list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        benches = [make_bench(stack.enter_context(system)) for system in systems]
        for _ in range(rounds):
            for name, clients, size, rate in (
                ("single, 1 client", 1, 0, 0),
                ("single, 64 clients", 64, 0, 0),
                ("batches of 1,000", 2, 1000, 30_000),
            ):
                more = {"size": size, "rate": rate} if size else {}
                pair = tuple(bench.keywatt(clients, seconds, **more).rate for bench in benches)
                found.setdefault(name, []).append((pair[0], pair[1]))
    return found
