"""The log of a running system, as its readers see it: proofs, receipts, tokens from the field, reconciliation."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import uuid
from pathlib import Path
from typing import Any

import pytest
from keywatt.audit.v1 import audit_pb2
from keywatt.keys.v1 import keys_pb2
from keywatt.type.v1 import meter_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client.client import ClientError, KeywattClient
from hsm.log import leaves
from hsm.log.checkpoints import Checkpoint
from hsm.log.errors import NoteInvalid, ProofInvalid
from hsm.log.merkle import leaf_hash, verify_consistency, verify_inclusion
from hsm.log.notes import Note, VerifierKey
from hsm.log.receipts import Receipt
from hsm.log.verifier import verify_log
from hsm.system_users import APPLIANCE_USER, as_user
from sts import codec
from sts.amount import Amount16
from sts.credit import CreditSubClass, TransferCredit
from sts.token_identifier import BaseDate, TokenIdentifier
from tests.support.oracle import decoder_key
from tests.support.system import ROOT, System

PAN = "600727000000000009"
METER = meter_pb2.MeterConfiguration(
    meter_pan=PAN, supply_group_code="201457", key_revision_number=1, tariff_index="01", encryption_algorithm=11
)


def sale(amount: str = "25.6") -> vending_pb2.IssueCreditTokenRequest:
    return vending_pb2.IssueCreditTokenRequest(
        request_id=str(uuid.uuid4()), meter=METER, credit_type=vending_pb2.CREDIT_TYPE_ELECTRICITY, amount=amount
    )


def key_of(client: KeywattClient) -> VerifierKey:
    status = client.call(client.keys.GetModuleStatus, keys_pb2.GetModuleStatusRequest())
    return VerifierKey.parse(status.log_verifier_key)


def checkpoint(client: KeywattClient) -> Checkpoint:
    shown = client.call(client.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest(fresh=True))
    opened = Checkpoint.open(Note.parse(shown.checkpoint), key_of(client))
    assert (opened.origin, opened.size, opened.root) == (shown.origin, shown.tree_size, shown.root_hash)
    return opened


def entries(client: KeywattClient, start: int = 0, count: int = 0) -> list[dict[str, Any]]:
    request = audit_pb2.ListLeavesRequest(start_index=start, count=count)
    found = [leaf for response in client.stream(client.audit.ListLeaves, request) for leaf in response.leaves]
    assert [leaf.index for leaf in found] == list(range(start, start + len(found)))
    return [leaves.decode(leaf.entry) for leaf in found]


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sysconfig.get_path("scripts")) / program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def reconcile(system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    config = str(system.state / "appliance" / "appliance.toml")
    return run(
        "keywatt-reconcile", "--config", config, "--key", str(system.state / "audit" / "verifier-key"), *arguments
    )


def test_every_sale_refusal_and_verification_is_in_the_log(system: System) -> None:
    with system.client() as client:
        before = checkpoint(client).size
        request = sale()
        answer = client.call(client.vending.IssueCreditToken, request)
        assert client.call(client.vending.IssueCreditToken, request) == answer
        with pytest.raises(ClientError, match="refused"):
            large = sale(str(10**32))
            large.credit_type = vending_pb2.CREDIT_TYPE_ELECTRICITY_CURRENCY
            client.call(client.vending.IssueCreditToken, large)
        with pytest.raises(ClientError):
            unknown = sale()
            unknown.meter.supply_group_code = "999999"
            client.call(client.vending.IssueCreditToken, unknown)
        client.call(client.vending.VerifyToken, vending_pb2.VerifyTokenRequest(token=answer.token.digits, meter=METER))
        client.call(client.vending.VerifyToken, vending_pb2.VerifyTokenRequest(token="0" * 20, meter=METER))
        trial = sale()
        trial.validate_only = True
        client.call(client.vending.IssueCreditToken, trial)
        found = entries(client, before)
    assert [leaf["type"] for leaf in found] == ["issue", "refusal", "verify", "verify"]
    issued, refused, genuine, wrong = found
    assert issued["token"] == leaves.token_hash(answer.token.digits)
    assert issued["client"] == "spiffe://keywatt.dev/development"
    assert issued["request"] == request.request_id.replace("-", "")
    assert (issued["meter"], issued["key"], issued["value"]) == (PAN, "201457/1", "256")
    assert issued["tid"] == answer.token.token_identifier
    assert refused["reason"] == "AMOUNT_TOO_LARGE"
    assert (genuine["result"], wrong["result"]) == ("OK", "CRC_MISMATCH")
    assert answer.token.log_index == before
    assert not any(answer.token.digits in json.dumps(leaf) for leaf in found)


def test_key_changes_and_class_1_are_in_the_log(system: System) -> None:
    with system.client() as client:
        before = checkpoint(client).size
        change = vending_pb2.IssueKeyChangeTokensRequest(
            request_id=str(uuid.uuid4()),
            meter=METER,
            target=meter_pb2.KeyAssignment(supply_group_code="201457", key_revision_number=1, tariff_index="02"),
        )
        answer = client.call(client.vending.IssueKeyChangeTokens, change)
        test = vending_pb2.IssueMeterTestTokenRequest(request_id=str(uuid.uuid4()), test=1)
        tested = client.call(client.vending.IssueMeterTestToken, test)
        changed, class_1 = entries(client, before)
    assert changed["tokens"] == [leaves.token_hash(token.digits) for token in answer.tokens]
    assert {token.log_index for token in answer.tokens} == {before}
    assert (changed["ti"], changed["new-ti"], changed["new-key"]) == ("01", "02", "201457/1")
    assert class_1["token"] == leaves.token_hash(tested.token.digits)
    assert "meter" not in class_1
    assert "key" not in class_1


def test_start_and_keys_are_the_first_entries_and_a_worker_that_comes_back_says_so(system: System) -> None:
    with system.client() as client:
        first, keys = entries(client, 0, 2)
        assert (first["type"], first["mode"], first["keys"]) == ("start", "online", 5)
        assert "201457/1 6c3de4" in keys["added"]
        before = checkpoint(client).size
        system.kill_worker()
        client.issue(client.vending.IssueCreditToken, sale())
        assert [leaf["type"] for leaf in entries(client, before)] == ["start", "issue"]


def test_proofs_prove(system: System) -> None:
    with system.client() as client:
        old = checkpoint(client)
        for _ in range(5):
            client.call(client.vending.IssueCreditToken, sale())
        new = checkpoint(client)
        shown = client.call(client.audit.GetConsistencyProof, audit_pb2.GetConsistencyProofRequest(old_size=old.size))
        verify_consistency(old.size, shown.new_size, old.root, new.root, list(shown.hashes))
        for index in (0, old.size, new.size - 1):
            proof = client.call(client.audit.GetInclusionProof, audit_pb2.GetInclusionProofRequest(index=index))
            verify_inclusion(index, proof.tree_size, proof.leaf_hash, new.root, list(proof.hashes))
        with pytest.raises(ClientError) as refusal:
            client.call(client.audit.GetInclusionProof, audit_pb2.GetInclusionProofRequest(index=1 << 40))
        assert refusal.value.reason == "LOG_ENTRY_UNKNOWN"


def test_a_receipt_stands_alone(system: System, tmp_path: Path) -> None:
    with system.client() as client:
        key = key_of(client)
        request = sale()
        answer = client.call(client.vending.IssueCreditToken, request)
        of_request = audit_pb2.GetReceiptRequest(request_id=request.request_id)
        (octets,) = client.call(client.audit.GetReceipt, of_request).receipts
        receipt = Receipt.parse(octets)
        assert receipt.index == answer.token.log_index
        assert receipt.verify(key).size > receipt.index
        assert receipt.pack() == octets
        with pytest.raises(ClientError) as refusal:
            client.call(client.audit.GetReceipt, audit_pb2.GetReceiptRequest(request_id=str(uuid.uuid4())))
        assert refusal.value.reason == "ISSUANCE_UNKNOWN"
    path = tmp_path / "sale.tlog-proof"
    path.write_bytes(octets)
    proven = run("keywatt-verify", "receipt", str(path), "--key", str(key), "--token", answer.token.grouped)
    assert proven.returncode == 0, proven.stdout
    assert "value      256" in proven.stdout
    other = run("keywatt-verify", "receipt", str(path), "--key", str(key), "--token", "1" * 20)
    assert other.returncode == 1
    for place in range(0, len(octets), 7):
        altered = bytearray(octets)
        altered[place] ^= 1
        with pytest.raises((ProofInvalid, NoteInvalid)):
            Receipt.parse(bytes(altered)).verify(key)


def test_the_whole_log_is_proven_offline(system: System, tmp_path: Path) -> None:
    with system.client() as client:
        client.call(client.vending.IssueCreditToken, sale())
        size = checkpoint(client).size
    folder, key = system.state / "audit", str(system.state / "audit" / "verifier-key")
    report = verify_log(folder, VerifierKey.parse(Path(key).read_text().strip()))
    assert report.is_whole
    assert report.size == size
    proven = run("keywatt-verify", "log", str(folder), "--key", key)
    assert proven.returncode == 0
    assert f"proven: all {size} entries" in proven.stdout
    exported = tmp_path / "leaves.jsonl"
    profile = str(system.state / "client" / "client.toml")
    exported.write_text(run("keywatt", "--profile", profile, "audit", "leaves").stdout)
    again = run("keywatt-verify", "export", str(exported), "--checkpoint", str(folder / "checkpoint"), "--key", key)
    assert again.returncode == 0, again.stdout + again.stderr


def identify(client: KeywattClient, token: str, meter: meter_pb2.MeterConfiguration | None = METER) -> Any:
    return client.call(client.audit.IdentifyToken, audit_pb2.IdentifyTokenRequest(token=token, meter=meter))


def test_a_token_from_the_field_is_known(system: System) -> None:
    with system.client() as client:
        request = sale()
        answer = client.call(client.vending.IssueCreditToken, request)
        for meter in (METER, None):
            found = identify(client, answer.token.digits, meter)
            assert found.origin == audit_pb2.TOKEN_ORIGIN_ISSUED
            assert found.log_index == answer.token.log_index
            assert leaves.decode(found.entry)["request"] == request.request_id.replace("-", "")
        assert identify(client, "12345678901234567890").origin == audit_pb2.TOKEN_ORIGIN_UNKNOWN


def test_a_genuine_token_that_is_in_no_log_is_an_alarm(system: System) -> None:
    # What a stolen vending key makes: a token that the meter takes.
    identifier = TokenIdentifier(minutes=6_000_002, base_date=BaseDate.BDT_2014)
    forged = codec.encode(
        TransferCredit(
            subclass=CreditSubClass.ELECTRICITY,
            random_number=3,
            token_identifier=identifier.minutes,
            amount=Amount16.from_units(999),
        ),
        decoder_key(PAN, "201457", 11),
    )
    with system.client() as client:
        assert identify(client, forged.digits).origin == audit_pb2.TOKEN_ORIGIN_MISUSE
    assert '"key-or-module-misused"' in system.log("appliance")
    profile = str(system.state / "client" / "client.toml")
    shown = run("keywatt", "--profile", profile, "audit", "identify", forged.digits, "--meter", PAN, "--sgc", "201457")
    assert shown.returncode == 4
    assert "MISUSE" in shown.stdout


FORGERY = """
import asyncio, sys
from pathlib import Path
from hsm.client import ModuleClient
from hsm.frames import Asker
from hsm.keys import KeyReference
from hsm.requests import IssueItem
from sts.identifiers import KeyRevisionNumber, SupplyGroupCode

async def work():
    client = ModuleClient(Path(sys.argv[1]))
    key = KeyReference(
        supply_group_code=SupplyGroupCode(digits="201457"), key_revision_number=KeyRevisionNumber(number=1)
    )
    item = IssueItem(token_class=0, subclass=0, value=500, ea=11, tct=2, tariff_index="01",
        pan="600727000000000009", token_identifier=int(sys.argv[2]))
    askers = [Asker(client="spiffe://keywatt.dev/development", request_id=bytes(15) + b"x")] if sys.argv[3] else []
    (issued,) = await client.issue(key, [item], askers)
    print(issued.digits, issued.log_index)
    await client.close()

asyncio.run(work())
"""


@pytest.mark.parametrize("named", ["", "named"])
def test_what_a_compromised_appliance_gets_is_in_the_log_and_reconciliation_names_it(
    system: System, named: str
) -> None:
    with system.client() as client:
        answer = client.call(client.vending.IssueCreditToken, sale())
        checkpoint(client)
        command = [sys.executable, "-c", FORGERY, str(system.state / "run" / "module.sock")]
        environment = {"PYTHONPATH": str(ROOT), "PATH": str(Path(sys.executable).parent)}
        stolen = subprocess.run(
            [*command, str(answer.token.token_identifier + 20 + len(named)), named],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            **as_user(APPLIANCE_USER),
        )
        digits, index = stolen.stdout.split()
        found = identify(client, digits, None)
        assert found.origin == audit_pb2.TOKEN_ORIGIN_NOT_IN_LEDGER
        assert found.log_index == int(index)
    result = reconcile(system)
    assert result.returncode == 1, result.stderr
    assert f"DIFFERENCE entry {index}: made by the module, not in the ledger" in result.stdout
    shown = json.loads(reconcile(system, "--json").stdout)
    assert int(index) in [difference["index"] for difference in shown["differences"]]


def test_others_see_hashes_and_their_own_receipts_only(system: System) -> None:
    with system.client() as client:
        request = sale()
        client.call(client.vending.IssueCreditToken, request)
    config = system.state / "appliance" / "appliance.toml"
    text = config.read_text()
    config.write_text(text.replace('auditors = ["spiffe://keywatt.dev/development"]', "auditors = []"))
    system.kill_appliance()
    system.start_appliance()
    try:
        with system.client() as client:
            receipt = client.issue(client.audit.GetReceipt, audit_pb2.GetReceiptRequest(request_id=request.request_id))
            assert len(receipt.receipts) == 1
            client.call(client.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest())
            client.call(client.audit.GetInclusionProof, audit_pb2.GetInclusionProofRequest(index=0))
            for work in (
                lambda: entries(client),
                lambda: identify(client, "1" * 20),
                lambda: KeywattClient.call(client, client.audit.GetReceipt, audit_pb2.GetReceiptRequest(index=0)),
            ):
                with pytest.raises(ClientError) as refusal:
                    work()
                assert refusal.value.reason == "AUDITOR_REQUIRED"
    finally:
        config.write_text(text)
        system.kill_appliance()
        system.start_appliance()
        with system.client() as client:
            client.issue(client.vending.IssueCreditToken, sale())


def test_leaf_hashes_are_of_the_entries(system: System) -> None:
    with system.client() as client:
        request = audit_pb2.ListLeavesRequest(count=1)
        (response,) = list(client.stream(client.audit.ListLeaves, request))
        proof = client.call(client.audit.GetInclusionProof, audit_pb2.GetInclusionProofRequest(index=0))
    assert leaf_hash(response.leaves[0].entry) == proof.leaf_hash
