"""What every command of the command line shares: options, a meter, and a call whose errors a person can read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import typer
from google.protobuf.message import Message
from keywatt.type.v1 import meter_pb2

from appliance.client import output
from appliance.client.client import ClientError, ClientProfile, KeywattClient

R = TypeVar("R", bound=Message)
T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Meter = Annotated[str, typer.Option(help="Meter number (11 or 13 digits) or meter PAN (18 digits).")]
Sgc = Annotated[str, typer.Option(help="Supply group code, six digits.")]
Krn = Annotated[int, typer.Option(min=0, max=255, help="Key revision number, 1 to 9.")]
Ti = Annotated[str, typer.Option(help="Tariff index, two digits.")]
Ea = Annotated[int, typer.Option(help="Encryption algorithm of the meter: 7 or 11.")]
Tct = Annotated[int, typer.Option(min=0, max=255, help="Token carrier type, 1 to 7; 0 counts as 2, keypad.")]


def meter_of(meter: str, sgc: str, krn: int, ti: str, ea: int, tct: int) -> meter_pb2.MeterConfiguration:
    """Return a meter; raises BadParameter."""
    if ea not in meter_pb2.EncryptionAlgorithm.values():
        raise typer.BadParameter("an encryption algorithm is 7 or 11")
    return meter_pb2.MeterConfiguration(
        meter_pan=meter,
        supply_group_code=sgc,
        key_revision_number=krn,
        tariff_index=ti,
        encryption_algorithm=meter_pb2.EncryptionAlgorithm.ValueType(ea),
        token_carrier_type=tct,
    )


def guarded(work: Callable[[], T]) -> T:
    """Do it; ends the program with what a person can act on."""
    try:
        return work()
    except ClientError as error:
        raise output.fail(error) from None
    except ValueError as error:
        output.errors.print(f"[bold]error[/bold]: {error}")
        raise typer.Exit(2) from None


def ask(context: typer.Context, work: Callable[[KeywattClient], R]) -> R:
    """Work with a client; ends the program as :func:`guarded`."""

    def connected() -> R:
        with KeywattClient(ClientProfile.read(context.obj)) as client:
            return work(client)

    return guarded(connected)


def run(context: typer.Context, as_json: bool, work: Callable[[KeywattClient], R], show: Callable[[R], None]) -> None:
    """Work with a client and show the answer; ends the program as :func:`guarded`."""
    response = ask(context, work)
    if as_json:
        output.show_json(response)
    else:
        show(response)
