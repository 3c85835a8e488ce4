"""``keywatt audit``: the module's log as its readers see it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from keywatt.audit.v1 import audit_pb2

from appliance.client import output
from appliance.client.client import KeywattClient
from appliance.client.command import Ea, Json, Krn, Sgc, Tct, Ti, meter_of, run
from hsm.log.errors import LeafInvalid
from hsm.log.export import line

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
_MISUSE = 4
_NOT_KNOWN = 3


@app.command()
def checkpoint(
    context: typer.Context,
    fresh: Annotated[bool, typer.Option("--fresh", help="Have the present state signed first.")] = False,
    witnessed: Annotated[bool, typer.Option("--witnessed", help="One that enough witnesses have cosigned.")] = False,
    json: Json = False,
) -> None:
    """Print the newest checkpoint, a signed note; keep it, and have the log proven against it later."""
    request = audit_pb2.GetCheckpointRequest(fresh=fresh, witnessed=witnessed)

    def show(response: audit_pb2.GetCheckpointResponse) -> None:
        sys.stdout.write(response.checkpoint.decode())

    run(context, json, lambda c: c.call(c.audit.GetCheckpoint, request), show)


@app.command()
def receipt(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder for the receipts (.tlog-proof); files must not exist.")],
    request_id: Annotated[str, typer.Option(help="Request id of the sale.")] = "",
    index: Annotated[int, typer.Option(min=-1, help="Or the index of an entry, for auditors.")] = -1,
    witnessed: Annotated[bool, typer.Option("--witnessed", help="Only with the cosignatures of witnesses.")] = False,
    json: Json = False,
) -> None:
    """Write receipts: each proves by itself, with the module's public key, that an entry is in the log."""
    if bool(request_id) == (index >= 0):
        raise typer.BadParameter("give --request-id or --index")
    request = audit_pb2.GetReceiptRequest(request_id=request_id, witnessed=witnessed)
    if index >= 0:
        request = audit_pb2.GetReceiptRequest(index=index, witnessed=witnessed)

    def show(response: audit_pb2.GetReceiptResponse) -> None:
        name = request_id or str(index)
        for place, octets in enumerate(response.receipts):
            path = folder / (f"{name}.tlog-proof" if not place else f"{name}-{place + 1}.tlog-proof")
            try:
                with path.open("xb") as file:
                    file.write(octets)
            except OSError as error:
                output.errors.print(f"[bold]error[/bold]: {path}: {error.strerror}")
                raise typer.Exit(2) from None
            typer.echo(path)

    run(context, json, lambda c: c.call(c.audit.GetReceipt, request), show)


@app.command()
def leaves(
    context: typer.Context,
    start: Annotated[int, typer.Option(min=0, help="Index of the first entry.")] = 0,
    count: Annotated[int, typer.Option(min=0, help="How many; 0 for all.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and print what is added.")] = False,
) -> None:
    """Print entries as lines of JSON with their index, for revenue assurance; for auditors."""
    request = audit_pb2.ListLeavesRequest(start_index=start, count=count, follow=follow)

    def read(client: KeywattClient) -> audit_pb2.ListLeavesResponse:
        for response in client.stream(client.audit.ListLeaves, request):
            for leaf in response.leaves:
                try:
                    sys.stdout.write(line(leaf.index, leaf.entry))
                except LeafInvalid as error:
                    output.errors.print(f"[bold]error[/bold]: entry {leaf.index}: {error}")
                    raise typer.Exit(1) from None
            sys.stdout.flush()
        return audit_pb2.ListLeavesResponse()

    run(context, False, read, lambda _: None)


@app.command()
def identify(
    context: typer.Context,
    token: Annotated[str, typer.Argument(help="The twenty digits, blanks allowed.")],
    meter: Annotated[str, typer.Option(help="Meter number; without it the token is only looked for.")] = "",
    sgc: Sgc = "",
    krn: Krn = 1,
    ti: Ti = "01",
    ea: Ea = 11,
    tct: Tct = 0,
    json: Json = False,
) -> None:
    """Say where a token came from; exit status 3 if it is unknown, 4 if a key or module is being misused."""
    request = audit_pb2.IdentifyTokenRequest(token=token)
    if bool(meter) != bool(sgc):
        raise typer.BadParameter("give --meter and --sgc together")
    if meter:
        request.meter.CopyFrom(meter_of(meter, sgc, krn, ti, ea, tct))
    found: list[audit_pb2.IdentifyTokenResponse] = []

    def ask(client: KeywattClient) -> audit_pb2.IdentifyTokenResponse:
        found.append(client.call(client.audit.IdentifyToken, request))
        return found[0]

    run(context, json, ask, output.show_identification)
    if found[0].origin == audit_pb2.TOKEN_ORIGIN_MISUSE:
        raise typer.Exit(_MISUSE)
    if found[0].origin == audit_pb2.TOKEN_ORIGIN_UNKNOWN:
        raise typer.Exit(_NOT_KNOWN)
