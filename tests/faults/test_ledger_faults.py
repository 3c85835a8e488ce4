"""The disk is full or read-only, the database goes and comes back, the clock steps: nothing lost, nothing doubled."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from keywatt.vending.v1 import vending_pb2

from appliance.client import request_ids
from appliance.client.client import ClientError, KeywattClient
from hsm.system_users import APPLIANCE_USER
from tests.appliance.test_bad_input import credit
from tests.support.lab import CONTEXTS, RULES
from tests.support.postgres import server as postgres_server
from tests.support.shop import Shop
from tests.support.system import System, running


def sale() -> vending_pb2.IssueCreditTokenRequest:
    request = credit()
    request.request_id = request_ids.new()
    return request


def refused(client: KeywattClient, request: vending_pb2.IssueCreditTokenRequest | None = None) -> ClientError:
    with pytest.raises(ClientError) as refusal:
        client.call(client.vending.IssueCreditToken, request or sale())
    return refusal.value


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def serves(client: KeywattClient) -> bool:
    """Ask over a connection that stands: with a clock that has stepped, no new one may come about."""
    answer = health_pb2_grpc.HealthStub(client._channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="keywatt-disk-", dir="/var/tmp"))
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mount.returncode:
        folder.rmdir()
        pytest.skip("this machine lets nobody mount")
    try:
        shutil.chown(folder, APPLIANCE_USER)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


@pytest.mark.root
def test_a_full_disk_stops_issuing_and_space_starts_it_again() -> None:
    with small_disk(30) as disk, running("online", CONTEXTS + RULES, ledger=f"sqlite:///{disk}/ledger.db") as system:
        ballast = disk / "ballast"
        with Shop([system], threads=4) as shop:
            until(lambda: len(shop.sold) > 50)
            with contextlib.suppress(OSError), ballast.open("wb") as file:
                while True:
                    file.write(bytes(1 << 16))
                    file.flush()
            until(lambda: shop.errors["LEDGER_UNAVAILABLE"] > 20)
            with system.client() as client:
                error = refused(client)
                assert error.reason == "LEDGER_UNAVAILABLE"
                assert error.code is grpc.StatusCode.UNAVAILABLE
                assert error.retryable
                assert "SQLITE_FULL" in str(error) or "SQLITE_IOERR" in str(error)
            ballast.unlink()
            before = len(shop.sold)
            until(lambda: len(shop.sold) > before + 50)
        figures = shop.audit()
        assert figures["sales"] > 100
        assert "Traceback" not in system.log("appliance")


@pytest.mark.root
def test_on_a_disk_that_is_read_only_the_appliance_does_not_start() -> None:
    with small_disk(60) as disk, running("online", CONTEXTS + RULES, ledger=f"sqlite:///{disk}/ledger.db") as system:  # noqa: SIM117
        with system.client() as client:
            first = sale()
            answer = client.call(client.vending.IssueCreditToken, first)
            # What is open for writing would hold the file system back; a disk that fails asks nobody.
            system.kill_appliance()
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            system.start_appliance()
            system.servers._processes[1].wait(60)
            assert "CONFIGURATION_INVALID" in system.log("appliance") or "LEDGER_UNAVAILABLE" in system.log("appliance")
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            system.start_appliance()
            assert client.issue(client.vending.IssueCreditToken, first) == answer


def test_a_database_that_goes_and_comes_back() -> None:
    with postgres_server() as postgres:
        from appliance.ledger.storage.open import make_engine, upgrade

        url = postgres.database("ledger")
        engine = make_engine(url)
        upgrade(engine)
        engine.dispose()
        with running("online", CONTEXTS + RULES, ledger=url) as system, system.client() as client:
            with Shop([system], threads=4) as shop:
                for how in (signal.SIGINT, signal.SIGQUIT):
                    before = len(shop.sold)
                    until(lambda before=before: len(shop.sold) > before + 30)  # type: ignore[misc]
                    postgres.stop(how)
                    lost = shop.errors["LEDGER_UNAVAILABLE"]
                    until(lambda lost=lost: shop.errors["LEDGER_UNAVAILABLE"] > lost + 10)  # type: ignore[misc]
                    until(lambda: not serves(client))
                    postgres.start()
                before = len(shop.sold)
                until(lambda: len(shop.sold) > before + 30)
            until(lambda: serves(client))
            figures = shop.audit()
            assert figures["sales"] > 80
            assert "Traceback" not in system.log("appliance")


@pytest.fixture
def stepped(tmp_path: Path) -> Iterator[tuple[System, Callable[[float], None]]]:
    """A system whose wall clock the test steps, module process and all."""
    folder = Path(tempfile.mkdtemp(prefix="keywatt-clock-", dir="/var/tmp"))
    folder.chmod(0o755)
    library, file = folder / "clock.so", folder / "offset"
    source = Path(__file__).parents[1] / "support" / "clock_shim.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    file.write_bytes(bytes(8))

    def step(seconds: float) -> None:
        with file.open("r+b") as clock:
            clock.write(struct.pack("=q", int(seconds * 1e9)))

    environment = {"LD_PRELOAD": str(library), "KEYWATT_TEST_CLOCK": str(file)}
    os.environ.update(environment)
    try:
        edits = [("appliance/appliance.toml", "restart_forward_hours = 10000", "restart_forward_hours = 168")]
        with running("online", CONTEXTS + RULES, edits) as system:
            yield system, step
    finally:
        for name in environment:
            os.environ.pop(name, None)
        shutil.rmtree(folder)


def ledger_command(system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    from hsm.system_users import as_user
    from tests.support.system import run_script

    command = [run_script.program("keywatt-ledger"), *arguments]
    command += ["--config", str(system.state / "appliance" / "appliance.toml")]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd="/", **as_user(APPLIANCE_USER)
    )


# Within the window of the module, whose clock nobody steps here.
@pytest.mark.parametrize("seconds", [-300, 1800])
def test_a_clock_that_steps_stops_issuing_until_it_is_right_or_confirmed(
    stepped: tuple[System, Callable[[float], None]], seconds: float
) -> None:
    system, step = stepped
    with system.client() as client:
        first = sale()
        answer = client.call(client.vending.IssueCreditToken, first)
        step(seconds)
        error = refused(client)
        assert error.reason == "CLOCK_STOPPED"
        assert error.code is grpc.StatusCode.UNAVAILABLE
        # What was sold stays sold.
        assert client.call(client.vending.IssueCreditToken, first) == answer
        until(lambda: "clock-stopped" in system.log("appliance"))
        until(lambda: not serves(client))
        step(0)
        until(lambda: serves(client))
        client.call(client.vending.IssueCreditToken, sale())
        # It steps again, and this time the operator says that it is right.
        step(seconds)
        refused(client)
        # Health is looked at every so often: what it says next must come after the confirmation.
        until(lambda: not serves(client))
        done = ledger_command(system, "confirm-clock", "--yes", "--note", "the time server was wrong before")
        assert done.returncode == 0, done.stderr
        assert "confirmed" in done.stdout
        until(lambda: serves(client))
        other = sale()
        other.meter.meter_pan = "11111111115"
        client.call(client.vending.IssueCreditToken, other)
        shown = ledger_command(system, "status")
        assert "confirmed 1 times" in shown.stdout


def test_a_start_with_a_clock_that_is_behind_or_far_ahead_issues_nothing(
    stepped: tuple[System, Callable[[float], None]],
) -> None:
    system, step = stepped
    with system.client() as client:
        client.call(client.vending.IssueCreditToken, sale())
        for seconds in (-200, 9 * 86400):
            system.kill_appliance()
            step(seconds)
            system.start_appliance()
            with pytest.raises(ClientError) as refusal:
                client.issue(client.vending.IssueCreditToken, sale())
            assert refusal.value.reason == "CLOCK_STOPPED"
        step(0)
        until(lambda: serves(client))
        client.call(client.vending.IssueCreditToken, sale())
