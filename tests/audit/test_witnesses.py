"""A system that demands witnesses: what waits for them, what they see, and what a log that was put back can still do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from keywatt.audit.v1 import audit_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client.client import ClientError, KeywattClient
from hsm.log.checkpoints import CHECKPOINT, WITNESSED, Checkpoint
from hsm.log.notes import COSIGNATURE, Note
from hsm.log.policy import WitnessPolicy
from hsm.log.receipts import Receipt
from hsm.log.verifier import verify_log
from hsm.system_users import APPLIANCE_USER, as_user
from tests.audit.test_log_of_a_system import METER, entries, run, sale
from tests.log.support import Signer
from tests.support.system import ROOT, System, run_script, running
from tests.support.witnesses import WitnessProcess, demand, log_key

RULES = """
[[log.witnesses.require]]
tokens = ["0", "2.1"]
max_age_seconds = 4

[[log.witnesses.require]]
tokens = ["0.4"]
quorum = "both"
max_age_seconds = 4
"""


class Witnessed:
    """A system with two witnesses."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system = system
        self.key = log_key(system)
        self.witnesses = [WitnessProcess.make(folder / name, name) for name in ("auditor", "regulator")]
        lines = "".join(witness.policy_line for witness in self.witnesses)
        text = f"log {self.key}\n{lines}group both all auditor regulator\ngroup one any auditor regulator\nquorum one\n"
        self.policy = WitnessPolicy.parse(text)
        self.policy_path = demand(system, text, RULES)

    def start_witnesses(self) -> None:
        for witness in self.witnesses:
            if witness.process is None:
                witness.start(self.key)

    def stop_witnesses(self) -> None:
        for witness in self.witnesses:
            witness.stop()


@pytest.fixture
def witnessed(tmp_path: Path) -> Iterator[Witnessed]:
    edits = [("module.toml", "[log]\n", "[log]\ncheckpoint_seconds = 0.2\n")]
    with ExitStack() as stack:
        system = stack.enter_context(running(edits=edits))
        system.stop()
        found = Witnessed(system, tmp_path)
        stack.callback(found.stop_witnesses)
        yield found


def within(seconds: float, attempt: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + seconds
    while not attempt():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def reason_of(client: KeywattClient, request: vending_pb2.IssueCreditTokenRequest) -> str:
    """Return why there is no token, or nothing if there is one."""
    try:
        response = client.call(client.vending.IssueCreditToken, request)
    except ClientError as error:
        return error.reason
    assert len(response.token.digits) == (0 if request.validate_only else 20)
    return ""


def probe() -> vending_pb2.IssueCreditTokenRequest:
    """Ask whether a sale would be possible, as often as one likes: it uses up no identifier."""
    request = sale()
    request.validate_only = True
    return request


def sells(client: KeywattClient) -> bool:
    return not reason_of(client, probe()) and not reason_of(client, sale())


def in_currency() -> vending_pb2.IssueCreditTokenRequest:
    return vending_pb2.IssueCreditTokenRequest(
        request_id=str(uuid.uuid4()),
        meter=METER,
        credit_type=vending_pb2.CREDIT_TYPE_ELECTRICITY_CURRENCY,
        amount="5",
    )


def meter_test() -> vending_pb2.IssueMeterTestTokenRequest:
    return vending_pb2.IssueMeterTestTokenRequest(request_id=str(uuid.uuid4()), subclass=0, test=0)


def tariff_rate() -> vending_pb2.IssueManagementTokenRequest:
    return vending_pb2.IssueManagementTokenRequest(request_id=str(uuid.uuid4()), meter=METER, tariff_rate=7)


def test_tokens_wait_for_witnesses(witnessed: Witnessed) -> None:
    system = witnessed.system
    system.start()
    with system.client() as client:
        waiting = sale()
        assert reason_of(client, waiting) == "LOG_NOT_WITNESSED"
        assert entries(client)[-1]["reason"] == "LOG_NOT_WITNESSED"
        with pytest.raises(ClientError) as refused:
            client.call(client.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest(witnessed=True))
        assert refused.value.reason == "LOG_ENTRY_UNWITNESSED"
        # What no rule covers is issued, also in the company of what waits.
        batch = vending_pb2.BatchIssueTokensRequest(
            requests=[
                vending_pb2.TokenRequest(credit=sale()),
                vending_pb2.TokenRequest(meter_test=meter_test()),
                vending_pb2.TokenRequest(management=tariff_rate()),
                vending_pb2.TokenRequest(credit=sale()),
            ]
        )
        results = client.call(client.vending.BatchIssueTokens, batch).results
        issued = [result.WhichOneof("result") for result in results]
        # A tariff rate is 2.2: under the same key, in the same batch of the module.
        assert issued == ["error", "meter_test", "management", "error"]
        assert len(results[2].management.token.digits) == 20

        witnessed.witnesses[0].start(witnessed.key)
        within(20, lambda: not reason_of(client, waiting), "the sale that waited")
        assert reason_of(client, in_currency()) == "LOG_NOT_WITNESSED"
        witnessed.witnesses[1].start(witnessed.key)
        within(20, lambda: not reason_of(client, in_currency()), "a sale that needs both")

        proven_by_witnesses(client, witnessed, waiting.request_id)
        # A worker that is new is seen by witnesses before it issues, and then it issues.
        system.kill_worker()
        within(20, lambda: sells(client), "a sale behind a new worker")

        # An idle log stays fresh: its checkpoint is cosigned again and again.
        time.sleep(6)
        assert sells(client)
        witnessed.stop_witnesses()
        within(20, lambda: reason_of(client, probe()) == "LOG_NOT_WITNESSED", "cosignatures that grow old")
        assert "witness-does-not-cosign" in system.log("appliance")
        witnessed.start_witnesses()
        within(40, lambda: sells(client), "witnesses that are back")
        assert "witness-cosigns-again" in system.log("appliance")
    assert "witness-speaks-against-log" not in system.log("appliance")


def proven_by_witnesses(client: KeywattClient, witnessed: Witnessed, request_id: str) -> None:
    def receipts() -> list[bytes]:
        try:
            request = audit_pb2.GetReceiptRequest(request_id=request_id, witnessed=True)
            return list(client.call(client.audit.GetReceipt, request).receipts)
        except ClientError as error:
            if error.reason != "LOG_ENTRY_UNWITNESSED":
                raise
            return []

    within(20, lambda: bool(receipts()), "a receipt with cosignatures")
    (receipt,) = receipts()
    Receipt.parse(receipt).verify(witnessed.key, witnessed.policy)
    # The issuance itself brings it along now.
    found = client.call(client.vending.GetIssuance, vending_pb2.GetIssuanceRequest(request_id=request_id))
    Receipt.parse(found.receipts[0]).verify(witnessed.key, witnessed.policy)
    shown = client.call(client.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest(witnessed=True))
    note = Note.parse(shown.checkpoint)
    Checkpoint.open(note, witnessed.key)
    assert witnessed.policy.is_met(witnessed.policy.cosigned(note))
    with pytest.raises(ClientError):
        client.call(client.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest(witnessed=True, fresh=True))
    folder = witnessed.system.state / "audit"
    copy = witnessed.policy_path.parent / "copy"
    shutil.copytree(folder, copy)
    report = verify_log(copy, witnessed.key, policy=witnessed.policy)
    shutil.rmtree(copy)
    assert report.is_whole, report.findings
    assert report.witnessed
    shown_by_command = run(
        "keywatt-verify", "log", str(folder), "--key", str(witnessed.key), "--policy", str(witnessed.policy_path)
    )
    assert "witness    auditor" in shown_by_command.stdout, shown_by_command


def test_a_log_that_was_put_back_issues_nothing_and_is_told_of(witnessed: Witnessed, tmp_path: Path) -> None:
    system, audit = witnessed.system, witnessed.system.state / "audit"
    witnessed.start_witnesses()
    system.start()
    with system.client() as client:
        within(20, lambda: sells(client), "a sale")
    system.stop()
    image = tmp_path / "image"
    shutil.copytree(audit, image, copy_function=shutil.copy2)
    system.start()
    with system.client() as client:
        within(20, lambda: sells(client), "a sale that somebody would like to have never happened")
        size = len(entries(client))

        def all_seen() -> bool:
            note = Note.parse((audit / WITNESSED).read_bytes())
            return Checkpoint.parse(note.text).size >= size

        within(20, all_seen, "witnesses have seen it")
    system.stop()

    truth = tmp_path / "truth"
    shutil.copytree(audit, truth, copy_function=shutil.copy2)
    put_back(image, audit)
    system.start()
    with system.client() as client:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            assert reason_of(client, probe()) == "LOG_NOT_WITNESSED"
            time.sleep(0.2)
        alarms = [json.loads(line) for line in system.log("appliance").splitlines() if "speaks-against" in line]
        assert {alarm["witness"] for alarm in alarms if "it saw this log with" in alarm["what"]} == {
            "auditor",
            "regulator",
        }, alarms
        # Grown beyond what witnesses saw, it is another history.
        for _ in range(size):
            client.call(client.vending.IssueMeterTestToken, meter_test())
        within(20, lambda: "inconsistent" in system.log("appliance"), "an alarm about another history")
        assert reason_of(client, probe()) == "LOG_NOT_WITNESSED"
    # What was cosigned of the true log proves to the module itself that this is not it.
    assert offer(system, (truth / WITNESSED).read_bytes()) == "MODULE_INTERRUPTED"
    assert "log-forked" in system.log("module")
    # And for good: the proof lies beside the log, and no worker starts on it any more.
    within(20, lambda: "checkpoint.forked proves" in system.log("module"), "a worker that refuses to start")
    with system.client() as client:
        assert reason_of(client, probe()).startswith("MODULE_")
        with pytest.raises(ClientError):
            client.call(client.vending.IssueMeterTestToken, meter_test())
    system.stop()

    put_back(truth, audit)
    system.start()
    with system.client() as client:
        within(20, lambda: sells(client), "a sale on the true log")


def put_back(image: Path, folder: Path) -> None:
    """Put an image of a disk back, owners and all."""
    owners = {path.name: path.stat() for path in folder.iterdir()}
    owner = folder.stat()
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(image, folder, dirs_exist_ok=True)
    assert owners
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, owner.st_uid, owner.st_gid)


_OFFER = """
import asyncio, sys
from pathlib import Path
from hsm.client import ModuleClient
from hsm.errors import HsmError

async def offer():
    client = ModuleClient(Path(sys.argv[1]))
    try:
        await client.cosignatures(sys.stdin.buffer.read())
    except HsmError as error:
        print(error.reason, end="")

asyncio.run(offer())
"""


def offer(system: System, octets: bytes) -> str:
    """Play the appliance at the module's socket; return why the module does not take it, or nothing."""
    return subprocess.run(
        [sys.executable, "-c", _OFFER, str(system.state / "run" / "module.sock")],
        input=octets,
        capture_output=True,
        timeout=60,
        check=True,
        cwd=ROOT,
        **as_user(APPLIANCE_USER),
    ).stdout.decode()


def test_what_a_compromised_appliance_offers(witnessed: Witnessed) -> None:
    system = witnessed.system
    system.start()
    with system.client() as client:
        note = Note.parse(client.call(client.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest()).checkpoint)
        checkpoint = Checkpoint.parse(note.text)
        stranger = Signer.make("auditor", COSIGNATURE, seed=70)
        impostor = Signer.make(note.text.split("\n")[0], seed=71)
        forged = Checkpoint(origin=checkpoint.origin, size=checkpoint.size, root=bytes(32)).text
        real = witnessed.witnesses[0].key
        line = stranger.sign(note.text)
        as_auditor = type(line)(name=real.name, key_id=real.key_id, octets=line.octets)
        for octets in (
            b"",
            b"rubbish",
            note.pack(),
            note.merged([stranger.sign(note.text)]).pack(),
            note.merged([as_auditor]).pack(),
            Note(text=forged, signatures=(impostor.sign(forged), stranger.sign(forged))).pack(),
        ):
            assert offer(system, octets) == "COSIGNATURES_REFUSED", octets
        assert reason_of(client, probe()) == "LOG_NOT_WITNESSED"
        assert not (system.state / "audit" / WITNESSED).exists()
        assert Note.parse((system.state / "audit" / CHECKPOINT).read_bytes()).signatures[0].name == checkpoint.origin


def test_a_module_without_witnesses_takes_none(tmp_path: Path) -> None:
    with running() as system:
        assert offer(system, b"anything") == "COSIGNATURES_REFUSED"


def test_a_policy_of_another_log_starts_nothing(witnessed: Witnessed) -> None:
    text = witnessed.policy_path.read_text().replace(f"log {witnessed.key}", f"log {Signer.make('another').key}")
    witnessed.policy_path.write_text(text)
    ends_with(witnessed.system, "WITNESS_POLICY_INVALID")
    witnessed.policy_path.write_text("rubbish")
    ends_with(witnessed.system, "log.witnesses: line 1")


def ends_with(system: System, text: str) -> None:
    """Start a system that cannot serve; wait until its module process says why."""
    system.servers = run_script.Servers(system.state, system.port)
    try:
        within(40, lambda: text in system.log("module"), text)
    finally:
        system.stop()
    assert "serving" not in system.log("module").rpartition("worker-stopped")[2]
