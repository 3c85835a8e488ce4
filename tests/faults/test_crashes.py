"""kill -9 at random instants under load, with clients that repeat: each sale ends with exactly one answer.

KEYWATT_KILLS says how often; `make torture` runs 500 on each database.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.support.lab import CONTEXTS, RULES
from tests.support.shop import Shop
from tests.support.system import running

KILLS = int(os.environ.get("KEYWATT_KILLS", "12"))


@pytest.mark.timeout(120 + 6 * KILLS)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_kill_9_of_appliance_and_worker(
    database: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    url = request.getfixturevalue("postgres_url") if database == "postgresql" else ""
    seed = random.SystemRandom().randrange(1 << 32)
    source = random.Random(seed)
    killed = {"appliance": 0, "worker": 0, "both": 0}
    with capsys.disabled(), running("online", CONTEXTS + RULES, ledger=url) as system:
        print(f"\n  {database}: seed {seed}", end="", flush=True)
        with Shop([system], seed=seed) as shop:
            for number in range(KILLS):
                before = len(shop.sold)
                end = time.monotonic() + 60
                # Not before it sells again: else nothing would be under way.
                while len(shop.sold) < before + 8 and not shop.failures:
                    assert time.monotonic() < end, system.log("appliance")[-2000:]
                    time.sleep(0.01)
                time.sleep(source.uniform(0, 0.15))
                what = source.choice(list(killed))
                killed[what] += 1
                if what != "appliance":
                    system.kill_worker()
                if what != "worker":
                    system.kill_appliance()
                    system.start_appliance()
                if number % 50 == 49:
                    print(f" {number + 1}", end="", flush=True)
        figures = shop.audit()
        print(f"\n  {database}: killed {killed}, {figures}")
    assert figures["sales"] > 8 * KILLS
    assert figures["errors"], "nothing was under way when it was killed: the test shows nothing"
