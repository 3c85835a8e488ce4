"""The ``keywatt`` command line: issue, verify and look, over gRPC with mutual TLS. There is no insecure switch."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from keywatt.approval.v1 import approval_pb2
from keywatt.certification.v1 import certification_pb2
from keywatt.type.v1 import meter_pb2, token_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client import approval_cli, audit_cli, lease_cli, lookup_cli, output, request_ids
from appliance.client.client import KeywattClient
from appliance.client.command import Ea, Json, Krn, Meter, Sgc, Tct, Ti, meter_of, run

PROFILE_ENVIRONMENT = "KEYWATT_CLIENT"
_NOT_GENUINE = 3
_PROFILE_DEFAULT = Path("~/.config/keywatt/client.toml")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Issue and verify STS tokens through a Keywatt appliance.",
)

app.add_typer(lookup_cli.app)
app.add_typer(approval_cli.app, name="approval", help="Propose, approve and execute what nobody may issue alone.")
app.add_typer(lease_cli.app, name="lease", help="The lease to vend: what officers sign, and bringing it.")
app.add_typer(audit_cli.app, name="audit", help="Read the module's log: checkpoints, receipts, entries, tokens found.")


class CreditName(enum.StrEnum):
    """Kinds of credit, in the order of CreditType."""

    ELECTRICITY = "electricity"
    WATER = "water"
    GAS = "gas"
    TIME = "time"
    ELECTRICITY_CURRENCY = "electricity-currency"
    WATER_CURRENCY = "water-currency"
    GAS_CURRENCY = "gas-currency"
    TIME_CURRENCY = "time-currency"


class RegisterName(enum.StrEnum):
    """Credit registers, in the order of CreditRegister."""

    ELECTRICITY = "electricity"
    WATER = "water"
    GAS = "gas"
    TIME = "time"
    ELECTRICITY_CURRENCY = "electricity-currency"
    WATER_CURRENCY = "water-currency"
    GAS_CURRENCY = "gas-currency"
    TIME_CURRENCY = "time-currency"
    ALL = "all"


@app.callback()
def _main(
    context: typer.Context,
    profile: Annotated[
        Path | None, typer.Option(help=f"Client profile (TOML); else ${PROFILE_ENVIRONMENT}, else {_PROFILE_DEFAULT}.")
    ] = None,
) -> None:
    chosen = profile or Path(os.environ.get(PROFILE_ENVIRONMENT) or _PROFILE_DEFAULT).expanduser()
    context.obj = chosen


Dry = Annotated[bool, typer.Option("--validate-only", help="Check everything, issue nothing.")]
Reserved = Annotated[str, typer.Option(help="Take the reserved identifier, 00:01, of this date (2026-12-01).")]
Propose = Annotated[bool, typer.Option("--propose", help="Propose it, for others to approve (keywatt approval).")]
RequestId = Annotated[
    str, typer.Option(help="Repeat a request under its id: the stored answer comes back. Else a new UUID.")
]
IssueTime = Annotated[str, typer.Option(help="Issue time (2014-03-01T13:00); certification mode only.")]


def _assignment(text: str) -> meter_pb2.KeyAssignment | None:
    if not text:
        return None
    parts = text.split("/")
    if len(parts) != 3 or not parts[1].isdecimal() or len(parts[1]) > 2:
        raise typer.BadParameter("--ought has the form SGC/KRN/TI, such as 201457/1/02")
    return meter_pb2.KeyAssignment(supply_group_code=parts[0], key_revision_number=int(parts[1]), tariff_index=parts[2])


def _certification(issue_time: str) -> token_pb2.CertificationContext | None:
    return token_pb2.CertificationContext(issue_time=issue_time) if issue_time else None


def _issue(context: typer.Context, as_json: bool, method: str, request: Any, show: Callable[[Any], None]) -> None:
    request.request_id = request.request_id or request_ids.new()
    try:
        run(context, as_json, lambda c: c.issue(getattr(c.vending, method), request), show)
    except typer.Exit:
        output.errors.print(f"  To repeat exactly this request: --request-id {request.request_id}")
        raise
    if not as_json:
        output.show_request_id(request.request_id)


def _propose(context: typer.Context, as_json: bool, request: vending_pb2.TokenRequest) -> None:
    inner = getattr(request, str(request.WhichOneof("request")))
    inner.request_id = inner.request_id or request_ids.new()
    wanted = approval_pb2.ProposeIssuanceRequest(request=request)
    run(
        context,
        as_json,
        lambda c: c.call(c.approval.ProposeIssuance, wanted),
        lambda r: output.show_proposal(r.proposal),
    )


@app.command()
def credit(
    context: typer.Context,
    meter: Meter,
    sgc: Sgc,
    amount: Annotated[str, typer.Option(help="How much: 25.6")],
    krn: Krn = 1,
    ti: Ti = "01",
    ea: Ea = 11,
    tct: Tct = 2,
    kind: Annotated[CreditName, typer.Option(help="What is sold.")] = CreditName.ELECTRICITY,
    ought: Annotated[
        str, typer.Option(help="Group, revision and tariff that the meter ought to hold: SGC/KRN/TI.")
    ] = "",
    round_up: Annotated[bool, typer.Option("--round-up", help="Round up digits below the step of the field.")] = False,
    reserved: Reserved = "",
    issue_time: IssueTime = "",
    validate_only: Dry = False,
    request_id: RequestId = "",
    propose: Propose = False,
    json: Json = False,
) -> None:
    """Issue a credit token (class 0)."""
    request = vending_pb2.IssueCreditTokenRequest(
        meter=meter_of(meter, sgc, krn, ti, ea, tct),
        credit_type=vending_pb2.CreditType.ValueType(list(CreditName).index(kind) + 1),
        assignment=_assignment(ought),
        amount=amount,
        rounding=vending_pb2.ROUNDING_UP if round_up else vending_pb2.ROUNDING_UNSPECIFIED,
        reserved_identifier_date=reserved,
        validate_only=validate_only,
        request_id=request_id,
        certification=_certification(issue_time),
    )
    if propose:
        _propose(context, json, vending_pb2.TokenRequest(credit=request))
        return
    _issue(context, json, "IssueCreditToken", request, partial(output.show_credit, amount))


@app.command()
def management(
    context: typer.Context,
    meter: Meter,
    sgc: Sgc,
    krn: Krn = 1,
    ti: Ti = "01",
    ea: Ea = 11,
    tct: Tct = 2,
    power_limit: Annotated[int | None, typer.Option(min=0, help="Maximum power limit, W.")] = None,
    clear_credit: Annotated[RegisterName | None, typer.Option(help="Register to empty.")] = None,
    tariff_rate: Annotated[int | None, typer.Option(min=0, help="Tariff rate, 0 to 65535.")] = None,
    clear_tamper: Annotated[bool, typer.Option("--clear-tamper", help="Clear the tamper condition.")] = False,
    unbalance_limit: Annotated[int | None, typer.Option(min=0, help="Phase unbalance limit, W.")] = None,
    water_factor: Annotated[int | None, typer.Option(min=0, help="Water meter factor, 0 to 65535.")] = None,
    extended_set: Annotated[str, typer.Option(help="Extended set: INDEX:DATA.")] = "",
    proprietary: Annotated[str, typer.Option(help="Proprietary token: SUBCLASS:DATA.")] = "",
    reserved: Reserved = "",
    issue_time: IssueTime = "",
    validate_only: Dry = False,
    request_id: RequestId = "",
    propose: Propose = False,
    json: Json = False,
) -> None:
    """Issue a management token (class 2 other than key change); give exactly one command."""
    request = vending_pb2.IssueManagementTokenRequest(
        meter=meter_of(meter, sgc, krn, ti, ea, tct),
        reserved_identifier_date=reserved,
        validate_only=validate_only,
        request_id=request_id,
        certification=_certification(issue_time),
    )
    given = 0
    for field, number in (
        ("maximum_power_limit", power_limit),
        ("tariff_rate", tariff_rate),
        ("maximum_phase_power_unbalance_limit", unbalance_limit),
        ("water_meter_factor", water_factor),
    ):
        if number is not None:
            given += 1
            _assign(request, field, number)
    if clear_credit is not None:
        given += 1
        request.clear_credit = vending_pb2.CreditRegister.ValueType(list(RegisterName).index(clear_credit) + 1)
    if clear_tamper:
        given += 1
        request.clear_tamper.SetInParent()
    if extended_set:
        given += 1
        index, data = _pair(extended_set, "--extended-set")
        request.extended_set.index, request.extended_set.data = index, data
    if proprietary:
        given += 1
        subclass, data = _pair(proprietary, "--proprietary")
        request.proprietary.subclass, request.proprietary.data = subclass, data
    if given != 1:
        raise typer.BadParameter("give exactly one command, such as --power-limit 5000")
    if propose:
        _propose(context, json, vending_pb2.TokenRequest(management=request))
        return
    _issue(context, json, "IssueManagementToken", request, output.show_management)


def _assign(request: vending_pb2.IssueManagementTokenRequest, field: str, number: int) -> None:
    try:
        setattr(request, field, number)
    except ValueError:
        raise typer.BadParameter(f"{number} is out of range") from None


def _pair(text: str, option: str) -> tuple[int, int]:
    first, colon, second = text.partition(":")
    if not colon or not first.isdecimal() or not second.isdecimal() or len(text) > 11:
        raise typer.BadParameter(f"{option} has the form NUMBER:NUMBER")
    return int(first), int(second)


@app.command("meter-test")
def meter_test(
    context: typer.Context,
    test: Annotated[int | None, typer.Option(min=0, max=36, help="Number of the test; 0 for all.")] = None,
    control: Annotated[str, typer.Option(help="The control field itself, hexadecimal.")] = "",
    extended_read: Annotated[int | None, typer.Option(min=0, help="Index of an extended read.")] = None,
    subclass: Annotated[int | None, typer.Option(min=0, max=15, help="Subclass; 0, or 2 for an extended read.")] = None,
    manufacturer: Annotated[int, typer.Option(min=0, max=65535, help="Manufacturer code; 0 for all.")] = 0,
    validate_only: Dry = False,
    request_id: RequestId = "",
    propose: Propose = False,
    json: Json = False,
) -> None:
    """Issue a meter test token (class 1), for any meter of a manufacturer."""
    if (test is not None) + bool(control) + (extended_read is not None) != 1:
        raise typer.BadParameter("give exactly one of --test, --control and --extended-read")
    default = 2 if extended_read is not None else 0
    request = vending_pb2.IssueMeterTestTokenRequest(
        subclass=default if subclass is None else subclass,
        manufacturer_code=manufacturer,
        validate_only=validate_only,
        request_id=request_id,
    )
    if test is not None:
        request.test = test
    elif extended_read is not None:
        request.extended_read_index = min(extended_read, 0xFFFFFFFF)
    else:
        try:
            request.control = int(control, 16)
        except ValueError:
            raise typer.BadParameter("--control is hexadecimal, at most 64 bits") from None
    if propose:
        _propose(context, json, vending_pb2.TokenRequest(meter_test=request))
        return
    _issue(context, json, "IssueMeterTestToken", request, output.show_meter_test)


@app.command("key-change")
def key_change(
    context: typer.Context,
    meter: Meter,
    sgc: Sgc,
    krn: Krn = 1,
    ti: Ti = "01",
    ea: Ea = 11,
    tct: Tct = 2,
    new_sgc: Annotated[str, typer.Option(help="New supply group code; the old one if not given.")] = "",
    new_krn: Annotated[int, typer.Option(min=0, max=255, help="New key revision number; 0 keeps the old one.")] = 0,
    new_ti: Annotated[str, typer.Option(help="New tariff index; the old one if not given.")] = "",
    set_size: Annotated[int, typer.Option(min=0, help="2 or 3 under EA07, 4 under EA11; 0 for the default.")] = 0,
    issue_time: IssueTime = "",
    validate_only: Dry = False,
    request_id: RequestId = "",
    propose: Propose = False,
    json: Json = False,
) -> None:
    """Issue a key-change set: the meter enters every token, in any order, and then holds the new key."""
    request = vending_pb2.IssueKeyChangeTokensRequest(
        meter=meter_of(meter, sgc, krn, ti, ea, tct),
        target=meter_pb2.KeyAssignment(
            supply_group_code=new_sgc or sgc, key_revision_number=new_krn or krn, tariff_index=new_ti or ti
        ),
        set_size=min(set_size, 255),
        validate_only=validate_only,
        request_id=request_id,
        certification=_certification(issue_time),
    )
    if propose:
        _propose(context, json, vending_pb2.TokenRequest(key_change=request))
        return
    _issue(context, json, "IssueKeyChangeTokens", request, output.show_key_change)


@app.command()
def verify(
    context: typer.Context,
    token: Annotated[str, typer.Argument(help="The 20 digits, in one piece or in quoted groups of four.")],
    meter: Meter = "",
    sgc: Sgc = "",
    krn: Krn = 1,
    ti: Ti = "01",
    ea: Ea = 11,
    tct: Tct = 2,
    json: Json = False,
) -> None:
    """Say whether a token is genuine for a meter, and what it says; exit status 3 if not. Class 1 needs no meter."""
    request = vending_pb2.VerifyTokenRequest(token=token)
    if bool(meter) != bool(sgc):
        raise typer.BadParameter("give --meter and --sgc together")
    if meter:
        request.meter.CopyFrom(meter_of(meter, sgc, krn, ti, ea, tct))
    found: list[vending_pb2.VerifyTokenResponse] = []

    def ask(client: KeywattClient) -> vending_pb2.VerifyTokenResponse:
        found.append(client.call(client.vending.VerifyToken, request))
        return found[0]

    run(context, json, ask, output.show_verification)
    if found[0].result != vending_pb2.VERIFICATION_RESULT_GENUINE:
        raise typer.Exit(_NOT_GENUINE)


@app.command("reset-identifiers")
def reset_identifiers(context: typer.Context, json: Json = False) -> None:
    """Forget every token identifier that was given out; certification mode only."""
    request = certification_pb2.ResetTokenIdentifiersRequest()
    run(context, json, lambda c: c.call(c.certification.ResetTokenIdentifiers, request), output.show_reset)


def main() -> None:
    """Entry point ``keywatt``."""
    app()


if __name__ == "__main__":
    main()
