"""``keywatt-reconcile``: compares the module's log with the ledger.

Exit status: 0 they agree, 1 they do not, 2 one of them cannot be read.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from appliance.audit.reconcile import Group, Reconciliation, Total, reconcile
from appliance.config import ApplianceSettings
from appliance.errors import ApplianceError, ConfigurationInvalid
from appliance.ledger.storage import open as opening
from appliance.ledger.storage import queries
from hsm.log.checkpoints import CHECKPOINT, Checkpoint
from hsm.log.cli import key_argument
from hsm.log.errors import LogError
from hsm.log.notes import NOTE_MAX, Note
from hsm.log.tiles import read_regular

_AGREES, _DIFFERS, _UNREADABLE = 0, 1, 2
_IN_FLIGHT_SECONDS = 2.0
_WIDTH = 240


def _date(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)


def _run(arguments: argparse.Namespace) -> Reconciliation:
    settings = ApplianceSettings.read(arguments.config)
    folder = arguments.log or (settings.audit.log if settings.audit is not None else None)
    if folder is None:
        raise ConfigurationInvalid("audit.log is not set: name the log with --log")
    try:
        note = Note.parse(read_regular(folder / CHECKPOINT, NOTE_MAX))
    except OSError as error:
        raise ConfigurationInvalid(f"{folder / CHECKPOINT}: {error.strerror or error}") from None
    checkpoint = Checkpoint.parse(note.text) if arguments.key is None else Checkpoint.open(note, arguments.key)
    # What the checkpoint covers is in the ledger a moment later.
    time.sleep(_IN_FLIGHT_SECONDS)
    engine = opening.make_engine(settings.ledger.url, operator=True)
    opening.require_head(opening.revision(engine))
    since = 0 if arguments.since is None else int(arguments.since.timestamp() * 1000)
    columns = (TextColumn("comparing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        opening.reading(engine) as rows,
        opening.reading(engine) as questions,
        Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar,
    ):
        task = bar.add_task("", total=checkpoint.size)
        return reconcile(
            folder,
            checkpoint,
            queries.accounted(rows, checkpoint.origin),
            partial(queries.entry_of, questions, checkpoint.origin),
            elsewhere=queries.tokens_elsewhere(questions, checkpoint.origin, since),
            since=since,
            progress=partial(bar.advance, task),
        )


def _show(result: Reconciliation, *, is_verified: bool) -> None:
    # Names and sums are never cut off: what does not go to a terminal has room.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDTH)
    console.print(f"log {result.origin}, {result.size:,} entries; {result.entries:,} of them made tokens", markup=False)
    if not is_verified:
        console.print("the checkpoint's signature was not checked: give --key, and prove the log with keywatt-verify")
    table = Table()
    for name in ("day", "client", "key", "class", "in log", "in ledger", "value in log", "value in ledger"):
        table.add_column(name, overflow="fold")
    for group, total in sorted(result.totals.items()):
        style = None if (total.in_log, total.value_in_log) == (total.in_ledger, total.value_in_ledger) else "bold"
        # As they are: what clients call themselves is no markup.
        table.add_row(*map(Text, _cells(group, total)), style=style)
    console.print(table)
    for difference in result.differences:
        console.print(f"DIFFERENCE {difference}", markup=False)
    for origin, count in sorted(result.elsewhere.items()):
        if origin:
            console.print(f"{count:,} tokens of the ledger are in the log of {origin}", markup=False)
    if result.differing > len(result.differences):
        console.print(f"… and {result.differing - len(result.differences):,} more")
    console.print("log and ledger agree" if result.agrees else f"{result.differing:,} differences")


def _cells(group: Group, total: Total) -> list[str]:
    return [
        group.day,
        group.client,
        group.key or "-",
        f"{group.token_class}.{group.subclass}",
        f"{total.in_log:,}",
        f"{total.in_ledger:,}",
        str(total.value_in_log),
        str(total.value_in_ledger),
    ]


def _as_json(result: Reconciliation) -> dict[str, object]:
    return {
        "origin": result.origin,
        "size": result.size,
        "entries": result.entries,
        "tokens": result.tokens,
        "differing": result.differing,
        "elsewhere": result.elsewhere,
        "differences": [asdict(difference) for difference in result.differences],
        "totals": [
            asdict(group) | {name: str(value) for name, value in asdict(total).items()}
            for group, total in sorted(result.totals.items())
        ],
    }


def main() -> int:
    """Entry point ``keywatt-reconcile``."""
    parser = argparse.ArgumentParser(
        prog="keywatt-reconcile", description="Compare the module's log with the ledger, both ways."
    )
    parser.add_argument("--config", type=Path, default=Path("/etc/keywatt/appliance.toml"), help="of the appliance")
    parser.add_argument("--log", type=Path, help="folder of the log; else audit.log of the configuration")
    parser.add_argument("--key", type=key_argument, help="verifier key of the module, or a file with it")
    parser.add_argument("--since", type=_date, help="leave out what is older than this day (2026-01-31): it was purged")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    arguments = parser.parse_args()
    try:
        result = _run(arguments)
    except (ApplianceError, LogError) as error:
        print(f"keywatt-reconcile: {error.reason}: {error}\n{error.hint}", file=sys.stderr)
        return _UNREADABLE
    if arguments.json:
        print(json.dumps(_as_json(result), sort_keys=True))
    else:
        _show(result, is_verified=arguments.key is not None)
    return _AGREES if result.agrees else _DIFFERS


if __name__ == "__main__":
    sys.exit(main())
