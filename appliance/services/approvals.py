"""keywatt.approval.v1.ApprovalService: what nobody may issue alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from keywatt.approval.v1 import approval_pb2, approval_pb2_grpc

from appliance import clock
from appliance.client import request_ids as fresh_ids
from appliance.errors import (
    ApplianceError,
    ApprovalRequired,
    FieldInvalid,
    FieldMissing,
    LedgerUnavailable,
    NotAuthorised,
    PageTokenInvalid,
    ProposalClosed,
    ProposalDiffers,
    ProposalUnknown,
    QueueFull,
    RequestIdReused,
)
from appliance.interceptors.peer import peer_name
from appliance.issuing.asked import asked_of
from appliance.issuing.module import ModuleCatalogue, ModuleView
from appliance.issuing.orders import Submission
from appliance.issuing.pipeline import Pipeline
from appliance.ledger.ledger import Ledger, milliseconds_now
from appliance.ledger.proposals import Approved, Proposal, Proposals
from appliance.policy.authority import Authority
from appliance.policy.judge import Asked
from appliance.services import proposals as forms
from appliance.services import request_ids
from appliance.services.submissions import IssueRequest, inner_request, submission

logger = structlog.get_logger("keywatt.appliance")
_PAGE_DEFAULT = 100
_PAGE_MAX = 1000
_CHUNK = 200
_OPEN_MAX = 1000
_MILLISECONDS = timedelta(milliseconds=1)
_STATES = approval_pb2.ProposalState


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """Where a proposal stands by the policy in force."""

    state: approval_pb2.ProposalState.ValueType
    needed: int
    approvals: Sequence[Approved]


class ApprovalService(approval_pb2_grpc.ApprovalServiceServicer):
    """Keeps proposals, counts approvals by the policy in force, and has the pipeline issue what has enough.

    Args:
        pipeline: issues.
        proposals: where proposals are kept.
        ledger: says what was issued.
        authority: who may issue and approve what.
        catalogue: the module, for the time of its zone.
        now: the clock, aware; raises ClockStopped.
        automatic_key_change: as of the issuer.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        proposals: Proposals,
        ledger: Ledger,
        authority: Authority,
        catalogue: ModuleCatalogue,
        now: Callable[[], datetime],
        automatic_key_change: bool,
    ) -> None:
        self._pipeline = pipeline
        self._proposals = proposals
        self._ledger = ledger
        self._authority = authority
        self._catalogue = catalogue
        self._now = now
        self._automatic = automatic_key_change

    async def ProposeIssuance(
        self, request: approval_pb2.ProposeIssuanceRequest, context: Any
    ) -> approval_pb2.ProposeIssuanceResponse:
        """Check a request and keep it."""
        client = peer_name(context)
        inner = inner_request(request.request)
        if inner.validate_only:
            raise FieldInvalid("a proposal is of something to be issued: validate_only is set", field="validate_only")
        wanted = submission(inner, client, None)
        policy = self._authority.policy
        view = await self._catalogue.view()
        asked = asked_of(wanted, view, automatic_key_change=self._automatic)
        needed = self._authority.approvals_needed(asked, self._local(view))
        if policy is None or not needed:
            raise FieldInvalid("nobody need approve this: issue it", field="request")
        await self._try(inner, client)
        octets = inner.SerializeToString(deterministic=True)
        created = self._milliseconds()
        made = Proposal(
            id=UUID(fresh_ids.new()).bytes,
            client=client,
            request_id=wanted.request_id,
            method=wanted.method,
            request=octets,
            digest=forms.digest_of(client, wanted.method, octets),
            created=created,
            expires=created + policy.approval_hours * 3_600_000,
        )
        kept = await self._proposals.add(made, most=_OPEN_MAX)
        if kept is None:
            raise QueueFull(f"{_OPEN_MAX} proposals of this client are open")
        if kept.digest != made.digest:
            raise RequestIdReused("this request id was proposed before, for another request")
        if kept.id == made.id:
            self._tell("proposal-made", kept, client)
        return approval_pb2.ProposeIssuanceResponse(proposal=await self._shown(kept))

    async def ApproveIssuance(
        self, request: approval_pb2.ApproveIssuanceRequest, context: Any
    ) -> approval_pb2.ApproveIssuanceResponse:
        """Note an approval."""
        client = peer_name(context)
        if not request.digest:
            raise FieldMissing("digest is missing: what was seen is what is approved", field="digest")
        proposal = await self._visible(request.proposal_id, client)
        if not self._authority.may_approve(client, await self._asked(proposal)):
            raise NotAuthorised("the policy does not let this client approve this")
        if request.digest != proposal.digest.hex():
            raise ProposalDiffers("this is the digest of another proposal")
        standing = await self._standing(proposal)
        if standing.state == _STATES.PROPOSAL_STATE_EXECUTED or not await self._proposals.approve(proposal.id, client):
            raise ProposalClosed("this proposal is closed")
        self._tell("proposal-approved", proposal, client)
        return approval_pb2.ApproveIssuanceResponse(proposal=await self._again(proposal))

    async def RejectIssuance(
        self, request: approval_pb2.RejectIssuanceRequest, context: Any
    ) -> approval_pb2.RejectIssuanceResponse:
        """Reject a proposal."""
        client = peer_name(context)
        proposal = await self._visible(request.proposal_id, client)
        if await self._is_executed(proposal) or not await self._proposals.reject(proposal.id, client):
            raise ProposalClosed("this proposal was executed, or is at this moment")
        self._tell("proposal-rejected", proposal, client)
        return approval_pb2.RejectIssuanceResponse(proposal=await self._again(proposal))

    async def ExecuteIssuance(
        self, request: approval_pb2.ExecuteIssuanceRequest, context: Any
    ) -> approval_pb2.ExecuteIssuanceResponse:
        """Issue what was proposed."""
        client = peer_name(context)
        proposal = await self._get(request.proposal_id)
        if proposal.client != client:
            raise ProposalUnknown("there is no proposal with this id")
        wanted = submission(forms.request_of(proposal), client, None)
        wanted.approvers = tuple(one.client for one in proposal.approvals)
        if await self._is_executed(proposal):
            # What was issued is given again.
            return forms.answer(proposal.method, await self._issue(wanted))
        await self._require_approved(proposal)
        # From here on nobody rejects it; whether it may be issued is judged once more, with all the rest.
        if not await self._proposals.claim(proposal.id):
            raise ProposalClosed("this proposal was rejected, or its time is over")
        try:
            answer = await self._issue(wanted)
        except LedgerUnavailable:
            # It may have been issued: then it is too late to reject it.
            raise
        except Exception:  # whatever refused it, nothing was issued: it can be rejected or executed again
            await self._proposals.give_back(proposal.id)
            raise
        self._tell("proposal-executed", proposal, client)
        return forms.answer(proposal.method, answer)

    async def GetProposal(
        self, request: approval_pb2.GetProposalRequest, context: Any
    ) -> approval_pb2.GetProposalResponse:
        """Show a proposal."""
        proposal = await self._visible(request.proposal_id, peer_name(context))
        return approval_pb2.GetProposalResponse(proposal=await self._shown(proposal))

    async def ListProposals(
        self, request: approval_pb2.ListProposalsRequest, context: Any
    ) -> approval_pb2.ListProposalsResponse:
        """List what is open and concerns this client."""
        client = peer_name(context)
        if request.page_size > _PAGE_MAX:
            raise FieldInvalid(f"page_size is at most {_PAGE_MAX}", field="page_size")
        size, after = request.page_size or _PAGE_DEFAULT, _after(request.page_token)
        response = approval_pb2.ListProposalsResponse()
        # One look at so many, whether they are of concern or not: a page may be short, and still not the last.
        found = await self._proposals.list_open(after, _CHUNK)
        for proposal in found:
            if len(response.proposals) == size:
                break
            after = proposal.id
            if await self._concerns(proposal, client):
                shown = await self._shown(proposal)
                if shown.state != _STATES.PROPOSAL_STATE_EXECUTED:
                    response.proposals.append(shown)
        if len(found) == _CHUNK or (found and after != found[-1].id):
            response.next_page_token = after.hex()
        return response

    # --- what they have in common -------------------------------------------------------------------------------

    def _local(self, view: ModuleView) -> datetime:
        return clock.to_local(self._now(), view.status.utc_offset_minutes)

    def _milliseconds(self) -> int:
        return int(self._now().timestamp() * 1000)

    async def _try(self, inner: IssueRequest, client: str) -> None:
        """Check all that an execution would, as far as it can be known; raises what it would be refused with."""
        trial = type(inner)()
        trial.CopyFrom(inner)  # type: ignore[arg-type]  # of its own type
        trial.validate_only = True
        checked = submission(trial, client, None)
        checked.approvers = None
        await self._issue(checked)

    async def _require_approved(self, proposal: Proposal) -> None:
        """See that nobody who has not enough approvals takes the possibility to reject it away."""
        standing = await self._standing(proposal)
        if standing.state in (_STATES.PROPOSAL_STATE_REJECTED, _STATES.PROPOSAL_STATE_EXPIRED):
            raise ProposalClosed("this proposal was rejected, or its time is over")
        # Not to be had at all, any more, is another refusal than too few approvals.
        local = self._local(await self._catalogue.view())
        needed, found = self._authority.approvals_needed(await self._asked(proposal), local), len(standing.approvals)
        if found < needed:
            raise ApprovalRequired("others must approve this", needed=str(needed), found=str(found))

    async def _issue(self, wanted: Submission) -> bytes:
        (outcome,) = await self._pipeline.submit([wanted])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _asked(self, proposal: Proposal) -> list[Asked]:
        wanted = submission(forms.request_of(proposal), proposal.client, None)
        return asked_of(wanted, await self._catalogue.view(), automatic_key_change=self._automatic)

    async def _get(self, text: str) -> Proposal:
        found = await self._proposals.get(forms.parse_id(text))
        if found is None:
            raise ProposalUnknown("there is no proposal with this id")
        return found

    async def _visible(self, text: str, client: str) -> Proposal:
        proposal = await self._get(text)
        if not await self._concerns(proposal, client):
            # Nobody learns of proposals that are not his concern.
            raise ProposalUnknown("there is no proposal with this id")
        return proposal

    async def _concerns(self, proposal: Proposal, client: str) -> bool:
        return client == proposal.client or self._authority.may_approve(client, await self._asked(proposal))

    async def _is_executed(self, proposal: Proposal) -> bool:
        return await self._ledger.find(proposal.client, proposal.request_id) is not None

    async def _standing(self, proposal: Proposal) -> _Standing:
        asked = await self._asked(proposal)
        approvals = [one for one in proposal.approvals if self._authority.may_approve(one.client, asked)]
        try:
            needed = self._authority.approvals_needed(asked, self._local(await self._catalogue.view()))
        except ApplianceError:
            # The policy has changed since, it is not the hour, or the clock has stopped.
            needed = 0
        if await self._is_executed(proposal):
            state = _STATES.PROPOSAL_STATE_EXECUTED
        elif proposal.rejected_by:
            state = _STATES.PROPOSAL_STATE_REJECTED
        elif milliseconds_now() >= proposal.expires:
            state = _STATES.PROPOSAL_STATE_EXPIRED
        elif needed and len(approvals) >= needed:
            state = _STATES.PROPOSAL_STATE_APPROVED
        else:
            state = _STATES.PROPOSAL_STATE_PENDING
        return _Standing(state=state, needed=needed, approvals=approvals)

    async def _shown(self, proposal: Proposal) -> approval_pb2.Proposal:
        standing = await self._standing(proposal)
        return forms.show(proposal, standing.state, standing.needed, standing.approvals)

    async def _again(self, proposal: Proposal) -> approval_pb2.Proposal:
        return await self._shown(await self._get(request_ids.show(proposal.id)))

    @staticmethod
    def _tell(event: str, proposal: Proposal, client: str) -> None:
        logger.warning(event, proposal=request_ids.show(proposal.id), client=client, digest=proposal.digest.hex())


def _after(token: str) -> bytes:
    if not token:
        return b""
    try:
        octets = bytes.fromhex(token)
    except ValueError:
        octets = b""
    if len(octets) != 16:
        raise PageTokenInvalid("the page token is none of this service")
    return octets
