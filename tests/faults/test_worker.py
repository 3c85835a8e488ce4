"""The module process dies, hangs or lies: what clients see, and that no wrong token is ever given."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from keywatt.keys.v1 import keys_pb2

from appliance.client.client import ClientError
from tests.appliance.test_bad_input import credit
from tests.support import oracle
from tests.support.lab import CONTEXTS, RULES
from tests.support.load import Load, is_transient
from tests.support.system import System, running

GROUPS = [("600001", 11), ("600001", 7), ("600007", 7)]


def wait_for_service(system: System) -> float:
    """Return how long it took until a call succeeded."""
    started = time.monotonic()
    with system.client() as client:
        while time.monotonic() < started + 30:
            try:
                client.call(client.keys.GetModuleStatus, keys_pb2.GetModuleStatusRequest())
            except ClientError:
                time.sleep(0.005)
            else:
                return time.monotonic() - started
    raise AssertionError("the service did not come back")


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running("online", CONTEXTS + RULES) as system:
        yield system


def test_kill_9_of_the_worker_under_load(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    outages = []
    with Load(system, GROUPS, threads=8) as load:
        for _ in range(10):
            time.sleep(0.3)
            before = system.kill_worker()
            outages.append(wait_for_service(system))
            assert system.worker_pid != before
        time.sleep(0.3)
    for sale in load.sales:
        oracle.check(sale)
    assert len(load.sales) > 100
    assert load.errors, "nothing was in flight when the worker died: the test shows nothing"
    assert all(is_transient(error) for error in load.errors), load.reasons()
    with capsys.disabled():
        reasons = {reason: count for (reason, _), count in load.reasons().items()}
        print(f"\n  10 kills, {len(load.sales)} tokens, errors {reasons}, worst outage {max(outages):.3f} s")


def test_interrupted_call_carries_retry_info(system: System) -> None:
    statuses = []
    with Load(system, GROUPS, threads=2), grpc.secure_channel(system.profile.address, _credentials(system)) as channel:
        from keywatt.keys.v1 import keys_pb2_grpc

        stub = keys_pb2_grpc.KeysServiceStub(channel)
        end = time.monotonic() + 30
        while not statuses and time.monotonic() < end:
            calls = [stub.GetModuleStatus.future(keys_pb2.GetModuleStatusRequest(), timeout=10) for _ in range(50)]
            system.kill_worker()
            statuses += [rpc_status.from_call(call) for call in calls if call.exception() is not None]
    unavailable = [s for s in statuses if s is not None and s.code == grpc.StatusCode.UNAVAILABLE.value[0]]
    assert unavailable
    for status in unavailable:
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in status.details)
        assert retry.retry_delay.ToMilliseconds() > 0


def _credentials(system: System) -> grpc.ChannelCredentials:
    profile = system.profile
    return grpc.ssl_channel_credentials(
        profile.server_ca.read_bytes(), profile.private_key.read_bytes(), profile.certificate.read_bytes()
    )


@pytest.fixture
def misbehaving(tmp_path: Path) -> Iterator[tuple[System, Path]]:
    """A system whose PKCS#11 library is the shim, and the file that sets it off."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="keywatt-shim-", dir="/var/tmp"))
    folder.chmod(0o755)
    trigger, library = folder / "trigger", folder / "shim.so"
    source = Path(__file__).parents[1] / "support" / "shim.c"
    flags = subprocess.run(
        ["pkg-config", "--cflags", "p11-kit-1"], capture_output=True, text=True, check=True
    ).stdout.split()
    subprocess.run(
        ["cc", "-shared", "-fPIC", *flags, f'-DKW_TRIGGER="{trigger}"', "-o", str(library), str(source), "-ldl"],
        check=True,
    )
    library.chmod(0o755)
    edits = [
        ("module.conf", "/usr/lib/softhsm/libsofthsm2.so", str(library)),
        ("module.toml", "client_users", "operation_deadline_seconds = 0.5\nclient_users"),
    ]
    try:
        with running("online", CONTEXTS + RULES, edits) as system:
            yield system, trigger
    finally:
        shutil.rmtree(folder)


def test_a_library_that_hangs_is_cut_off_and_replaced(misbehaving: tuple[System, Path]) -> None:
    system, trigger = misbehaving
    with system.client() as client:
        client.call(client.vending.IssueCreditToken, credit())
        before = system.worker_pid
        trigger.write_text("h")
        trigger.chmod(0o644)
        with pytest.raises(ClientError) as refusal:
            client.call(client.vending.IssueCreditToken, credit())
        assert is_transient(refusal.value)
        trigger.unlink()
        wait_for_service(system)
        assert system.worker_pid != before
        client.call(client.vending.IssueCreditToken, credit())
    assert "worker-hung" in system.log("module")


def test_a_library_that_fails_gives_no_token_and_is_replaced(misbehaving: tuple[System, Path]) -> None:
    system, trigger = misbehaving
    with system.client() as client:
        client.call(client.vending.IssueCreditToken, credit())
        trigger.write_text("d")
        trigger.chmod(0o644)
        with pytest.raises(ClientError) as refusal:
            client.call(client.vending.IssueCreditToken, credit())
        assert is_transient(refusal.value)
        # A new worker finds the fault in its self-test, and serves nothing.
        time.sleep(1)
        with pytest.raises(ClientError) as refusal:
            client.call(client.vending.IssueCreditToken, credit())
        assert is_transient(refusal.value)
        assert "start-failed" in system.log("module")
        trigger.unlink()
        wait_for_service(system)


def test_a_library_that_lies_fails_the_self_test_and_serves_nothing(misbehaving: tuple[System, Path]) -> None:
    system, trigger = misbehaving
    trigger.write_text("w")
    trigger.chmod(0o644)
    system.kill_worker()
    time.sleep(1)
    with system.client() as client:
        with pytest.raises(ClientError) as refusal:
            client.call(client.vending.IssueCreditToken, credit())
        assert is_transient(refusal.value)
    assert "start-failed" in system.log("module")
    trigger.unlink()
    wait_for_service(system)
    with system.client() as client:
        assert client.call(client.vending.IssueCreditToken, credit()).token.digits


def test_health_follows_the_module(system: System) -> None:
    import os
    import signal

    from grpc_health.v1 import health_pb2, health_pb2_grpc

    def state() -> int:
        with grpc.secure_channel(system.profile.address, _credentials(system)) as channel:
            return int(health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5).status)

    def wait_for(wanted: int) -> None:
        end = time.monotonic() + 20
        while state() != wanted:
            assert time.monotonic() < end
            time.sleep(0.05)

    wait_for(health_pb2.HealthCheckResponse.SERVING)
    os.kill(system.supervisor_pid, signal.SIGSTOP)
    try:
        system.kill_worker()
        wait_for(health_pb2.HealthCheckResponse.NOT_SERVING)
    finally:
        os.kill(system.supervisor_pid, signal.SIGCONT)
    wait_for(health_pb2.HealthCheckResponse.SERVING)


def test_sigterm_drains(tmp_path: Path) -> None:
    with running("online", CONTEXTS) as system:
        with Load(system, [("201457", 11)], threads=4) as load:
            time.sleep(0.5)
            system.servers._processes[1].terminate()
            assert system.servers._processes[1].wait(20) == 0
        system.servers._processes[0].terminate()
        assert system.servers._processes[0].wait(20) == 0
        assert not (system.state / "run" / "module.sock").exists()
        assert load.sales
        # Whoever had been let in got a token; the rest found the door closed.
        assert {code for _, code in load.reasons()} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        for name in ("appliance", "module"):
            assert "Traceback" not in system.log(name)
