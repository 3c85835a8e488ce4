"""Commands of ceremonies: lint, rehearse, run, print, verify.

Exit status: 0 done, 1 refused or failed (the token store is as it was), 2 plan or site file wrong, 3 stopped by those
present, 4 a record that is not proven.
"""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from hsm.log.durable import replace_file
from keyloader import paper, record, rehearsal
from keyloader import plan as plans
from keyloader.answers import NOT_PROVEN, console, errors, guarded
from keyloader.ceremonies.base import Action, actions_digest
from keyloader.conduct import Conduct
from keyloader.desk import Desk
from keyloader.errors import CeremonyStopped, RecordInvalid
from keyloader.inventory import take
from keyloader.plan import PlanFile
from keyloader.proquints import spell
from keyloader.recovery import settle
from keyloader.signers import TableSigner
from keyloader.site import Site

_SITE = Path("/etc/keywatt/site.toml")

PlanPath = Annotated[Path, typer.Argument(metavar="PLAN", help="Plan of the ceremony (TOML).")]
SitePath = Annotated[Path, typer.Option(help="Where this machine has things (TOML).")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def lint(plan: PlanPath, json: Json = False) -> None:
    """Check a plan, and show what it does and the digest that is approved; touches no module."""

    def work() -> tuple[PlanFile, list[Action]]:
        found = PlanFile.read(plan)
        return found, found.plan.ceremony.actions(found.folder)

    found, actions = guarded(work)
    if json:
        shown = {"plan": str(plan), "sha256": found.digest.hex(), "kind": found.plan.ceremony.kind}
        _print_json(
            shown | {"actions": [action.what for action in actions], "actions_sha256": actions_digest(actions).hex()}
        )
        return
    desk = Desk(console)
    desk.show_plan(found.plan.title, found.digest, found.plan.ceremony.script(), actions_digest(actions))
    for action in actions:
        desk.say(f"the module is asked to {action.what}")
    desk.say("nothing is wrong with this plan")


def rehearse(plan: PlanPath, json: Json = False) -> None:
    """Hold a ceremony on a throw-away token, with throw-away keys: the same code, nothing of it remains."""

    def work() -> record.Verified:
        found = PlanFile.read(plan)
        desk = Desk(errors if json else console, is_rehearsal=True)
        with rehearsal.rehearsing(found, desk) as conduct:
            return record.verify(record.read(conduct.hold()))

    verified = guarded(work)
    if json:
        _print_json({"outcome": "rehearsed", "officers": verified.officers})
        return
    console.print(
        f"REHEARSAL  went well: approved by {', '.join(verified.officers)}; nothing of it remains", markup=False
    )


def run(plan: PlanPath, site: SitePath = _SITE, json: Json = False) -> None:
    """Hold a ceremony: on a copy of the token store, which is put in force only if all went well.

    With --json all that is shown and asked goes to standard error, and the result to standard output.
    """
    table = errors if json else console

    def work() -> tuple[Path, Path | None, list[Path]]:
        found, place = PlanFile.read(plan), Site.read(site)
        conduct = Conduct(
            plan=found,
            site=place,
            desk=Desk(table),
            signer=TableSigner(place.records),
            ceremony=found.plan.ceremony,
            folder=found.folder,
        )
        path = conduct.hold()
        done = record.read(path)
        record.verify(done, files=found.folder)
        papers = _write_papers(done, path, table)
        return path, _print_pages(done, path, place), papers

    path, printed, papers = guarded(work)
    if json:
        pages = None if printed is None else str(printed)
        _print_json({"record": str(path), "pages": pages, "papers": [str(one) for one in papers]})
        return
    console.print(f"Done. The record is {path}{f', to print and sign {printed}' if printed else ''}.", markup=False)


def _write_papers(done: record.Record, path: Path, table: Console) -> list[Path]:
    """Write the files that follow from a record; what fails now does not undo the ceremony."""
    papers: list[Path] = []
    for name, octets in (
        plans.parse(str(done.fields["plan"]), "the plan").ceremony.papers(done.fields, done.audit_key).items()
    ):
        paper_path = path.with_name(f"{path.stem}-{name}")
        try:
            replace_file(paper_path, octets)
        except OSError as error:
            errors.print(f"The ceremony is done, but {paper_path} is not written: {error.strerror}", markup=False)
            errors.print(f"  keyloader papers {path} writes it.", markup=False)
            continue
        papers.append(paper_path)
        table.print(f"{name} is in {paper_path}", markup=False)
    return papers


def papers(
    file: Annotated[Path, typer.Argument(metavar="RECORD", help="Record of a ceremony (JSON).")],
    json: Json = False,
) -> None:
    """Write the files that follow from a record beside it once more, such as the request for keys."""

    def work() -> list[Path]:
        found = record.read(file)
        if not record.verify(found).is_done:
            raise RecordInvalid("this ceremony was refused: nothing follows from it")
        return _write_papers(found, file, errors if json else console)

    written = guarded(work)
    if json:
        _print_json({"papers": [str(one) for one in written]})
    elif not written:
        console.print("nothing follows from this record but its pages (keyloader verify --pdf)", markup=False)


def _print_pages(done: record.Record, path: Path, site: Site) -> Path | None:
    """Write and print the pages of a ceremony that is done: what fails now does not undo it."""
    printed = path.with_suffix(".pdf")
    try:
        paper.print_record(done, printed)
        site.send_to_printer(printed)
    except Exception as error:  # noqa: BLE001 - see above
        errors.print(
            f"The ceremony is done, but its pages are not printed: {error or type(error).__name__}", markup=False
        )
        errors.print(f"  keyloader verify {path} --key KEY --pdf FILE writes them.", markup=False)
        return None
    return printed


def inventory(site: SitePath = _SITE, json: Json = False) -> None:
    """Show what the token in force holds, read back from it; every key proves itself first."""

    def work() -> dict[str, Any]:
        return take(Site.read(site))

    found = guarded(work)
    if json:
        _print_json(found)
        return
    for name in ("module", "token_serial", "store", "audit_key"):
        console.print(f"{name.replace('_', ' '):<14} {found[name]}", markup=False)
    console.print(f"{'tables':<14} {found['tables']['name']}, SHA-256 {found['tables']['sha256']}", markup=False)
    console.print(f"{'stores':<14} {', '.join(found['stores'])}", markup=False)
    for officer in found["officers"]:
        kind = "FIDO2" if officer["fido2"] else "plain"
        shown = f"{officer['name']}, {officer['valid_from']} to {officer['valid_until']}, {kind} {officer['key']}"
        console.print(f"{'officer':<14} {shown}", markup=False)
    if found["needed"]:
        needed = ", ".join(f"{kind} {count}" for kind, count in found["needed"].items())
        console.print(f"{'needed':<14} {needed}", markup=False)
    for centre in found["centres"]:
        console.print(f"{'centre':<14} {centre['name']}, {centre['key']}", markup=False)
    if found["lease"] is not None:
        lease = found["lease"]
        console.print(f"{'lease':<14} lease {lease['number']}, {lease['from']} to {lease['until']}", markup=False)
    if found["policy"] is not None:
        policy = found["policy"]
        console.print(f"{'policy':<14} policy {policy['number']}, SHA-256 {policy['sha256']}", markup=False)
    for key in found["keys"]:
        _show_key(key)
    console.print(f"{found['keys_proved']} keys, each proves its record", markup=False)


def _show_key(key: dict[str, Any]) -> None:
    """Show a key: what it is, until when, and who brought it."""
    more = ("horizon", "custody", "algorithm", "state", "sgc", "krn", "kcv")
    shown = " ".join(f"{name}={value}" for name, value in key.items() if name not in more)
    console.print(
        f"{'key':<14} {key['sgc']}/{key['krn']}  {key['state']}  check value {key['kcv'].upper()} "
        f"by {key['algorithm']}",
        markup=False,
    )
    console.print(f"{'':<14}   {shown}", markup=False)
    horizon = key["horizon"]
    left = f"in {horizon['days']} days" if horizon["days"] >= 0 else "OVER"
    console.print(f"{'':<14}   until {horizon['until']} ({horizon['bound']}, {left})", markup=False)
    custody = key["custody"]
    if custody is None:
        console.print(f"{'':<14}   no record here tells of its loading", markup=False)
        return
    entered = f"; components by {', '.join(custody['custodians'])}" if custody["custodians"] else ""
    console.print(
        f"{'':<14}   loaded {custody['time']}, record {custody['record']}, approved by "
        f"{', '.join(custody['approved_by'])}{entered}",
        markup=False,
    )


def rollback(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Name of the store, such as store-0003.")],
    site: SitePath = _SITE,
    json: Json = False,
) -> None:
    """Put another token store in force, usually the one before; the module's log tells of it."""

    def work() -> str:
        # First what a kill left is settled: afterwards nobody could tell what was in force when.
        stores, _ = settle(Site.read(site))
        before = "none" if stores.current is None else stores.current.name
        if (
            Desk(errors if json else console).ask(f"{store} is to take the place of {before}. Type {store} to go on")
            != store
        ):
            raise CeremonyStopped("the name was not typed")
        stores.put_in_force(store)
        return before

    before = guarded(work)
    if json:
        _print_json({"in_force": store, "before": before})
        return
    console.print(f"{store} is in force; {before} is still there", markup=False)


def print_script(
    plan: PlanPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="PDF to write; must not exist.")] = Path("script.pdf"),
    json: Json = False,
) -> None:
    """Write the script of a ceremony as A4 pages, with a box for time and initials at each step."""

    def work() -> None:
        found = PlanFile.read(plan)
        paper.print_script(found, actions_digest(found.plan.ceremony.actions(found.folder)), output)

    guarded(work)
    if json:
        _print_json({"file": str(output)})
        return
    console.print(str(output), markup=False)


def verify(
    file: Annotated[Path, typer.Argument(metavar="RECORD", help="Record of a ceremony (JSON).")],
    key: Annotated[str, typer.Option(help="Public audit key that is trusted, 64 hexadecimal digits.")] = "",
    files: Annotated[
        Path | None, typer.Option(help="Folder of the files that lay beside the plan, to compare them too.")
    ] = None,
    pdf: Annotated[Path | None, typer.Option(help="Write it as A4 pages too; must not exist.")] = None,
    json: Json = False,
) -> None:
    """Prove a record with the module's public audit key: plan, approvals, actions and seal; needs no module."""
    try:
        trusted = bytes.fromhex(key) if key else None
    except ValueError:
        raise typer.BadParameter("a key is 64 hexadecimal digits") from None
    found = guarded(lambda: record.read(file))
    verified = guarded(lambda: record.verify(found, trusted, files))
    if pdf is not None:
        path = pdf
        guarded(lambda: paper.print_record(found, path))
    fields = verified.fields
    if json:
        shown = {
            "proven": trusted is not None,
            "outcome": fields["outcome"],
            "officers": verified.officers,
            "rehearsal": fields["rehearsal"],
        }
        _print_json(
            shown | {"sha256": found.digest.hex(), "audit_key": verified.audit_key.hex(), "title": fields["title"]}
        )
        raise typer.Exit(0 if trusted else NOT_PROVEN)
    mark = "REHEARSAL  " if fields["rehearsal"] else ""
    for name, value in (
        ("title", fields["title"]),
        ("outcome", fields["outcome"]),
        ("module", fields["module"]["id"]),
        ("plan", fields["plan_sha256"]),
        ("approved by", ", ".join(verified.officers)),
        ("audit key", verified.audit_key.hex()),
        ("record", found.digest.hex()),
        ("in words", spell(found.digest)),
    ):
        console.print(f"{mark}{name:<12} {value}", markup=False)
    if trusted is None:
        # Anybody can make a record that fits itself.
        console.print(f"{mark}NOT PROVEN: it fits itself; give the audit key that you trust with --key", markup=False)
        raise typer.Exit(NOT_PROVEN)
    console.print(f"{mark}proven: plan, approvals, actions and seal fit each other and this key", markup=False)


def _print_json(value: dict[str, object]) -> None:
    sys.stdout.write(json_format.dumps(value, sort_keys=True) + "\n")
