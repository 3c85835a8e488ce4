"""A policy on the running system: who is refused, what is reloaded, and a limit that kill -9 does not widen."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from keywatt.approval.v1 import approval_pb2
from keywatt.audit.v1 import audit_pb2
from keywatt.keys.v1 import keys_pb2
from keywatt.mandate.v1 import mandate_pb2
from keywatt.type.v1 import meter_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client import request_ids
from appliance.client.client import ClientError, KeywattClient
from tests.policy.governed import client_name, govern, put
from tests.policy.texts import EVERYTHING, client, limit, policy_text
from tests.support.meters import pan
from tests.support.system import System, running

MOST = 40


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running() as found:
        found.module_id = govern(found, client(client_name(found)))  # type: ignore[attr-defined]  # for these tests
        yield found


def text_of(system: System, *parts: str, number: int) -> str:
    return policy_text(*parts, number=number, module=system.module_id)  # type: ignore[attr-defined]


def request(number: int, amount: str = "1.0") -> vending_pb2.IssueCreditTokenRequest:
    return vending_pb2.IssueCreditTokenRequest(
        meter=meter_pb2.MeterConfiguration(
            meter_pan=pan(number),
            supply_group_code="201457",
            key_revision_number=1,
            tariff_index="01",
            encryption_algorithm=meter_pb2.ENCRYPTION_ALGORITHM_EA11,
        ),
        credit_type=vending_pb2.CREDIT_TYPE_ELECTRICITY,
        amount=amount,
        request_id=request_ids.new(),
    )


def until_in_force(system: System, number: int) -> None:
    end = time.monotonic() + 20
    wanted = f'"number": {number},'
    while not any(wanted in line and "policy-in-force" in line for line in system.log("appliance").splitlines()):
        assert time.monotonic() < end, system.log("appliance")[-2000:]
        time.sleep(0.05)


def refusal(asked: KeywattClient, method: object, message: object) -> ClientError:
    with pytest.raises(ClientError) as refused:
        asked.call(method, message)  # type: ignore[arg-type]
    return refused.value


def every_call(asked: KeywattClient) -> list[tuple[Any, Any]]:
    """Every call of every service, each with a request that would be good."""
    held = request(2).meter
    target = meter_pb2.KeyAssignment(supply_group_code="201457", key_revision_number=1, tariff_index="02")
    management = vending_pb2.IssueManagementTokenRequest(meter=held, request_id=request_ids.new())
    management.clear_tamper.SetInParent()
    test = vending_pb2.IssueMeterTestTokenRequest(subclass=0, test=1, request_id=request_ids.new())
    change = vending_pb2.IssueKeyChangeTokensRequest(meter=held, target=target, request_id=request_ids.new())
    return [
        (asked.vending.IssueCreditToken, request(2)),
        (asked.vending.IssueManagementToken, management),
        (asked.vending.IssueMeterTestToken, test),
        (asked.vending.IssueKeyChangeTokens, change),
        (asked.vending.GetIssuance, vending_pb2.GetIssuanceRequest(request_id=request_ids.new())),
        (asked.vending.ListIssuances, vending_pb2.ListIssuancesRequest(meter_pan=pan(1))),
        (asked.vending.VerifyToken, vending_pb2.VerifyTokenRequest(token="0" * 20, meter=held)),
        (asked.keys.ListVendingKeys, keys_pb2.ListVendingKeysRequest()),
        (asked.keys.GetModuleStatus, keys_pb2.GetModuleStatusRequest()),
        (asked.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest()),
        (asked.audit.GetInclusionProof, audit_pb2.GetInclusionProofRequest(index=0)),
        (asked.audit.GetConsistencyProof, audit_pb2.GetConsistencyProofRequest(old_size=1)),
        (asked.audit.GetReceipt, audit_pb2.GetReceiptRequest(index=0)),
        (asked.audit.GetReceipt, audit_pb2.GetReceiptRequest(request_id=request_ids.new())),
        (asked.audit.IdentifyToken, audit_pb2.IdentifyTokenRequest(token="0" * 20)),
        (asked.approval.ProposeIssuance, approval_pb2.ProposeIssuanceRequest(request={"credit": request(2)})),
        (
            asked.approval.ApproveIssuance,
            approval_pb2.ApproveIssuanceRequest(proposal_id=request_ids.new(), digest="x"),
        ),
        (asked.approval.RejectIssuance, approval_pb2.RejectIssuanceRequest(proposal_id=request_ids.new())),
        (asked.approval.ExecuteIssuance, approval_pb2.ExecuteIssuanceRequest(proposal_id=request_ids.new())),
        (asked.approval.GetProposal, approval_pb2.GetProposalRequest(proposal_id=request_ids.new())),
        (asked.approval.ListProposals, approval_pb2.ListProposalsRequest()),
        (asked.mandate.GetMandate, mandate_pb2.GetMandateRequest()),
        (asked.mandate.RenewLease, mandate_pb2.RenewLeaseRequest(text="x", signatures=["x"])),
    ]


REVOKED = 107
ISSUES = (*range(4), 15)
READS = (*range(4, 12), 13, 21)
AUDITS = (12, 14)
KNOWN = range(16, 21)
RENEWS = 22
# Of many requests at once, each of which is judged alone; and one that answers without end.
APART = {"BatchIssueTokens", "StreamIssueTokens", "ListLeaves"}


def test_the_matrix_has_every_call(system: System) -> None:
    wanted = {
        f"/{service.full_name}/{method.name}"
        for file in (vending_pb2, keys_pb2, audit_pb2, approval_pb2, mandate_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if method.name not in APART
    }
    with KeywattClient(system.profile) as asked:
        assert {method._method.decode() for method, _ in every_call(asked)} == wanted


@pytest.mark.parametrize(
    ("number", "parts", "allowed"),
    [
        (101, {"grants": "", "reads": True}, {*READS, *KNOWN}),
        (102, {"grants": EVERYTHING, "reads": False}, {*ISSUES, *KNOWN}),
        (103, {"grants": "", "reads": True, "audits": True}, {*READS, *AUDITS, *KNOWN}),
        (104, {"grants": EVERYTHING, "audits": True}, {*ISSUES, *READS, *AUDITS, *KNOWN}),
        (105, {"grants": "", "reads": False}, {*KNOWN}),
        (106, {"grants": "", "reads": False, "renews_lease": True}, {*KNOWN, RENEWS}),
        (REVOKED, {"grants": EVERYTHING, "audits": True, "is_revoked": True}, set()),
    ],
)
def test_every_call_for_every_role(system: System, number: int, parts: dict[str, Any], allowed: set[int]) -> None:
    put(system, text_of(system, client(client_name(system), **parts), number=number))
    until_in_force(system, number)
    denials = {"NOT_AUTHORISED", "AUDITOR_REQUIRED", "CLIENT_REVOKED"}
    with KeywattClient(system.profile) as asked:
        found = set()
        for place, (method, message) in enumerate(every_call(asked)):
            try:
                asked.call(method, message)
                found.add(place)
            except ClientError as error:
                if error.reason not in denials:
                    # Allowed, and then refused for what it asks: there is no such issuance, entry or token.
                    found.add(place)
        # A batch tells it of each of its requests, a stream of leaves of the whole.
        batch = vending_pb2.BatchIssueTokensRequest(requests=[vending_pb2.TokenRequest(credit=request(4))])
        if number == REVOKED:
            assert refusal(asked, asked.vending.BatchIssueTokens, batch).reason == "CLIENT_REVOKED"
        else:
            (result,) = asked.call(asked.vending.BatchIssueTokens, batch).results
            assert (result.WhichOneof("result") == "credit") == (0 in allowed)
    assert found == allowed


def test_a_policy_is_reloaded_while_calls_go_on(system: System) -> None:
    name = client_name(system)
    put(system, text_of(system, client(name), number=110))
    until_in_force(system, 110)
    with KeywattClient(system.profile) as asked:
        asked.issue(asked.vending.IssueCreditToken, request(1))
        only_water = '[[client.grant]]\nsupply_groups = ["201457"]\nclasses = ["0.1"]\n'
        put(system, text_of(system, client(name, only_water, reads=False), number=150))
        until_in_force(system, 150)
        for place, (method, message) in enumerate(every_call(asked)):
            if place in KNOWN:
                # Nothing that concerns this client is there.
                continue
            error = refusal(asked, method, message)
            assert (error.code, error.reason) in {
                (grpc.StatusCode.PERMISSION_DENIED, "NOT_AUTHORISED"),
                (grpc.StatusCode.PERMISSION_DENIED, "AUDITOR_REQUIRED"),
            }, (method, error)
            assert not error.retryable
        water = request(2)
        water.credit_type = vending_pb2.CREDIT_TYPE_WATER
        asked.issue(asked.vending.IssueCreditToken, water)
        put(system, text_of(system, client(name, EVERYTHING, is_revoked=True), number=151))
        until_in_force(system, 151)
        assert refusal(asked, asked.vending.IssueCreditToken, water).reason == "CLIENT_REVOKED"
        put(system, text_of(system, client("somebody-else"), number=152))
        until_in_force(system, 152)
        assert refusal(asked, asked.vending.IssueCreditToken, water).reason == "NOT_AUTHORISED"
        # An older one is refused, and says so; what is in force stays.
        put(system, text_of(system, client(name), number=1))
        end = time.monotonic() + 10
        while "POLICY_OUTDATED" not in system.log("appliance"):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert refusal(asked, asked.vending.IssueCreditToken, water).reason == "NOT_AUTHORISED"
        put(system, text_of(system, client(name), number=153))
        until_in_force(system, 153)
        asked.issue(asked.vending.IssueCreditToken, request(3))


class Sellers:
    """Sell to so many meters from several threads; each sale is repeated until it is answered."""

    def __init__(self, system: System, numbers: range) -> None:
        self.granted: set[str] = set()
        self.refused: list[str] = []
        self._system = system
        self._numbers = iter(numbers)
        self._lock = threading.Lock()
        self.threads = [threading.Thread(target=self._sell) for _ in range(6)]
        for thread in self.threads:
            thread.start()

    def _sell(self) -> None:
        with KeywattClient(self._system.profile) as asked:
            while (number := self._next()) is not None:
                sale = request(number)
                while not self._is_answered(asked, sale):
                    pass

    def _next(self) -> int | None:
        with self._lock:
            return next(self._numbers, None)

    def _is_answered(self, asked: KeywattClient, sale: vending_pb2.IssueCreditTokenRequest) -> bool:
        try:
            token = asked.issue(asked.vending.IssueCreditToken, sale).token.digits
        except ClientError as error:
            if error.reason != "LIMIT_EXCEEDED":
                if error.retryable or not error.reason:
                    return False
                raise
            with self._lock:
                self.refused.append(error.details["limit"])
            return True
        with self._lock:
            self.granted.add(token)
        return True

    def end(self) -> None:
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()


def test_a_limit_through_kill_9(system: System) -> None:
    """The appliance is killed while 200 meters buy: exactly so many get a token as the limit says."""
    put(system, text_of(system, client(client_name(system)), limit("daily", "all", count=MOST), number=200))
    until_in_force(system, 200)
    sellers = Sellers(system, range(10_000, 10_200))
    source = random.Random(5)
    for _ in range(4):
        time.sleep(source.uniform(0.05, 0.4))
        system.kill_appliance()
        system.start_appliance()
    sellers.end()
    assert len(sellers.granted) == MOST
    assert sellers.refused == ["daily"] * (200 - MOST)


def test_an_appliance_does_not_start_without_the_policy_that_it_names(system: System) -> None:
    folder = system.state / "appliance" / "policy"
    keep = (folder / "policy.toml").read_text()
    system.kill_appliance()
    (folder / "policy.toml").write_text("rubbish")
    system.start_appliance()
    process = system.servers._processes[1]
    assert process.wait(30) != 0
    assert "POLICY_INVALID" in system.log("appliance")
    put(system, keep)
    system.start_appliance()
    end = time.monotonic() + 30
    with KeywattClient(system.profile) as asked:
        while True:
            try:
                asked.call(asked.keys.GetModuleStatus, keys_pb2.GetModuleStatusRequest())
                break
            except ClientError:
                assert time.monotonic() < end
                time.sleep(0.2)
