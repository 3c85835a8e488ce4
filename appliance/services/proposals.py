"""From proposals to protobuf and back: what is approved is a digest of who asks and of every field of the request."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from keywatt.approval.v1 import approval_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.errors import FieldInvalid, FieldMissing, ProposalUnknown
from appliance.ledger.proposals import Approved, Proposal
from appliance.ledger.records import Method
from appliance.services import request_ids
from appliance.services.submissions import IssueRequest

_MESSAGES: dict[Method, type[IssueRequest]] = {
    Method.CREDIT: vending_pb2.IssueCreditTokenRequest,
    Method.MANAGEMENT: vending_pb2.IssueManagementTokenRequest,
    Method.METER_TEST: vending_pb2.IssueMeterTestTokenRequest,
    Method.KEY_CHANGE: vending_pb2.IssueKeyChangeTokensRequest,
}
_NAMES = {
    Method.CREDIT: "credit",
    Method.MANAGEMENT: "management",
    Method.METER_TEST: "meter_test",
    Method.KEY_CHANGE: "key_change",
}


def digest_of(client: str, method: Method, request: bytes) -> bytes:
    """Return what stands for a proposal in its approvals, 32 octets."""
    name = client.encode()
    return hashlib.sha256(len(name).to_bytes(4, "big") + name + bytes([method]) + request).digest()


def request_of(proposal: Proposal) -> IssueRequest:
    """Return the request of a proposal."""
    return _MESSAGES[proposal.method].FromString(proposal.request)


def parse_id(text: str) -> bytes:
    """Return the 16 octets of a proposal's id; raises FieldMissing or ProposalUnknown."""
    if not text:
        raise FieldMissing("proposal_id is missing", field="proposal_id")
    try:
        return request_ids.parse(text)
    except FieldInvalid:
        raise ProposalUnknown("there is no proposal with this id") from None


def show(
    proposal: Proposal, state: approval_pb2.ProposalState.ValueType, needed: int, approvals: Sequence[Approved]
) -> approval_pb2.Proposal:
    """Show a proposal, with those of its approvals that count."""
    message = approval_pb2.Proposal(
        proposal_id=request_ids.show(proposal.id),
        client=proposal.client,
        digest=proposal.digest.hex(),
        approvals_needed=needed,
        state=state,
        rejected_by=proposal.rejected_by,
    )
    getattr(message.request, _NAMES[proposal.method]).CopyFrom(request_of(proposal))
    message.create_time.FromMilliseconds(proposal.created)
    message.expire_time.FromMilliseconds(proposal.expires)
    for one in approvals:
        message.approvals.add(client=one.client).time.FromMilliseconds(one.at)
    return message


def answer(method: Method, octets: bytes) -> approval_pb2.ExecuteIssuanceResponse:
    """Wrap the answer of an issuing call."""
    response = approval_pb2.ExecuteIssuanceResponse()
    getattr(response, _NAMES[method]).MergeFromString(octets)
    return response
