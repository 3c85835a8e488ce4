"""``keyloader keychange``: key-change tokens, for one meter or in a campaign that officers have approved."""

from __future__ import annotations

import json as json_format
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from keyloader.answers import METERS_REFUSED, REFUSED, console, errors, guarded
from keyloader.errors import ApprovalRefused, CampaignInvalid
from keyloader.keychange import course, slip
from keyloader.keychange.approval import officers_of, require, require_current
from keyloader.keychange.campaign import NAMESPACE, CampaignFile
from keyloader.keychange.meters import MeterChange, of_arguments
from keyloader.keychange.shop import KeyChangeSet, Shop
from keyloader.proquints import spell

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Key-change tokens for meters.")
CampaignPath = Annotated[Path, typer.Argument(metavar="CAMPAIGN", help="Campaign file (TOML).")]
Profile = Annotated[Path, typer.Option(envvar="KEYWATT_CLIENT", help="Client profile of the appliance (TOML).")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command()
def lint(campaign: CampaignPath, json: Json = False) -> None:
    """Check a campaign and its list of meters, and show what it changes; asks no appliance."""
    found = guarded(lambda: CampaignFile.read(campaign))
    if json:
        groups = [{"from": old, "to": new, "meters": count} for (old, new), count in sorted(found.groups.items())]
        shown = {"sha256": found.digest.hex(), "meters": len(found.changes), "groups": groups}
        sys.stdout.write(json_format.dumps(shown, sort_keys=True) + "\n")
        return
    console.print(f"{found.campaign.title}\n  {len(found.changes)} meters", markup=False)
    for (old, new), count in sorted(found.groups.items()):
        console.print(f"  {old} to {new}: {count}", markup=False)
    for one in found.campaign.recipient:
        console.print(f"  {one.name} gets {', '.join(one.supply_groups)}", markup=False)
    console.print(f"  sha256 {found.digest.hex()}\n  {spell(found.digest)}", markup=False)
    console.print("nothing is wrong with this campaign")


@app.command(name="text")
def approval_text(campaign: CampaignPath) -> None:
    """Print what officers sign to approve a campaign; with how to sign it, on standard error."""
    found = guarded(lambda: CampaignFile.read(campaign))
    sys.stdout.write(found.text)
    errors.print(f"sign it: ssh-keygen -Y sign -n {NAMESPACE} -f KEY FILE, and bring FILE.sig", markup=False)


@app.command()
def run(
    campaign: CampaignPath,
    approval: Annotated[list[Path], typer.Option(help="Signature of an officer; once for each.")],
    officers: Annotated[Path, typer.Option(help="Record of the ceremony that enrolled the officers.")],
    audit_key: Annotated[str, typer.Option(help="The module's audit key, which proves that record.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the tokens and the report.")],
    profile: Profile,
    json: Json = False,
) -> None:
    """Run a campaign: one encrypted file for each recipient, and a report. Run it again if it was cut off.

    Exit status 5: done, but some meters were refused, or a key was exchanged meanwhile; the report says which.
    """

    def work() -> course.Outcome:
        found = CampaignFile.read(campaign)
        today = datetime.now(UTC).date()
        if not found.campaign.not_before <= today <= found.campaign.not_after:
            raise CampaignInvalid(
                f"this campaign is for the days from {found.campaign.not_before} to {found.campaign.not_after}"
            )
        enrolled = officers_of(officers, _audit_key(audit_key))
        names = require(found, approval, enrolled, today)
        with Shop(profile) as shop:
            require_current(enrolled, shop.officers_digest())
            before = course.open_folder(output, found)
            if before:
                errors.print(f"goes on: {before} of {len(found.changes)} meters were through before", markup=False)
            with _progress() as bar:
                task = bar.add_task("meters", total=len(found.changes))
                return course.run(found, shop, output, names, lambda done: bar.update(task, completed=done))

    outcome = guarded(work)
    if json:
        sys.stdout.write(json_format.dumps(outcome.report, sort_keys=True) + "\n")
    else:
        _show(outcome)
    if not outcome.is_clean:
        raise typer.Exit(METERS_REFUSED)


def _audit_key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ApprovalRefused("an audit key is 64 hexadecimal digits, as the record of the initialisation has it")
    return key


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    return Progress(*columns, console=errors, disable=not errors.is_terminal)


class _Rate(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        """Show meters a second."""
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


def _show(outcome: course.Outcome) -> None:
    report = outcome.report
    console.print(f"{report['title']}: {report['sets']} of {report['meters']} meters, {report['tokens']} tokens")
    for group in report["groups"]:
        console.print(
            f"  {group['supply_group']} to {group['new_key']}: {group['sets']}, "
            f"check value of the new key {group['check_value']}",
            markup=False,
        )
    for reason, count in report["refused_by_reason"].items():
        console.print(f"  refused, {reason}: {count}", markup=False)
    for key in report["keys_that_changed"]:
        console.print(f"  TWO KEYS were behind {key} in this campaign: see the report", markup=False)
    if report["test_keys"]:
        console.print("  TEST KEYS: no meter in service takes these tokens")
    for path in outcome.files:
        console.print(f"  {path}", markup=False)


@app.command()
def one(
    meter: Annotated[str, typer.Option(help="Meter PAN or DRN.")],
    sgc: Annotated[str, typer.Option(help="Supply group that it holds.")],
    new_sgc: Annotated[str, typer.Option(help="Supply group that it is to hold.")],
    profile: Profile,
    krn: Annotated[int, typer.Option(help="Key revision that it holds.")] = 1,
    ti: Annotated[str, typer.Option(help="Tariff index that it holds.")] = "01",
    ea: Annotated[int, typer.Option(help="Encryption algorithm: 7 or 11.")] = 11,
    new_krn: Annotated[int, typer.Option(help="Key revision that it is to hold.")] = 1,
    new_ti: Annotated[str, typer.Option(help="Tariff index that it is to hold.")] = "01",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="PDF to write; must not exist.")] = None,
    customer_text: Annotated[str, typer.Option(help="Text above the tokens, instead of the usual one.")] = "",
    request_id: Annotated[str, typer.Option(help="To have the same set again.")] = "",
    json: Json = False,
) -> None:
    """Make the key-change tokens of one meter, and the page that its customer gets."""
    fields = (meter, sgc, str(krn), ti, str(ea), new_sgc, str(new_krn), new_ti)

    def work() -> KeyChangeSet:
        change = of_arguments(fields)
        if output is not None and output.exists():
            raise FileExistsError(17, "is there already", str(output))
        with Shop(profile) as shop:
            return _issue(shop, change, request_id or str(uuid.uuid4()))

    made = guarded(work)
    if made.reason:
        errors.print(f"{made.reason}: the appliance refuses; see docs/errors.md", style="bold", markup=False)
        raise typer.Exit(REFUSED)
    if output is not None:
        path = output
        guarded(lambda: slip.print_slip(made, customer_text, path))
    if json:
        shown = {"tokens": made.tokens, "request_id": made.request_id, "rollover": made.rollover}
        sys.stdout.write(json_format.dumps(shown | {"new_key": made.new_key, "test_key": made.test_key}) + "\n")
        return
    console.print(f"Key change of meter {made.change.meter_pan}, in this order:", markup=False)
    for number, digits in enumerate(made.tokens, 1):
        console.print(f"  {number}  {slip.grouped(digits)}", markup=False)
    console.print(
        f"  new key       {made.change.new_supply_group_code}/{made.change.new_key_revision_number}, "
        f"check value {made.new_key}",
        markup=False,
    )
    if made.rollover:
        console.print("  note          rollover: the meter forgets its token identifiers")
    if made.test_key:
        console.print("  note          TEST KEY: no meter in service takes these tokens")
    console.print(f"  request id    {made.request_id}", markup=False)
    if output is not None:
        console.print(f"  page          {output}", markup=False)


def _issue(shop: Shop, change: MeterChange, request_id: str) -> KeyChangeSet:
    (made,) = shop.change([(change, request_id)])
    return made
