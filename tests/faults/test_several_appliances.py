"""Several processes on one port, several hosts on one ledger: nothing doubles, and each repeats the others' answers."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.client.client import ClientError
from appliance.ledger.storage.open import make_engine, upgrade
from tests.appliance.test_request_ids import sale
from tests.support import hosts
from tests.support.lab import CONTEXTS, RULES
from tests.support.postgres import server as postgres_server
from tests.support.shop import Shop
from tests.support.system import System, running


def prepared(url: str) -> str:
    engine = make_engine(url)
    upgrade(engine)
    engine.dispose()
    return url


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[list[System], bool]]:
    """Two hosts with a module each and one ledger; on one host, if this machine has no namespaces."""
    folder = Path(tempfile.mkdtemp(prefix="keywatt-hosts-", dir="/var/tmp"))
    folder.chmod(0o755)
    with hosts.hosts(2) as names, contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        gateway = hosts.BRIDGE_ADDRESS if names else ""
        postgres = stack.enter_context(postgres_server(gateway, "10.218.77.0/24"))
        prepared(postgres.database("ledger"))
        systems = []
        for number in range(2):
            address = hosts.address(number) if names else "127.0.0.1"
            system = System(folder / f"host{number}", "online", CONTEXTS + RULES, address)
            system.namespace = names[number] if names else ""
            system.edit("module.conf", "module_id = keywatt-vm", f"module_id = host-{number}")
            system.use_ledger(postgres.url("ledger", gateway))
            systems.append(system)
        # One ledger, one key to its answers.
        shutil.copyfile(systems[0].state / "appliance" / "ledger.key", systems[1].state / "appliance" / "ledger.key")
        for system in systems:
            stack.callback(system.stop)
            system.start()
        yield systems, bool(names)


@pytest.mark.timeout(240)
def test_two_hosts_with_a_module_each_on_one_ledger(capsys: pytest.CaptureFixture[str]) -> None:
    source = random.Random(7)
    with capsys.disabled(), two_hosts() as (systems, apart):
        with systems[0].client() as first, systems[1].client() as second:
            request = sale()
            answer = first.call(first.vending.IssueCreditToken, request)
            assert answer.provenance.module_id == "host-0"
            # Fail-over: the other host repeats the answer, made by a module that it does not have.
            assert second.call(second.vending.IssueCreditToken, request) == answer
            other = second.call(second.vending.IssueCreditToken, sale())
            assert other.provenance.module_id == "host-1"
            assert other.token.token_identifier > answer.token.token_identifier
        with Shop(systems, threads=6, repeat=0.6) as shop:
            for _ in range(6):
                before = len(shop.sold)
                end = time.monotonic() + 30
                while len(shop.sold) < before + 25:
                    assert time.monotonic() < end
                    time.sleep(0.01)
                system = source.choice(systems)
                system.kill_worker()
                system.kill_appliance()
                system.start_appliance()
        figures = shop.audit()
        print(f"\n  two hosts ({'network namespaces' if apart else 'one loopback'}): {figures}")
        assert figures["sales"] > 100


@pytest.mark.timeout(180)
def test_several_processes_share_a_port(postgres_url: str) -> None:
    edits = [("appliance/appliance.toml", "[tls]", "processes = 3\n\n[tls]")]
    with running("online", CONTEXTS + RULES, edits, ledger=postgres_url) as system:
        children = Path(f"/proc/{system.appliance_pid}/task/{system.appliance_pid}/children")
        assert len(children.read_text().split()) == 3
        with Shop([system], threads=6) as shop:
            for starts in range(3, 6):
                sold, end = len(shop.sold), time.monotonic() + 30
                while len(shop.sold) < sold + 20 or system.log("appliance").count('"event": "serving"') < starts:
                    assert time.monotonic() < end
                    time.sleep(0.05)
                os.kill(int(random.choice(children.read_text().split())), signal.SIGKILL)
        figures = shop.audit()
        assert figures["sales"] > 60
        end = time.monotonic() + 30
        while system.log("appliance").count('"event": "serving"') < 6:
            assert time.monotonic() < end
            time.sleep(0.05)
        system.servers._processes[1].terminate()
        assert system.servers._processes[1].wait(30) == 0
        assert system.log("appliance").count('"event": "drained"') >= 3


def test_several_processes_on_sqlite_are_refused() -> None:
    edits = [("appliance/appliance.toml", "[tls]", "processes = 2\n\n[tls]")]
    with pytest.raises(SystemExit, match="PostgreSQL"), running("online", CONTEXTS, edits):
        pass


def test_a_second_appliance_on_the_port_or_the_file_is_refused() -> None:
    with running("online", CONTEXTS) as system:
        first = system.servers._processes[1]
        system.start_appliance()
        assert system.servers._processes[1].wait(30) == 2
        assert "another appliance process" in system.log("appliance")
        system.servers._processes[1] = first
        with system.client() as client, pytest.raises(ClientError):
            client.call(client.vending.IssueCreditToken, sale())
