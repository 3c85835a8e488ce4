"""``keywatt approval``: proposals of tokens that nobody may issue alone."""

from __future__ import annotations

from typing import Annotated

import typer
from keywatt.approval.v1 import approval_pb2

from appliance.client import output
from appliance.client.client import KeywattClient
from appliance.client.command import Json, ask, run

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
Id = Annotated[str, typer.Argument(metavar="PROPOSAL", help="Id of the proposal.")]


@app.command("list")
def list_open(context: typer.Context, json: Json = False) -> None:
    """List open proposals: one's own, and those that one may approve."""

    def collect(client: KeywattClient) -> approval_pb2.ListProposalsResponse:
        result = approval_pb2.ListProposalsResponse()
        page = ""
        while True:
            request = approval_pb2.ListProposalsRequest(page_size=1000, page_token=page)
            response = client.call(client.approval.ListProposals, request)
            result.proposals.extend(response.proposals)
            page = response.next_page_token
            if not page:
                return result

    run(context, json, collect, lambda response: output.show_proposals(response.proposals))


@app.command()
def show(context: typer.Context, proposal: Id, json: Json = False) -> None:
    """Show a proposal with every field of its request."""
    request = approval_pb2.GetProposalRequest(proposal_id=proposal)
    run(context, json, lambda c: c.call(c.approval.GetProposal, request), lambda r: output.show_proposal(r.proposal))


@app.command()
def approve(
    context: typer.Context,
    proposal: Id,
    digest: Annotated[str, typer.Option(help="Digest as it was shown before; then nothing is asked.")] = "",
    json: Json = False,
) -> None:
    """Show a proposal, and approve it once that is confirmed."""
    seen = digest
    if not seen:
        wanted = approval_pb2.GetProposalRequest(proposal_id=proposal)
        found = ask(context, lambda c: c.call(c.approval.GetProposal, wanted))
        output.show_proposal(found.proposal)
        typer.confirm("Approve this?", abort=True)
        seen = found.proposal.digest
    request = approval_pb2.ApproveIssuanceRequest(proposal_id=proposal, digest=seen)
    run(context, json, lambda c: c.call(c.approval.ApproveIssuance, request), lambda r: output.show_state(r.proposal))


@app.command()
def reject(context: typer.Context, proposal: Id, json: Json = False) -> None:
    """Reject a proposal, for good."""
    request = approval_pb2.RejectIssuanceRequest(proposal_id=proposal)
    run(context, json, lambda c: c.call(c.approval.RejectIssuance, request), lambda r: output.show_state(r.proposal))


@app.command()
def execute(context: typer.Context, proposal: Id, json: Json = False) -> None:
    """Issue what was proposed and approved; repeated, it gives the same answer."""
    request = approval_pb2.ExecuteIssuanceRequest(proposal_id=proposal)
    run(context, json, lambda c: c.call(c.approval.ExecuteIssuance, request), output.show_answer)
