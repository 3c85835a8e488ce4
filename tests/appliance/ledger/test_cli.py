"""``keywatt-ledger`` as an operator uses it, on both databases."""

from __future__ import annotations

import asyncio
import subprocess
import sysconfig
import time
from pathlib import Path

import pytest

from appliance.ledger.answers import AnswerCipher
from appliance.ledger.storage import queries
from appliance.ledger.storage.open import make_engine
from tests.support.played import World, meter, order, submit
from tests.support.postgres import Postgres

DAY = 86400


@pytest.fixture
def config(ledger_url: str, tmp_path: Path) -> Path:
    AnswerCipher.add_key(tmp_path / "ledger.key")
    path = tmp_path / "appliance.toml"
    path.write_text(
        'listen = "127.0.0.1:1"\nmodule_socket = "/nowhere"\n[tls]\ncertificate = "a"\nprivate_key = "b"\n'
        f'client_ca = "c"\n[ledger]\nurl = "{ledger_url}"\nkey = "{tmp_path}/ledger.key"\n'
    )
    return path


def use(config: Path, url: str) -> None:
    lines = [f'url = "{url}"' if line.startswith("url") else line for line in config.read_text().splitlines()]
    config.write_text("\n".join(lines))


def run(config: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    program = Path(sysconfig.get_path("scripts")) / "keywatt-ledger"
    command = [str(program), *arguments, "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=60, check=False)


def sell(url: str, count: int, ago: float = 0) -> None:
    async def work() -> None:
        world = World(url)
        world.clock.wall_seconds = time.time() - ago
        await world.open(look_ahead=1000)
        await world.pipeline.submit([submit(order(meter=meter())) for _ in range(count)])
        await world.close()

    asyncio.run(work())


def test_status_check_and_purge(ledger_url: str, config: Path) -> None:
    sell(ledger_url, 30, ago=500 * DAY)
    # Off for so long, it wants to be told that the clock is right.
    assert run(config, "confirm-clock", "--yes", "--note", "was in store").returncode == 0
    sell(ledger_url, 5)
    shown = run(config, "status")
    assert "35 requests, 35 tokens, 1 clients" in shown.stdout, shown.stderr
    assert "online mode" in shown.stdout
    assert run(config, "check").stdout == "the ledger is sound\n"
    assert run(config, "purge", "--days", "399").returncode == 2
    assert run(config, "purge").stdout.startswith("30 requests")
    assert "5 requests, 5 tokens" in run(config, "status").stdout
    assert run(config, "check").returncode == 0


def test_a_clock_that_is_ahead_makes_no_sale_old(ledger_url: str, config: Path) -> None:
    # To the ledger these are the latest sales, whatever the clock of this machine makes of them.
    sell(ledger_url, 3, ago=450 * DAY)
    assert run(config, "purge").stdout.startswith("0 requests")


def test_damage_is_named(ledger_url: str, config: Path) -> None:
    sell(ledger_url, 3)
    engine = make_engine(ledger_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM requests")
    engine.dispose()
    found = run(config, "check")
    assert found.returncode == 1
    assert "3 tokens belong to no request" in found.stdout


def test_confirmations_are_kept_with_their_reason(ledger_url: str, config: Path) -> None:
    sell(ledger_url, 1)
    assert run(config, "confirm-clock", "--note", "moved", stdin="n\n").returncode == 1
    done = run(config, "confirm-clock", "--note", "moved to another rack", stdin="y\n")
    assert done.returncode == 0
    assert "Is the clock of this machine right?" in done.stdout
    assert run(config, "confirm-clock").returncode == 2
    engine = make_engine(ledger_url)
    with engine.connect() as connection:
        assert queries.clock_mark(connection).epoch == 1
        rows = connection.exec_driver_sql("SELECT epoch, note FROM confirmations").fetchall()
        assert [tuple(row) for row in rows] == [(1, "moved to another rack")]
    engine.dispose()


def test_after_a_restore_identifiers_begin_in_the_future(ledger_url: str, config: Path) -> None:
    sell(ledger_url, 1)
    first = run(config, "restored").stdout
    assert "past all that can have been given out" in first
    until = first.split("begin at ")[1][:19]
    again = run(config, "restored", "--since", until).stdout
    # Identifiers may have run ahead of the first floor as they run ahead of a clock.
    assert again.split("begin at ")[1][:19] > until
    assert "the ledger was restored" in run(config, "status").stdout


def test_new_keys_are_appended(config: Path) -> None:
    assert "ledger key 2 added" in run(config, "new-key").stdout
    assert AnswerCipher.read(config.parent / "ledger.key").current == 2


def test_an_empty_postgresql_is_upgraded_on_purpose_only(postgres: Postgres, config: Path) -> None:
    url = postgres.database("empty")
    use(config, url)
    refused = run(config, "status")
    assert refused.returncode == 2
    assert "CONFIGURATION_INVALID" in refused.stderr
    assert "keywatt-ledger upgrade" in refused.stderr
    assert run(config, "upgrade").stdout == "schema: empty -> 0004\n"
    assert run(config, "status").returncode == 0


def test_what_is_not_there_is_said_so(tmp_path: Path, config: Path) -> None:
    use(config, f"sqlite:///{tmp_path}/none.db")
    for command in ("status", "check", "purge", "restored"):
        found = run(config, command)
        assert found.returncode == 2
        assert "LEDGER_UNAVAILABLE" in found.stderr
        assert "Traceback" not in found.stderr
