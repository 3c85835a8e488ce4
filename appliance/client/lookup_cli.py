"""Commands that look: sales, keys, the module, policy and lease."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from keywatt.keys.v1 import keys_pb2
from keywatt.mandate.v1 import mandate_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client import output
from appliance.client.client import KeywattClient
from appliance.client.command import Json, Meter, Sgc, run

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def issuance(
    context: typer.Context,
    request_id: Annotated[str, typer.Argument(help="Request id of the sale.")],
    json: Json = False,
) -> None:
    """Show what was issued under a request id, with the answer as it was given."""
    request = vending_pb2.GetIssuanceRequest(request_id=request_id)
    run(context, json, lambda c: c.call(c.vending.GetIssuance, request), output.show_issuance)


@app.command()
def issuances(
    context: typer.Context,
    meter: Meter = "",
    sgc: Sgc = "",
    krn: Annotated[int, typer.Option(min=0, max=255, help="Key revision number, with --sgc.")] = 0,
    since: Annotated[datetime | None, typer.Option(help="From this time on, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Before this time, UTC.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    json: Json = False,
) -> None:
    """List what was issued to this client, oldest first, by meter, vending key and time; without digits."""
    request = vending_pb2.ListIssuancesRequest(
        meter_pan=meter, supply_group_code=sgc, key_revision_number=krn or int(bool(sgc))
    )
    if since is not None:
        request.start_time.FromDatetime(since)
    if until is not None:
        request.end_time.FromDatetime(until)

    def collect(client: KeywattClient) -> vending_pb2.ListIssuancesResponse:
        result = vending_pb2.ListIssuancesResponse()
        while True:
            request.page_size = min(limit - len(result.issuances), 1000)
            response = client.call(client.vending.ListIssuances, request)
            result.issuances.extend(response.issuances)
            request.page_token = result.next_page_token = response.next_page_token
            if not request.page_token or len(result.issuances) >= limit:
                return result

    run(context, json, collect, output.show_issuances)


@app.command()
def keys(context: typer.Context, json: Json = False) -> None:
    """List the vending keys: attributes and check values, never a key."""

    def collect(client: KeywattClient) -> keys_pb2.ListVendingKeysResponse:
        result, page = keys_pb2.ListVendingKeysResponse(), ""
        while True:
            request = keys_pb2.ListVendingKeysRequest(page_size=1000, page_token=page)
            response = client.call(client.keys.ListVendingKeys, request)
            result.keys.extend(response.keys)
            page = response.next_page_token
            if not page:
                return result

    run(context, json, collect, output.show_keys)


@app.command()
def status(context: typer.Context, json: Json = False) -> None:
    """Show identity, versions, mode, clock and counters of the module."""
    request = keys_pb2.GetModuleStatusRequest()
    run(context, json, lambda c: c.call(c.keys.GetModuleStatus, request), output.show_status)


@app.command()
def mandate(context: typer.Context, json: Json = False) -> None:
    """Show the policy and the lease in force, and what will end: lease, certificates, keys, limits."""
    request = mandate_pb2.GetMandateRequest()
    run(context, json, lambda c: c.call(c.mandate.GetMandate, request), output.show_mandate)
