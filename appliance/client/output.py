"""How the command line shows answers: for a person, or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import typer
from google.protobuf import json_format
from google.protobuf.message import Message
from keywatt.approval.v1 import approval_pb2
from keywatt.audit.v1 import audit_pb2
from keywatt.certification.v1 import certification_pb2
from keywatt.keys.v1 import keys_pb2
from keywatt.mandate.v1 import mandate_pb2
from keywatt.type.v1 import meter_pb2, token_pb2
from keywatt.vending.v1 import vending_pb2
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from appliance.client.client import ClientError

_UNIT_NAMES = {
    token_pb2.UNIT_KILOWATT_HOUR: "kWh",
    token_pb2.UNIT_CUBIC_METRE: "m3",
    token_pb2.UNIT_MINUTE: "min",
    token_pb2.UNIT_CURRENCY: "(currency)",
    token_pb2.UNIT_WATT: "W",
}
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def show_json(message: Message) -> None:
    """Print a message as JSON, one object, every field."""
    text = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    sys.stdout.write(json.dumps(text, indent=2, ensure_ascii=False) + "\n")


def amount(value: str, unit: token_pb2.Unit.ValueType) -> str:
    """Join an amount and its unit."""
    return f"{value} {_UNIT_NAMES.get(unit, '')}".rstrip()


def _row(name: str, value: object) -> None:
    console.print(f"  {name:<18}{value}")


def show_provenance(provenance: token_pb2.Provenance) -> None:
    """Print where a token was made, with warnings for tokens that no meter in service takes."""
    if provenance.HasField("key"):
        _row("vending key", describe_key(provenance.key))
    _row("module", provenance.module_id)
    if provenance.certification:
        _row("note", "CERTIFICATION MODE: no meter in service takes this token")
    if provenance.HasField("key") and provenance.key.test_key:
        _row("note", "TEST KEY: no meter in service takes this token")
    if provenance.sample_tables:
        _row("note", "SAMPLE TABLES of EA07: only test meters take this token")


def describe_key(key: meter_pb2.VendingKeyReference) -> str:
    """Name a vending key on one line."""
    name = f"SGC {key.supply_group_code} KRN {key.key_revision_number}"
    return f"{name}, check value {key.check_value} by {key.check_value_algorithm}"


def show_token(token: token_pb2.Token, title: str) -> None:
    """Print one token with its title."""
    if token.digits:
        console.print(f"{title}: [bold]{token.grouped}[/bold]")
    else:
        console.print(f"{title}: valid, not issued")
    if token.HasField("token_identifier"):
        _row("identifier", f"{token.token_identifier} ({token.token_time})")
    _row("class", f"{token.token_class}.{token.subclass}")


def show_credit(asked: str, response: vending_pb2.IssueCreditTokenResponse) -> None:
    """Print a credit token, and key-change tokens that go before it."""
    for number, token in enumerate(response.key_change_tokens, 1):
        show_token(token, f"Enter first, key change {number} of {len(response.key_change_tokens)}")
    show_token(response.token, "Credit token")
    _row("amount", amount(response.effective_amount, response.unit))
    if Decimal(asked) != Decimal(response.effective_amount):
        _row("note", f"asked for {asked}; the meter credits the next step that the field can hold")
    show_provenance(response.provenance)


def show_management(response: vending_pb2.IssueManagementTokenResponse) -> None:
    """Print a management token."""
    show_token(response.token, "Management token")
    _row("value", amount(response.effective_value, response.unit))
    show_provenance(response.provenance)


def show_meter_test(response: vending_pb2.IssueMeterTestTokenResponse) -> None:
    """Print a meter test token."""
    show_token(response.token, "Meter test token")
    _row("control", f"{response.control:X} (hexadecimal)")
    show_provenance(response.provenance)


def show_key_change(response: vending_pb2.IssueKeyChangeTokensResponse) -> None:
    """Print a key-change set in its order."""
    if not response.tokens:
        console.print("Key change: valid, not issued")
    for number, token in enumerate(response.tokens, 1):
        show_token(token, f"Key change {number} of {len(response.tokens)}")
    show_provenance(response.provenance)
    _row("new key", describe_key(response.new_key))
    if response.rollover:
        _row("note", "rollover: the meter forgets its token identifiers")


def show_request_id(request_id: str) -> None:
    """Print the id that the sale can be found by."""
    _row("request id", request_id)


def _issued_line(token: vending_pb2.IssuedToken) -> str:
    parts = [f"class {token.token_class}.{token.subclass}"]
    if token.meter_pan:
        parts.append(f"meter {token.meter_pan}, SGC {token.supply_group_code} KRN {token.key_revision_number}")
    if token.effective_value:
        parts.append(amount(token.effective_value, token.unit))
    if token.HasField("token_identifier"):
        parts.append(f"identifier {token.token_identifier}")
    return ", ".join(parts)


def _created(issuance: vending_pb2.Issuance) -> str:
    return issuance.create_time.ToDatetime(UTC).isoformat(timespec="milliseconds")


def show_issuance(response: vending_pb2.GetIssuanceResponse) -> None:
    """Print one issuance with its tokens."""
    console.print(f"Issued {_created(response.issuance)}")
    for token in response.issuance.tokens:
        _row("token", _issued_line(token))
    show_answer(response)


def show_issuances(response: vending_pb2.ListIssuancesResponse) -> None:
    """Print issuances, one block each."""
    for issuance in response.issuances:
        console.print(f"{_created(issuance)}  {issuance.request_id}")
        for token in issuance.tokens:
            console.print(f"    {_issued_line(token)}")
    if not response.issuances:
        console.print("Nothing was issued that fits")
    elif response.next_page_token:
        console.print("There are more: narrow the search, or raise --limit")


def show_verification(response: vending_pb2.VerifyTokenResponse) -> None:
    """Print what a verification found."""
    if response.result != vending_pb2.VERIFICATION_RESULT_GENUINE:
        console.print("Not genuine: the token is not for this meter and key, or a digit is wrong")
        return
    console.print("Genuine")
    _row("class", f"{response.token.token_class}.{response.token.subclass}")
    if response.token.HasField("token_identifier"):
        _row("identifier", f"{response.token.token_identifier} ({response.token.token_time})")
    if response.key_change:
        _row("kind", "key change; its contents are not shown")
    elif response.token.token_class == 1:
        _row("control", f"{response.control:X} (hexadecimal)")
        _row("manufacturer", f"{response.manufacturer_code} (0 is all)")
    else:
        _row("value", amount(response.effective_amount, response.unit))
    if response.key_expired:
        _row("note", "the key had expired at this time: the meter refuses the token")
    show_provenance(response.provenance)


def show_reset(response: certification_pb2.ResetTokenIdentifiersResponse) -> None:
    """Print what was forgotten."""
    console.print(f"Identifiers of {response.meters} meters forgotten")


def show_keys(response: keys_pb2.ListVendingKeysResponse) -> None:
    """Print vending keys as a table."""
    table = Table("SGC", "KRN", "KT", "DKGA", "base", "KEN", "check value", "origin", "protection")
    for key in response.keys:
        reference = key.reference
        table.add_row(
            reference.supply_group_code,
            str(reference.key_revision_number),
            str(int(reference.key_type)),
            f"{reference.decoder_key_generation_algorithm:02d}",
            f"{int(reference.base_date):02d}",
            str(reference.key_expiry_number),
            f"{reference.check_value} by {reference.check_value_algorithm}",
            key.origin,
            keys_pb2.ProtectionLevel.Name(key.protection_level).removeprefix("PROTECTION_LEVEL_").lower(),
        )
    console.print(table)


def show_status(response: keys_pb2.GetModuleStatusResponse) -> None:
    """Print the module's status, one field a line."""
    for field in response.DESCRIPTOR.fields:
        value: Any = getattr(response, field.name)
        if field.name == "protection_level":
            value = keys_pb2.ProtectionLevel.Name(value).removeprefix("PROTECTION_LEVEL_").lower()
        console.print(f"  {field.name:<28}{str(value).lower() if isinstance(value, bool) else value}")
    if response.single_user:
        console.print("  note: appliance and module process run as the same user (development without root)")


def fail(error: ClientError) -> typer.Exit:
    """Print an error for a person, and return the exit to raise."""
    errors.print(f"[bold]{error.reason or error.code.name}[/bold]: {error}")
    for name, value in error.details.items():
        errors.print(f"  {name}: {value}")
    if error.hint:
        errors.print(f"  {error.hint}")
    return typer.Exit(1)


_ORIGINS = {
    audit_pb2.TOKEN_ORIGIN_ISSUED: "ISSUED by this module",
    audit_pb2.TOKEN_ORIGIN_NOT_IN_LEDGER: "MADE BY THIS MODULE, BUT NOT IN THE LEDGER: who had it made?",
    audit_pb2.TOKEN_ORIGIN_OTHER_MODULE: "issued by another module of this ledger",
    audit_pb2.TOKEN_ORIGIN_UNKNOWN: "unknown: not in the log, and not a token of this meter under this key",
    audit_pb2.TOKEN_ORIGIN_MISUSE: "MISUSE: a genuine token that is in no log. Stop vending under this key.",
}


def show_identification(response: audit_pb2.IdentifyTokenResponse) -> None:
    """Print where a token came from."""
    console.print(f"[bold]{_ORIGINS.get(response.origin, 'unknown')}[/bold]")
    if response.log_origin:
        _row("log", f"{response.log_origin}, entry {response.log_index}")
    if response.entry:
        for name, value in json.loads(response.entry).items():
            shown = datetime.fromtimestamp(value / 1000, UTC).isoformat(" ", "seconds") if name == "time" else value
            _row(name, shown)


def _moment(stamp: Any) -> str:
    return f"{stamp.ToDatetime(UTC):%Y-%m-%d %H:%M} UTC"


def show_lease(lease: mandate_pb2.Lease) -> None:
    """Print a lease."""
    console.print(
        f"Lease {lease.number}: from {_moment(lease.from_time)} until [bold]{_moment(lease.until_time)}[/bold]"
    )


def show_mandate(response: mandate_pb2.GetMandateResponse) -> None:
    """Print policy, lease and what will end."""
    console.print(f"Module {response.module_id}")
    if response.HasField("policy"):
        policy = response.policy
        signers = ", ".join(policy.signed_by) or "a ceremony, or nobody (development)"
        console.print(f"Policy {policy.number}: {escape(policy.title)}")
        _row("sha256", policy.digest)
        _row("signed by", escape(signers))
    else:
        console.print("No policy: every client may do everything (development only)")
    if response.HasField("lease"):
        show_lease(response.lease)
    else:
        console.print(
            "No lease" + (": nothing is issued without one" if response.lease_required else ", and none is needed")
        )
    table = Table("what ends", "of", "when", "urgency", box=None)
    for horizon in response.horizons:
        when = _moment(horizon.time) if horizon.HasField("time") else f"{horizon.used:.0%} used"
        urgency = mandate_pb2.Urgency.Name(horizon.urgency).removeprefix("URGENCY_").lower()
        table.add_row(horizon.kind, escape(horizon.subject), when, "" if urgency == "none" else urgency)
    console.print(table)


def _state(proposal: approval_pb2.Proposal) -> str:
    return approval_pb2.ProposalState.Name(proposal.state).removeprefix("PROPOSAL_STATE_").lower()


def show_state(proposal: approval_pb2.Proposal) -> None:
    """Print where a proposal stands."""
    console.print(
        f"Proposal {proposal.proposal_id}: {_state(proposal)}, "
        f"{len(proposal.approvals)} of {proposal.approvals_needed} approvals"
    )


def show_proposal(proposal: approval_pb2.Proposal) -> None:
    """Print a proposal with every field of its request."""
    show_state(proposal)
    _row("proposed by", escape(proposal.client))
    _row("until", _moment(proposal.expire_time))
    _row("digest", proposal.digest)
    for approval in proposal.approvals:
        _row("approved by", f"{escape(approval.client)}, {_moment(approval.time)}")
    if proposal.rejected_by:
        _row("rejected by", escape(proposal.rejected_by))
    text = json_format.MessageToDict(proposal.request, preserving_proto_field_name=True)
    console.print(escape(json.dumps(text, indent=2, ensure_ascii=False)))


def show_proposals(proposals: Iterable[approval_pb2.Proposal]) -> None:
    """Print proposals, one on each line."""
    table = Table("proposal", "by", "what", "state", "approvals", "until", box=None)
    for proposal in proposals:
        table.add_row(
            proposal.proposal_id,
            escape(proposal.client),
            str(proposal.request.WhichOneof("request")).replace("_", " "),
            _state(proposal),
            f"{len(proposal.approvals)} of {proposal.approvals_needed}",
            _moment(proposal.expire_time),
        )
    console.print(table)


def show_answer(response: vending_pb2.GetIssuanceResponse | approval_pb2.ExecuteIssuanceResponse) -> None:
    """Print the answer of an issuing call, inside of another."""
    match response.WhichOneof("answer"):
        case "credit":
            show_credit(response.credit.effective_amount, response.credit)
        case "management":
            show_management(response.management)
        case "meter_test":
            show_meter_test(response.meter_test)
        case "key_change":
            show_key_change(response.key_change)
