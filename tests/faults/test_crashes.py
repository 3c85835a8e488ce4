"""kill -9 at random instants under load, with clients that repeat: each sale ends with exactly one answer.

KEYWATT_KILLS says how often; `make torture` runs 500 on each database.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sysconfig
import time
from pathlib import Path

import pytest
from keywatt.audit.v1 import audit_pb2
from keywatt.vending.v1 import vending_pb2

from hsm.log import leaves
from hsm.log.export import read
from hsm.log.notes import VerifierKey
from hsm.log.tiles import TileReader
from hsm.log.verifier import verify_log
from hsm.system_users import APPLIANCE_USER, as_user
from tests.support.lab import CONTEXTS, RULES
from tests.support.shop import Shop
from tests.support.system import System, running

KILLS = int(os.environ.get("KEYWATT_KILLS", "12"))


def audit_log(system: System, shop: Shop, *, restarted: bool = True) -> tuple[int, int]:
    """Prove the log, find every token that was given out in it, and reconcile it; return what is in it and left over."""
    with system.client() as client:
        client.call(client.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest(fresh=True))
    folder = system.state / "audit"
    report = verify_log(folder, VerifierKey.parse((folder / "verifier-key").read_text().strip()))
    assert report.is_whole, report.findings
    entries = dict(read(TileReader(folder, report.size)))
    for sold in shop.sold:
        answer = vending_pb2.IssueCreditTokenResponse.FromString(next(iter(sold.answers)))
        leaf = leaves.decode(entries[answer.token.log_index])
        assert leaf["token"] == leaves.token_hash(answer.token.digits)
        assert leaf["request"] == sold.request.request_id.replace("-", "")
    program = str(Path(sysconfig.get_path("scripts")) / "keywatt-reconcile")
    command = [program, "--config", str(system.state / "appliance" / "appliance.toml"), "--json"]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, **as_user(APPLIANCE_USER)
    )
    assert result.stdout, result.stderr[-3000:]
    reconciled = json.loads(result.stdout)
    # Only what a kill cut off between module and ledger, and each of those names the entry that its sale was given.
    assert all("was answered with entry" in found["what"] for found in reconciled["differences"]), reconciled
    assert report.counts["issue"] == len(shop.sold) + reconciled["differing"]
    assert (report.counts["start"] > 1) == restarted
    return report.counts["issue"], reconciled["differing"]


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
        issued, left = audit_log(system, shop)
        print(f"\n  {database}: killed {killed}, {figures}, {issued} entries of tokens, {left} of them not given out")
    assert figures["sales"] > 8 * KILLS
    assert figures["errors"], "nothing was under way when it was killed: the test shows nothing"
