"""What nobody may issue alone: proposed, approved by others, executed once; replays and changes of mind."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from keywatt.approval.v1 import approval_pb2
from keywatt.type.v1 import meter_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client import request_ids
from appliance.client.client import ClientError, KeywattClient
from tests.faults.test_policy import request, until_in_force
from tests.policy.governed import govern, put
from tests.policy.texts import client, limit, policy_text
from tests.support.authority import Clients
from tests.support.system import System, running

APPROVES = '[[client.approves]]\nsupply_groups = ["201457"]\nclasses = ["2.0-2", "2.5", "key-change", "0.0"]\n'
ENGINEER = (
    '[[client.grant]]\nsupply_groups = ["201457"]\nclasses = ["2.1", "2.5"]\napprovals = 1\n'
    '[[client.grant]]\nsupply_groups = ["201457"]\nclasses = ["key-change"]\napprovals = 2\n'
    '[[client.grant]]\nsupply_groups = ["201457"]\nclasses = ["0.0"]\nceiling_units = "100"\n'
    '[[client.grant]]\nsupply_groups = ["201457"]\nclasses = ["0.0"]\nceiling_units = "1000"\napprovals = 1\n'
)
STATE = approval_pb2.ProposalState


class Table:
    """Clients of a system, each with a connection."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.module = ""
        clients = Clients(system)
        self.profiles = {name: clients.add(name) for name in ("engineer", "first", "second", "stranger", "vendor")}
        self.by: dict[str, KeywattClient] = {}

    def text(self, number: int, engineer: str = ENGINEER, second: str = APPROVES, *more: str) -> str:
        parts = (
            client("engineer", engineer + APPROVES),
            client("first", APPROVES),
            client("second", second),
            client("stranger", ""),
            client("vendor", '[[client.grant]]\nsupply_groups = ["*"]\nclasses = ["0.0"]\n'),
            *more,
        )
        return policy_text(*parts, number=number, module=self.module)

    def put(self, number: int, *parts: Any) -> None:
        put(self.system, self.text(number, *parts))
        until_in_force(self.system, number)

    def propose(self, message: Any, by: str = "engineer") -> approval_pb2.Proposal:
        return self.call(by, "ProposeIssuance", request=wrapped(message)).proposal

    def approve(self, proposal: approval_pb2.Proposal, by: str, digest: str = "") -> approval_pb2.Proposal:
        fields = {"proposal_id": proposal.proposal_id, "digest": digest or proposal.digest}
        return self.call(by, "ApproveIssuance", **fields).proposal

    def execute(self, proposal: approval_pb2.Proposal, by: str = "engineer") -> approval_pb2.ExecuteIssuanceResponse:
        return self.call(by, "ExecuteIssuance", proposal_id=proposal.proposal_id)

    def state(self, proposal: approval_pb2.Proposal, by: str = "engineer") -> approval_pb2.Proposal:
        return self.call(by, "GetProposal", proposal_id=proposal.proposal_id).proposal

    def call(self, by: str, name: str, **fields: Any) -> Any:
        asked = self.by[by]
        return asked.call(getattr(asked.approval, name), getattr(approval_pb2, f"{name}Request")(**fields))


def wrapped(message: Any) -> vending_pb2.TokenRequest:
    field = {
        vending_pb2.IssueCreditTokenRequest: "credit",
        vending_pb2.IssueManagementTokenRequest: "management",
        vending_pb2.IssueKeyChangeTokensRequest: "key_change",
        vending_pb2.IssueMeterTestTokenRequest: "meter_test",
    }[type(message)]
    return vending_pb2.TokenRequest(**{field: message})


def tamper(number: int, **fields: Any) -> vending_pb2.IssueManagementTokenRequest:
    message = vending_pb2.IssueManagementTokenRequest(
        meter=request(number).meter, request_id=request_ids.new(), **fields
    )
    message.clear_tamper.SetInParent()
    return message


def change(number: int) -> vending_pb2.IssueKeyChangeTokensRequest:
    target = meter_pb2.KeyAssignment(supply_group_code="201457", key_revision_number=1, tariff_index="02")
    return vending_pb2.IssueKeyChangeTokensRequest(
        meter=request(number).meter, target=target, request_id=request_ids.new()
    )


def refused(call: Callable[..., Any], *arguments: Any, **more: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(*arguments, **more)
    return error.value.reason


def eventually(call: Callable[[], Any]) -> Any:
    """Call until it is answered; a refusal that does not pass is one."""
    end = time.monotonic() + 30
    while True:
        try:
            return call()
        except ClientError as error:
            if (error.reason and not error.retryable) or time.monotonic() > end:
                raise
            time.sleep(0.2)


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    with running() as system:
        found = Table(system)
        found.module = govern(system, client("spiffe://keywatt.dev/development"))
        found.put(2)
        try:
            found.by = {name: KeywattClient(profile) for name, profile in found.profiles.items()}
            yield found
        finally:
            for asked in found.by.values():
                asked.close()


def test_alone_it_is_refused_and_with_an_approval_it_is_issued(table: Table) -> None:
    message = tamper(1)
    asked = table.by["engineer"]
    with pytest.raises(ClientError) as error:
        asked.call(asked.vending.IssueManagementToken, message)
    assert (error.value.reason, error.value.details) == ("APPROVAL_REQUIRED", {"needed": "1", "found": "0"})
    proposal = table.propose(message)
    assert (proposal.state, proposal.approvals_needed) == (STATE.PROPOSAL_STATE_PENDING, 1)
    assert proposal.client == "engineer"
    assert proposal.request.management == message
    assert refused(table.execute, proposal) == "APPROVAL_REQUIRED"
    approved = table.approve(proposal, "first")
    assert approved.state == STATE.PROPOSAL_STATE_APPROVED
    assert [one.client for one in approved.approvals] == ["first"]
    token = table.execute(proposal).management.token.digits
    assert len(token) == 20
    assert table.state(proposal).state == STATE.PROPOSAL_STATE_EXECUTED
    # Once: whoever repeats it, by whatever way, gets the same token.
    assert table.execute(proposal).management.token.digits == token
    assert asked.call(asked.vending.IssueManagementToken, message).token.digits == token
    assert refused(table.approve, proposal, "second") == "PROPOSAL_CLOSED"
    assert refused(table.call, "first", "RejectIssuance", proposal_id=proposal.proposal_id) == "PROPOSAL_CLOSED"
    assert table.system.log("appliance").count('"event": "proposal-approved"') >= 1


def test_two_approvals_are_those_of_two_others(table: Table) -> None:
    proposal = table.propose(change(2))
    assert proposal.approvals_needed == 2
    # The one who proposes may approve what others propose, not his own.
    assert refused(table.approve, proposal, "engineer") == "NOT_AUTHORISED"
    for _ in range(3):
        assert len(table.approve(proposal, "first").approvals) == 1
    assert refused(table.execute, proposal) == "APPROVAL_REQUIRED"
    assert table.approve(proposal, "second").state == STATE.PROPOSAL_STATE_APPROVED
    assert len(table.execute(proposal).key_change.tokens) == 4


def test_an_approval_is_for_what_was_seen(table: Table) -> None:
    one, other = table.propose(tamper(3)), table.propose(tamper(4))
    assert refused(table.approve, one, "first", other.digest) == "PROPOSAL_DIFFERS"
    assert refused(table.approve, one, "first", one.digest.upper()) == "PROPOSAL_DIFFERS"
    assert refused(table.call, "first", "ApproveIssuance", proposal_id=one.proposal_id) == "FIELD_MISSING"
    table.approve(one, "first")
    assert table.state(other).state == STATE.PROPOSAL_STATE_PENDING
    assert refused(table.execute, other) == "APPROVAL_REQUIRED"
    # The same request id for something else is no way round.
    trick = tamper(5, validate_only=False)
    trick.request_id = one.request.management.request_id
    assert refused(table.propose, trick) == "REQUEST_ID_REUSED"
    asked = table.by["engineer"]
    assert refused(asked.call, asked.vending.IssueManagementToken, trick) == "APPROVAL_REQUIRED"


def test_proposing_again_gives_the_same_proposal(table: Table) -> None:
    message = tamper(6)
    first = table.propose(message)
    table.approve(first, "first")
    again = table.propose(message)
    assert again.proposal_id == first.proposal_id
    assert again.state == STATE.PROPOSAL_STATE_APPROVED


def test_others_neither_see_nor_approve_nor_execute(table: Table) -> None:
    proposal = table.propose(tamper(7))
    for call in (
        lambda: table.state(proposal, "stranger"),
        lambda: table.approve(proposal, "stranger"),
        lambda: table.execute(proposal, "first"),
        lambda: table.call("stranger", "RejectIssuance", proposal_id=proposal.proposal_id),
        lambda: table.call("first", "GetProposal", proposal_id=request_ids.new()),
        lambda: table.call("first", "GetProposal", proposal_id="rubbish"),
    ):
        assert refused(call) == "PROPOSAL_UNKNOWN"
    assert refused(table.call, "first", "GetProposal") == "FIELD_MISSING"
    listed = {one.proposal_id for one in table.call("stranger", "ListProposals").proposals}
    assert proposal.proposal_id not in listed


def test_rejected_is_rejected(table: Table) -> None:
    proposal = table.propose(tamper(8))
    table.approve(proposal, "first")
    rejected = table.call("second", "RejectIssuance", proposal_id=proposal.proposal_id).proposal
    assert (rejected.state, rejected.rejected_by) == (STATE.PROPOSAL_STATE_REJECTED, "second")
    assert refused(table.execute, proposal) == "PROPOSAL_CLOSED"
    assert refused(table.approve, proposal, "second") == "PROPOSAL_CLOSED"
    own = table.propose(tamper(9))
    table.call("engineer", "RejectIssuance", proposal_id=own.proposal_id)
    assert table.state(own).rejected_by == "engineer"


def test_who_has_no_approval_does_not_take_the_veto_away(table: Table) -> None:
    """Executing again and again, answered or cut off, does not keep others from rejecting."""
    proposal = table.propose(tamper(60))
    ends = threading.Event()

    def hammer() -> None:
        with KeywattClient(table.profiles["engineer"]) as asked:
            wanted = approval_pb2.ExecuteIssuanceRequest(proposal_id=proposal.proposal_id)
            while not ends.is_set():
                for timeout in (5, 0.001, 0.002):
                    with contextlib.suppress(grpc.RpcError):
                        asked.approval.ExecuteIssuance(wanted, timeout=timeout)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    try:
        rejected = table.call("second", "RejectIssuance", proposal_id=proposal.proposal_id).proposal
    finally:
        ends.set()
        for thread in threads:
            thread.join(20)
    assert rejected.state == STATE.PROPOSAL_STATE_REJECTED
    assert refused(table.execute, proposal) == "PROPOSAL_CLOSED"


def test_what_need_not_be_approved_is_not_proposed(table: Table) -> None:
    assert refused(table.propose, request(10, "50"), "vendor") == "FIELD_INVALID"
    assert refused(table.propose, request(10, "50")) == "FIELD_INVALID"
    assert refused(table.propose, tamper(10, validate_only=True)) == "FIELD_INVALID"
    assert refused(table.propose, tamper(10), "stranger") == "NOT_AUTHORISED"
    assert refused(table.call, "engineer", "ProposeIssuance") == "FIELD_MISSING"
    bad = tamper(10)
    bad.meter.meter_pan = "123"
    assert refused(table.propose, bad) == "PAN_INVALID"
    # Checked inside the module too: what would be refused then is refused now.
    unknown = tamper(10)
    unknown.meter.key_revision_number = 9
    assert refused(table.propose, unknown) == "VENDING_KEY_UNKNOWN"


def test_a_ceiling_decides_whether_it_can_be_had_alone(table: Table) -> None:
    asked = table.by["engineer"]
    assert asked.call(asked.vending.IssueCreditToken, request(11, "100")).token.digits
    large = request(11, "900")
    assert refused(asked.call, asked.vending.IssueCreditToken, large) == "APPROVAL_REQUIRED"
    proposal = table.propose(large)
    table.approve(proposal, "second")
    assert table.execute(proposal).credit.effective_amount == "900.0"
    assert refused(table.propose, request(11, "1100")) == "NOT_AUTHORISED"


def test_a_batch_says_of_each_that_it_must_be_approved(table: Table) -> None:
    asked = table.by["engineer"]
    batch = vending_pb2.BatchIssueTokensRequest(requests=[wrapped(tamper(12)), wrapped(request(13, "1"))])
    first, second = asked.call(asked.vending.BatchIssueTokens, batch).results
    assert first.WhichOneof("result") == "error"
    assert second.credit.token.digits


def test_lists_are_paged_and_of_concern(table: Table) -> None:
    made = [table.propose(tamper(number)).proposal_id for number in range(20, 27)]
    found: list[str] = []
    page = ""
    while True:
        answer = table.call("first", "ListProposals", page_size=3, page_token=page)
        assert len(answer.proposals) <= 3
        found += [one.proposal_id for one in answer.proposals]
        page = answer.next_page_token
        if not page:
            break
    assert [one for one in found if one in made] == made
    assert len(found) == len(set(found))
    assert refused(table.call, "first", "ListProposals", page_token="rubbish") == "PAGE_TOKEN_INVALID"
    assert refused(table.call, "first", "ListProposals", page_size=1001) == "FIELD_INVALID"


def test_many_who_execute_at_once_get_one_token(table: Table) -> None:
    proposal = table.propose(tamper(30))
    table.approve(proposal, "first")
    tokens: list[str] = []

    def work() -> None:
        with KeywattClient(table.profiles["engineer"]) as asked:
            wanted = approval_pb2.ExecuteIssuanceRequest(proposal_id=proposal.proposal_id)
            tokens.append(asked.call(asked.approval.ExecuteIssuance, wanted).management.token.digits)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(tokens) == 8
    assert len(set(tokens)) == 1


def test_the_policy_in_force_decides_when_it_is_executed(table: Table) -> None:
    proposal = table.propose(tamper(31))
    table.approve(proposal, "second")
    # Who approved may not approve any more: the approval no longer counts.
    table.put(3, ENGINEER.replace("approvals = 2", "approvals = 1"), "")
    assert refused(table.execute, proposal) == "APPROVAL_REQUIRED"
    assert table.state(proposal).approvals == []
    table.approve(proposal, "first")
    # Who proposed may not issue it any more, approved or not.
    table.put(4, "", APPROVES)
    assert refused(table.execute, proposal) == "NOT_AUTHORISED"
    table.put(5, ENGINEER, APPROVES, limit("engineering", "client", "day", count=0, classes=["2.5"]))
    assert refused(table.execute, proposal) == "LIMIT_EXCEEDED"
    table.put(6)
    assert table.execute(proposal).management.token.digits


def test_a_proposal_outlives_a_restart(table: Table) -> None:
    proposal = table.propose(tamper(32))
    table.approve(proposal, "first")
    table.system.kill_appliance()
    table.system.start_appliance()
    assert eventually(lambda: table.execute(proposal)).management.token.digits


def test_time_runs_out(table: Table) -> None:
    """The row is made older, as if its hours had passed."""
    import sqlite3

    approved, pending = table.propose(tamper(33)), table.propose(tamper(34))
    table.approve(approved, "first")
    with sqlite3.connect(table.system.state / "ledger" / "ledger.db") as database:
        database.execute("UPDATE proposals SET expires_at = created_at WHERE rejected_by IS NULL")
    for proposal in (approved, pending):
        assert table.state(proposal).state == STATE.PROPOSAL_STATE_EXPIRED
        assert refused(table.execute, proposal) == "PROPOSAL_CLOSED"
        assert refused(table.approve, proposal, "second") == "PROPOSAL_CLOSED"
    assert table.call("first", "ListProposals").proposals == []
