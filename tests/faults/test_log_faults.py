"""The disk of the module's log is full, gone, damaged: no token without its entry, clear errors, and the way back."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from keywatt.audit.v1 import audit_pb2
from keywatt.type.v1 import meter_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client.client import ClientError, KeywattClient
from hsm.log import leaves
from hsm.log.export import read
from hsm.log.notes import VerifierKey
from hsm.log.tiles import TileReader
from hsm.log.verifier import verify_log
from tests.support.lab import CONTEXTS
from tests.support.system import System, running

METER = meter_pb2.MeterConfiguration(
    meter_pan="600727000000000009",
    supply_group_code="201457",
    key_revision_number=1,
    tariff_index="01",
    encryption_algorithm=11,
)


def sale() -> vending_pb2.IssueCreditTokenRequest:
    return vending_pb2.IssueCreditTokenRequest(
        request_id=str(uuid.uuid4()), meter=METER, credit_type=vending_pb2.CREDIT_TYPE_ELECTRICITY, amount="25.6"
    )


@pytest.fixture
def system() -> Iterator[System]:
    with running("online", CONTEXTS) as system:
        yield system


def prove(system: System, answers: list[vending_pb2.IssueCreditTokenResponse]) -> None:
    """Every token that was given out is in the log, and the log is whole."""
    folder = system.state / "audit"
    with system.client() as client:
        client.call(client.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest(fresh=True))
    report = verify_log(folder, VerifierKey.parse((folder / "verifier-key").read_text().strip()))
    assert report.is_whole, report.findings
    entries = dict(read(TileReader(folder, report.size)))
    for answer in answers:
        leaf = leaves.decode(entries[answer.token.log_index])
        assert leaf["token"] == leaves.token_hash(answer.token.digits)


def refused(client: KeywattClient, request: vending_pb2.IssueCreditTokenRequest) -> str:
    with pytest.raises(ClientError) as refusal:
        client.call(client.vending.IssueCreditToken, request)
    return refusal.value.reason


@pytest.mark.root
def test_a_full_disk_of_the_log_stops_issuing_and_space_starts_it_again(system: System) -> None:
    system.stop()
    folder = system.state / "audit"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        subprocess.run(["chown", "keywatt-hsm:keywatt", str(folder)], check=True)
        folder.chmod(0o2750)
        system.start()
        with system.client() as client:
            answers = [client.call(client.vending.IssueCreditToken, sale())]
            ballast = folder / "ballast"
            with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
                while True:
                    file.write(bytes(4096))
            # The journal has its space: issuing goes on until tiles are due. A checkpoint is; then nothing does.
            reasons = set()
            for _ in range(20):
                request = sale()
                try:
                    answers.append(client.call(client.vending.IssueCreditToken, request))
                    client.call(client.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest(fresh=True))
                except ClientError as error:
                    reasons.add(error.reason)
                time.sleep(0.05)
            assert reasons == {"LOG_UNAVAILABLE"}, system.log("module")[-2000:]
            assert refused(client, request) == "LOG_UNAVAILABLE"
            ballast.unlink()
            answers.append(client.issue(client.vending.IssueCreditToken, request))
        prove(system, answers)
    finally:
        system.stop()
        subprocess.run(["umount", str(folder)], check=False)


def test_a_damaged_log_is_not_written_on_and_nothing_is_issued(system: System) -> None:
    folder = system.state / "audit"
    with system.client() as client:
        client.call(client.vending.IssueCreditToken, sale())
    system.stop()
    state = folder / "state.json"
    before = state.read_bytes()
    state.write_bytes(before.replace(b'"root": "', b'"root": "0')[:-1] + b"}")
    system.servers = None
    with pytest.raises(SystemExit):
        system.start()
    assert "LOG_DAMAGED" in system.log("module")
    state.write_bytes(before)
    system.start()
    with system.client() as client:
        prove(system, [client.issue(client.vending.IssueCreditToken, sale())])


def test_an_appliance_that_cannot_read_the_log_issues_all_the_same(system: System) -> None:
    folder: Path = system.state / "audit"
    folder.chmod(0o2700)
    with system.client() as client:
        client.call(client.vending.IssueCreditToken, sale())
        with pytest.raises(ClientError) as refusal:
            client.call(client.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest())
        assert refusal.value.reason == "LOG_UNREADABLE"
        folder.chmod(0o2750)
        client.call(client.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest())
