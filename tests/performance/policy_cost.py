"""What a policy costs: the same load under one with three limits, and open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.policy.governed import client_name, govern
from tests.policy.texts import client, limit
from tests.support.lab import CONTEXTS
from tests.support.system import System, running

MANY = 10**9


@contextmanager
def running_governed() -> Iterator[System]:
    """Give a system whose every token counts for its client, for all and for its meter."""
    with running("online", CONTEXTS) as system:
        govern(
            system,
            client(client_name(system)),
            limit("client", "client", "minute", count=MANY),
            limit("all", "all", "day", units=str(MANY)),
            limit("meter", "meter", "month", units=str(MANY)),
        )
        yield system
