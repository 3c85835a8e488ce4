"""``keywatt-ledger``: what an operator does with the ledger, on the machine of the appliance."""

from __future__ import annotations

import getpass
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import sqlalchemy
import typer
from sqlalchemy import Engine

from appliance.config import ApplianceSettings
from appliance.errors import ApplianceError, LedgerUnavailable
from appliance.ledger.answers import AnswerCipher
from appliance.ledger.ledger import milliseconds_now
from appliance.ledger.storage import open as opening
from appliance.ledger.storage import proposals, queries
from appliance.ledger.storage.schema import HEAD
from appliance.ledger.storage.writing import writing

_DAY_MS = 86_400_000
_KEEP_DAYS = 400
_PURGE_PAUSE_SECONDS = 0.05

app = typer.Typer(help="The ledger of the appliance.", no_args_is_help=True, add_completion=False)
Config = Annotated[Path, typer.Option("--config", help="settings of the appliance (TOML)")]
CONFIG = Path("/etc/keywatt/appliance.toml")


def _engine(config: Path) -> tuple[ApplianceSettings, Engine]:
    settings = ApplianceSettings.read(config)
    engine = opening.make_engine(settings.ledger.url, operator=True)
    database = engine.url.database
    if engine.dialect.name == "sqlite" and database is not None and not Path(database).exists():
        raise LedgerUnavailable(f"{database} does not exist; the appliance makes it at its first start")
    return settings, engine


def _current(config: Path) -> tuple[ApplianceSettings, Engine]:
    settings, engine = _engine(config)
    opening.require_head(opening.revision(engine))
    return settings, engine


def _show(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "never"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _milliseconds(moment: datetime | None) -> int:
    return 0 if moment is None else int(moment.replace(tzinfo=UTC).timestamp() * 1000)


@app.command()
def upgrade(config: Config = CONFIG) -> None:
    """Bring the schema to what this version needs; on PostgreSQL also the first time. Stop every appliance before."""
    settings = ApplianceSettings.read(config)
    engine = opening.make_engine(settings.ledger.url, operator=True)
    before = opening.revision(engine)
    opening.upgrade(engine)
    print(f"schema: {before or 'empty'} -> {opening.revision(engine)}")


@app.command()
def status(config: Config = CONFIG) -> None:
    """Say what the ledger holds, and what it knows of the clock. Counts every row."""
    _, engine = _current(config)
    with engine.connect() as connection:
        mark = queries.clock_mark(connection)
        counts = queries.counts(connection)
        purpose = queries.purpose(connection)
    print(f"database: {engine.dialect.name}, schema {HEAD}, for {purpose} mode")
    print("rows: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    print(f"clock: last token at {_show(mark.milliseconds)}, confirmed {mark.epoch} times")
    print(f"clock of this machine: {_show(milliseconds_now())}")
    if mark.floor > milliseconds_now():
        print(f"identifiers begin at {_show(mark.floor)}: the ledger was restored")


@app.command("confirm-clock")
def confirm_clock(
    note: Annotated[str, typer.Option(help="why the clock is right although it stepped; kept for ever")],
    config: Config = CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Say that the clock of this machine is right. Every appliance on the ledger goes on within seconds."""
    _, engine = _current(config)
    now = milliseconds_now()
    with engine.connect() as connection:
        mark = queries.clock_mark(connection)
    print(f"last token at {_show(mark.milliseconds)}; the clock of this machine says {_show(now)}")
    if not yes:
        typer.confirm("Is the clock of this machine right?", abort=True)
    with writing(engine).begin() as connection:
        queries.confirm_clock(connection, milliseconds_now(), getpass.getuser(), note)
    print("confirmed")


@app.command()
def restored(
    since: Annotated[
        datetime | None, typer.Option(help="what this command printed when the same ledger was last restored, UTC")
    ] = None,
    config: Config = CONFIG,
) -> None:
    """After a restore from a backup: let no identifier repeat one that was given out since. Before the first start."""
    settings, engine = _current(config)
    with writing(engine).begin() as connection:
        # Identifiers run ahead of a floor as they run ahead of the clock.
        ahead = (settings.issuing.look_ahead_minutes + 1) * 60_000
        floor = max(milliseconds_now(), _milliseconds(since)) + ahead
        queries.set_floor(connection, floor)
    print(f"identifiers begin at {_show(floor)}, past all that can have been given out before")
    print("Write this time down: a second restore of an older backup before it has passed needs it as --since.")
    print("Sales between the backup and now are not in this ledger: a retry of one of them would issue it again.")


@app.command()
def purge(
    days: Annotated[int, typer.Option(min=_KEEP_DAYS, help="keep so many days")] = _KEEP_DAYS,
    config: Config = CONFIG,
) -> None:
    """Delete requests and tokens older than so many days, in small steps, while the appliance runs."""
    _, engine = _current(config)
    with engine.connect() as connection:
        mark = queries.clock_mark(connection)
    # A clock that is ahead must not make sales of today old.
    latest = min(milliseconds_now(), mark.milliseconds or 0)
    before, total = latest - days * _DAY_MS, 0
    while True:
        with writing(engine).begin() as connection:
            count = queries.purge_chunk(connection, before)
        if not count:
            break
        total += count
        # The appliance's commits come between.
        time.sleep(_PURGE_PAUSE_SECONDS)
    with writing(engine).begin() as connection:
        forgotten = proposals.forget(connection, before)
    print(f"{total} requests and {forgotten} proposals from before {_show(before)} deleted")


@app.command()
def check(config: Config = CONFIG) -> None:
    """Look for damage: the file, and tokens without a request. Reads all of it."""
    _, engine = _current(config)
    with engine.connect() as connection:
        wrong = queries.integrity(connection)
    for line in wrong:
        print(line)
    if wrong:
        raise typer.Exit(1)
    print("the ledger is sound")


@app.command("new-key")
def new_key(config: Config = CONFIG) -> None:
    """Append a key to the key file; new answers are sealed with it from the next start on. Old keys stay needed."""
    settings = ApplianceSettings.read(config)
    print(f"ledger key {AnswerCipher.add_key(settings.ledger.key)} added; copy the file to every appliance first")


def main() -> int:
    """Entry point."""
    try:
        app()
    except ApplianceError as error:
        print(f"keywatt-ledger: {error.reason}: {error}\n{error.hint}", file=sys.stderr)
        return 2
    except sqlalchemy.exc.SQLAlchemyError as error:
        print(f"keywatt-ledger: {LedgerUnavailable.reason}: {type(error).__name__}", file=sys.stderr)
        return 2
    return 0
