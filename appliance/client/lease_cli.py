"""``keywatt lease``: the lines that officers sign, and their signatures to the appliance."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from keywatt.mandate.v1 import mandate_pb2

from appliance.client import output
from appliance.client.client import KeywattClient
from appliance.client.command import Json, guarded, run
from hsm.errors import HsmError
from hsm.mandate import LEASE_DAYS, LEASE_DAYS_MAX, LEASE_NAMESPACE, Lease, parse_lease, utc_minutes
from hsm.ssh_signatures import read_private
from hsm.ssh_signatures import sign as ssh_sign

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.command()
def text(
    context: typer.Context,
    days: Annotated[
        int, typer.Option(min=0, max=LEASE_DAYS_MAX, help="How long it lasts; 0 ends it now.")
    ] = LEASE_DAYS,
    number: Annotated[int, typer.Option(min=0, help="Its number; 0 for the next one.")] = 0,
    module: Annotated[str, typer.Option(help="The module's name; asked of the appliance if not given.")] = "",
) -> None:
    """Print the lines of the next lease, for officers to sign; with how, on standard error."""
    start = datetime.now(UTC)

    def show(found: mandate_pb2.GetMandateResponse) -> None:
        lease = Lease(
            number=number or found.lease.number + 1,
            valid_from=utc_minutes(start),
            valid_until=utc_minutes(start + timedelta(days=days)),
        )
        sys.stdout.write(lease.text(module or found.module_id))

    if module and number:
        show(mandate_pb2.GetMandateResponse())
    else:
        request = mandate_pb2.GetMandateRequest()
        run(context, False, lambda c: c.call(c.mandate.GetMandate, request), show)
    sys.stderr.write(
        f"sign it: ssh-keygen -Y sign -n {LEASE_NAMESPACE} -f KEY FILE; then: keywatt lease renew FILE FILE.sig ...\n"
    )


@app.command()
def sign(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The lines of the lease.")],
    key: Annotated[Path, typer.Option(help="Private key, Ed25519: PEM or OpenSSH's own form.")],
) -> None:
    """Sign a lease with a key that is in a file; print the signature. Needs no appliance."""

    def work() -> str:
        lines = _read(file)
        try:
            parse_lease(lines)
            private = read_private(_octets(key), lambda: str(typer.prompt("Passphrase", hide_input=True, err=True)))
        except HsmError as error:
            raise ValueError(str(error)) from None
        return str(ssh_sign(private, LEASE_NAMESPACE, lines.encode()))

    sys.stdout.write(guarded(work))


@app.command()
def renew(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The lines that officers signed.")],
    signatures: Annotated[list[Path], typer.Argument(metavar="SIGNATURE...", help="Their signatures.")],
    json: Json = False,
) -> None:
    """Bring a lease that officers have signed; it is in force at once."""

    def bring(client: KeywattClient) -> mandate_pb2.RenewLeaseResponse:
        request = mandate_pb2.RenewLeaseRequest(text=_read(file), signatures=[_read(one) for one in signatures])
        return client.call(client.mandate.RenewLease, request)

    run(context, json, bring, lambda response: output.show_lease(response.lease))


def _octets(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None


def _read(path: Path) -> str:
    try:
        return _octets(path).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: no text") from None
