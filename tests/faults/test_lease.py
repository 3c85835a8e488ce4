"""The lease on the running system: renewed online, over, rolled back by clock and by disk; nothing is issued then."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from keywatt.mandate.v1 import mandate_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client.client import ClientError, KeywattClient
from hsm.mandate import Lease
from tests.appliance.test_transport import secure_channel
from tests.ceremony.table import Room, hold
from tests.faults.test_ceremony_takeover import KEY, entries
from tests.faults.test_policy import request
from tests.support.ceremonial import restart, with_officers
from tests.support.officers import DAY, now
from tests.support.system import System

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]
Found = tuple[System, Room]


class Desk:
    """Officers of a system who sign leases with ssh-keygen, and a client that brings them."""

    def __init__(self, system: System, room: Room) -> None:
        self.system = system
        self.room = room

    def text(self, number: int, since: int = -1, until: int = 30 * DAY) -> str:
        return Lease(number=number, valid_from=now() + since, valid_until=now() + until).text(self.room.module)

    def sign(self, text: str, *names: str, namespace: str = "lease@keywatt.dev") -> list[str]:
        path = self.room.folder / "lease.txt"
        signatures = []
        for name in names:
            path.write_text(text)
            key = self.room.officer(name).path
            private = self.room.folder / "signing.key"
            shutil.copy(key, private)
            private.chmod(0o600)
            command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(private), str(path)]
            subprocess.run(command, check=True, capture_output=True)
            signatures.append(path.with_name("lease.txt.sig").read_text())
            path.with_name("lease.txt.sig").unlink()
        return signatures

    def renew(self, text: str, *names: str, **more: str) -> mandate_pb2.RenewLeaseResponse:
        with KeywattClient(self.system.profile) as asked:
            wanted = mandate_pb2.RenewLeaseRequest(text=text, signatures=self.sign(text, *names, **more))
            return asked.call(asked.mandate.RenewLease, wanted)

    def mandate(self) -> mandate_pb2.GetMandateResponse:
        with KeywattClient(self.system.profile) as asked:
            return asked.call(asked.mandate.GetMandate, mandate_pb2.GetMandateRequest())

    def sell(self, number: int) -> str:
        """Return the reason of a refusal, or nothing."""
        with KeywattClient(self.system.profile) as asked:
            try:
                asked.issue(asked.vending.IssueCreditToken, sale(number))
            except ClientError as error:
                return error.reason
        return ""


def sale(number: int) -> vending_pb2.IssueCreditTokenRequest:
    message = request(number)
    message.meter.supply_group_code = "600700"
    return message


def reason(call: Callable[..., Any], *arguments: Any, **more: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(*arguments, **more)
    return refused.value.reason


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with with_officers() as (system, room):
        hold(room, room.plan("sold", KEY.format("600700")), "Alice", "Bob")
        restart(system)
        yield Desk(system, room)


def serving(system: System) -> bool:
    with secure_channel(system) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def stop(system: System) -> None:
    system.stop()
    system.servers = None


def edit_state(system: System, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what the log's writer keeps; the worker must not run."""
    path = system.state / "audit" / "state.json"
    state = json.loads(path.read_text())
    change(state["facts"]["lease"])
    path.write_text(json.dumps(state, sort_keys=True))


def test_it_is_renewed_online_and_vending_ends_with_it(desk: Desk) -> None:
    assert desk.sell(1) == ""
    found = desk.mandate()
    assert not found.lease_required
    assert not found.HasField("lease")
    text = desk.text(1)
    assert reason(desk.renew, text, "Alice") == "LEASE_NOT_SIGNED"
    assert reason(desk.renew, text, "Alice", "Alice") == "LEASE_NOT_SIGNED"
    assert reason(desk.renew, text, "Alice", "Bob", namespace="approval@keywatt.dev") == "LEASE_NOT_SIGNED"
    assert reason(desk.renew, text.replace(desk.room.module, "another"), "Alice", "Bob") == "LEASE_UNREADABLE"
    assert reason(desk.renew, text + "more\n", "Alice", "Bob") == "LEASE_UNREADABLE"
    assert (
        reason(desk.renew, text.replace("-11-", "-13-").replace("-12-", "-13-"), "Alice", "Bob") == "LEASE_UNREADABLE"
    )
    assert reason(desk.renew, desk.text(1, until=93 * DAY), "Alice", "Bob") == "LEASE_INVALID"
    assert desk.renew(text, "Alice", "Bob").lease.number == 1
    found = desk.mandate()
    assert found.lease_required
    assert found.lease.number == 1
    (horizon,) = [one for one in found.horizons if one.kind == "lease"]
    assert horizon.urgency == mandate_pb2.URGENCY_NONE
    assert desk.sell(2) == ""
    # Bringing it again changes nothing; another of its number is refused.
    assert desk.renew(text, "Bob", "Carol").lease.number == 1
    assert reason(desk.renew, desk.text(1, until=5 * DAY), "Alice", "Bob") == "LEASE_OUTDATED"
    # The officers end it.
    desk.renew(desk.text(2, until=0), "Bob", "Carol")
    assert desk.sell(3) == "LEASE_OVER"
    until(lambda: not serving(desk.system))
    assert {"LEASE_OVER"} == {desk.sell(number) for number in (4, 5)}
    desk.renew(desk.text(3), "Alice", "Carol")
    assert desk.sell(3) == ""
    until(lambda: serving(desk.system))
    leases = [leaf for leaf in entries(desk.system) if leaf["type"] == "lease"]
    assert [leaf["number"] for leaf in leases] == [1, 1, 2, 3]
    refusals = [leaf["reason"] for leaf in entries(desk.system) if leaf.get("operation") == "present-lease"]
    assert refusals.count("LEASE_NOT_SIGNED") == 3


def test_it_is_remembered_through_kill_9_and_restart(desk: Desk) -> None:
    number = desk.mandate().lease.number
    worker = desk.system.kill_worker()
    until(lambda: desk.system.worker_pid != worker)
    until(lambda: desk.sell(10) == "")
    assert desk.mandate().lease.number == number
    stop(desk.system)
    restart(desk.system)
    assert desk.mandate().lease.number == number
    assert desk.sell(11) == ""


def test_ended_it_stays_ended_through_a_restart(desk: Desk) -> None:
    number = desk.mandate().lease.number + 1
    desk.renew(desk.text(number, until=0), "Alice", "Bob")
    stop(desk.system)
    restart(desk.system)
    assert desk.sell(20) == "LEASE_OVER"
    desk.renew(desk.text(number + 1), "Alice", "Bob")
    assert desk.sell(20) == ""


def test_a_clock_that_was_set_back_does_not_bring_it_back(desk: Desk) -> None:
    """What the log knows to have passed lies ahead of the clock, as after setting it back by two hours."""
    number = desk.mandate().lease.number
    stop(desk.system)
    edit_state(desk.system, lambda facts: facts.update(latest=now() + 120))
    restart(desk.system)
    assert desk.sell(30) == "LEASE_CLOCK"
    # Killing and restarting do not help.
    worker = desk.system.kill_worker()
    until(lambda: desk.system.worker_pid != worker)
    assert desk.sell(31) in ("LEASE_CLOCK", "MODULE_INTERRUPTED", "MODULE_UNAVAILABLE")
    stop(desk.system)
    restart(desk.system)
    assert desk.sell(32) == "LEASE_CLOCK"
    # The officers' next lease says what time it is.
    desk.renew(desk.text(number + 1), "Alice", "Bob")
    assert desk.sell(32) == ""


def test_an_older_lease_put_back_on_the_disk_does_not_count(desk: Desk) -> None:
    number = desk.mandate().lease.number
    file = desk.system.state / "audit" / "lease"
    older = file.read_bytes()
    desk.renew(desk.text(number + 1, until=0), "Alice", "Bob")
    stop(desk.system)
    newer = file.read_bytes()
    file.write_bytes(older)
    restart(desk.system)
    assert desk.sell(40) == "LEASE_OUTDATED"
    stop(desk.system)
    file.unlink()
    restart(desk.system)
    assert desk.sell(41) == "LEASE_OUTDATED"
    stop(desk.system)
    file.write_bytes(b"rubbish")
    restart(desk.system)
    assert desk.sell(42) == "LEASE_OUTDATED"
    assert "lease-not-recalled" in desk.system.log("module")
    stop(desk.system)
    file.write_bytes(newer)
    restart(desk.system)
    assert desk.sell(43) == "LEASE_OVER"
    desk.renew(desk.text(number + 2), "Alice", "Bob")
    assert desk.sell(43) == ""


def test_the_whole_disk_of_a_module_put_back_is_seen_by_the_ledger(desk: Desk) -> None:
    number = desk.mandate().lease.number
    audit = desk.system.state / "audit"
    stop(desk.system)
    copy = desk.system.state / "audit-before"
    subprocess.run(["cp", "-a", str(audit), str(copy)], check=True)
    restart(desk.system)
    desk.renew(desk.text(number + 1, until=0), "Alice", "Bob")
    assert desk.sell(50) == "LEASE_OVER"
    stop(desk.system)
    shutil.rmtree(audit)
    copy.rename(audit)
    restart(desk.system)
    # The module has the older lease and would go on; the ledger remembers the later one.
    assert desk.mandate().lease.number == number
    assert desk.sell(51) == "LEASE_OUTDATED"
    assert not serving(desk.system)
    desk.renew(desk.text(number + 2), "Alice", "Bob")
    assert desk.sell(51) == ""


def test_a_ceremony_beside_running_sales_brings_a_lease(desk: Desk) -> None:
    number = desk.mandate().lease.number + 1
    plan = f'kind = "lease"\nnumber = {number}\nvalid_from = 2026-11-01T00:00:00Z\nvalid_until = 2026-11-02T00:00:00Z\n'
    hold(desk.room, desk.room.plan("lease", plan), "Alice", "Bob")
    until(lambda: desk.mandate().lease.number == number)
    until(lambda: desk.sell(60) == "LEASE_OVER")
    # Another ceremony does not lose a lease that came online since.
    desk.renew(desk.text(number + 1), "Bob", "Carol")
    assert desk.sell(60) == ""
    hold(desk.room, desk.room.plan("another key", KEY.format("600701")), "Alice", "Bob")
    until(lambda: desk.system.log("module").count("token-store-taken-over") >= 2)
    assert desk.mandate().lease.number == number + 1
    assert desk.sell(61) == ""


def test_rubbish_instead_of_signatures(desk: Desk) -> None:
    with KeywattClient(desk.system.profile) as asked:
        text = desk.text(999)
        good = desk.sign(text, "Alice", "Bob")
        for fields, wanted in (
            ({"text": text, "signatures": ["rubbish"]}, "SIGNATURE_UNREADABLE"),
            ({"text": text, "signatures": []}, "FIELD_MISSING"),
            ({"text": "", "signatures": good}, "FIELD_MISSING"),
            ({"text": "x" * 100_000, "signatures": good}, "LEASE_UNREADABLE"),
            ({"text": text, "signatures": good * 9}, "LEASE_UNREADABLE"),
            ({"text": text, "signatures": [good[0]] * 16}, "LEASE_NOT_SIGNED"),
        ):
            with pytest.raises(ClientError) as refused:
                asked.call(asked.mandate.RenewLease, mandate_pb2.RenewLeaseRequest(**fields))  # type: ignore[arg-type]
            assert refused.value.reason == wanted
            assert refused.value.code is not grpc.StatusCode.INTERNAL
    assert desk.mandate().lease.number < 999


def test_the_commands(desk: Desk, tmp_path: Path) -> None:
    """As the runbook has it: text, ssh-keygen, renew, mandate."""
    import sysconfig

    program = str(Path(sysconfig.get_path("scripts")) / "keywatt")
    profile = ["--profile", str(desk.system.state / "client" / "client.toml")]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *profile, *arguments], capture_output=True, text=True, timeout=60, check=False)

    printed = run("lease", "text", "--days", "10")
    assert printed.returncode == 0
    assert "ssh-keygen -Y sign -n lease@keywatt.dev" in printed.stderr
    paths = []
    for place, signature in enumerate(desk.sign(printed.stdout, "Alice", "Carol")):
        paths.append(tmp_path / f"{place}.sig")
        paths[-1].write_text(signature)
    lines = tmp_path / "lease.txt"
    lines.write_text(printed.stdout)
    assert run("lease", "renew", str(lines), str(paths[0])).returncode == 1
    done = run("lease", "renew", str(lines), *map(str, paths))
    assert done.returncode == 0, done.stderr
    assert "until" in done.stdout
    shown = run("mandate")
    assert shown.returncode == 0
    assert "No policy" in shown.stdout
    assert "lease" in shown.stdout
    assert "soon" in shown.stdout
    assert json.loads(run("mandate", "--json").stdout)["lease"]["number"]
    assert run("lease", "renew", str(tmp_path / "none"), str(paths[0])).returncode == 2
