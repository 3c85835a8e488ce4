"""Reconciliation names whatever is on one side only, or not the same on both; by hand-made ledgers and a real one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.reconcile import Reconciliation, reconcile
from appliance.ledger.records import Accounted
from appliance.ledger.storage import queries
from appliance.ledger.storage.open import make_engine
from hsm.log import leaves
from hsm.log.checkpoints import Checkpoint
from hsm.log.leaves import LeafType
from hsm.log.writer import LogWriter
from tests.log.support import leaf, publish, refusal
from tests.support.played import World, key_change, meter, order, submit

TIME = 1_700_000_000_000
NOW = TIME + 100_000


def change(number: int) -> bytes:
    return leaves.make(
        LeafType.KEY_CHANGE,
        TIME + number,
        client="spiffe://example/shop",
        request=f"{number:032x}",
        key="201457/1",
        meter="600727000000000009",
        tokens=[leaves.token_hash(f"{place}") for place in range(4)],
    )


def row(number: int, **changes: Any) -> Accounted:
    base = Accounted(
        client="spiffe://example/shop",
        request_id=number.to_bytes(16, "big"),
        meter="600727000000000009",
        key="201457/1",
        base_date=14,
        identifier=6_000_000 + number,
        token_class=0,
        subclass=0,
        value="256",
        log_index=number,
        created=TIME + number,
    )
    return replace(base, **changes)


def set_of(number: int) -> list[Accounted]:
    return [
        row(number, base_date=None, identifier=None, token_class=2, subclass=subclass, value="0")
        for subclass in (3, 4, 8, 9)
    ]


ENTRIES = [leaf(0), refusal(1), leaf(2), change(3), leaf(4)]
ROWS = [row(0), row(2), *set_of(3), row(4)]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Checkpoint]:
    folder = tmp_path_factory.mktemp("reconcile") / "log"
    writer = LogWriter.open(folder)
    writer.append(ENTRIES)
    note = publish(writer)
    writer.close()
    return folder, Checkpoint.parse(note.text)


def compare(log: tuple[Path, Checkpoint], rows: list[Accounted], **more: Any) -> Reconciliation:
    answered: Callable[[str, bytes], int | None] = more.pop("answered", lambda *_: None)
    ordered = sorted(rows, key=lambda token: token.log_index)
    return reconcile(*log, ordered, answered, **({"now": NOW} | more))


def test_what_is_the_same_agrees(log: tuple[Path, Checkpoint]) -> None:
    result = compare(log, ROWS)
    assert result.agrees, result.differences
    assert (result.entries, result.tokens) == (4, 7)
    totals = {(group.token_class, group.subclass): total for group, total in result.totals.items()}
    assert (totals[0, 0].in_log, totals[0, 0].in_ledger, totals[0, 0].value_in_log) == (3, 3, 768)
    assert totals[2, 3].in_ledger == 1


@pytest.mark.parametrize(
    ("rows", "index", "what"),
    [
        (ROWS[1:], 0, "not in the ledger"),
        (ROWS[:2] + ROWS[6:], 3, "not in the ledger"),
        (ROWS[:2] + ROWS[3:], 3, "4 tokens in the log, 3 in the ledger"),
        ([*ROWS, row(0)], 0, "1 tokens in the log, 2 in the ledger"),
        ([*ROWS, row(1)], 1, "not made according to the log"),
        ([*ROWS, row(7, log_index=-1)], -1, "not made according to the log"),
        ([*ROWS, row(7, created=TIME - 3600_000)], 7, "not made according to the log"),
        ([*ROWS, row(7, created=NOW + 3600_000)], 7, "not made according to the log"),
        ([row(0, client="other"), *ROWS[1:]], 0, "client is"),
        ([row(0, request_id=bytes(16)[:-1] + b"x"), *ROWS[1:]], 0, "request is"),
        ([row(0, meter="600727000000000017"), *ROWS[1:]], 0, "meter is"),
        ([row(0, key="201457/2"), *ROWS[1:]], 0, "key is"),
        ([row(0, value="2560"), *ROWS[1:]], 0, "value is 256 in the log, 2560 in the ledger"),
        ([row(0, value="rubbish"), *ROWS[1:]], 0, "value is"),
        ([row(0, identifier=None), *ROWS[1:]], 0, "identifier is"),
        ([row(0, base_date=35), *ROWS[1:]], 0, "base date is"),
        ([row(0, subclass=1), *ROWS[1:]], 0, "subclass is"),
        ([*ROWS[:3], replace(ROWS[3], client="other"), *ROWS[4:]], 3, "client is"),
    ],
)
def test_what_differs_is_named(log: tuple[Path, Checkpoint], rows: list[Accounted], index: int, what: str) -> None:
    result = compare(log, rows)
    assert not result.agrees
    assert {difference.index for difference in result.differences} == {index}
    assert what in str(result.differences[0])


def test_what_is_newer_than_the_checkpoint_is_not_missed(log: tuple[Path, Checkpoint]) -> None:
    assert compare(log, [*ROWS, row(7, created=TIME + 50)]).agrees


def test_an_answer_under_another_entry_is_said(log: tuple[Path, Checkpoint]) -> None:
    result = compare(log, ROWS[1:], answered=lambda _, request: 17 if request == bytes(16) else None)
    assert "not given out; the request was answered with entry 17" in str(result.differences[0])


def test_a_purged_ledger_is_compared_from_a_day_on(log: tuple[Path, Checkpoint]) -> None:
    assert compare(log, ROWS[1:], since=TIME + 1).agrees
    assert not compare(log, ROWS[1:-1], since=TIME + 1).agrees
    # A new row that points to an old entry is compared all the same.
    assert not compare(log, [row(0, value="1"), *ROWS[1:]], since=TIME + 1).agrees


def test_tokens_in_no_log_are_a_difference_and_those_of_others_are_counted(log: tuple[Path, Checkpoint]) -> None:
    assert not compare(log, ROWS, elsewhere={"": 3}).agrees
    result = compare(log, ROWS, elsewhere={"module-2": 5})
    assert result.agrees
    assert result.elsewhere == {"module-2": 5}


def test_altered_entries_do_not_pass_for_signed_ones(log: tuple[Path, Checkpoint], tmp_path: Path) -> None:
    folder, checkpoint = log
    bundle = tmp_path / "tile" / "entries" / "000.p" / "5"
    bundle.parent.mkdir(parents=True)
    source = (folder / "tile" / "entries" / "000.p" / "5").read_bytes()
    bundle.write_bytes(source.replace(b'"value":"256"', b'"value":"999"', 1))
    result = compare((tmp_path, checkpoint), [row(0, value="999"), *ROWS[1:]])
    assert "do not make the root" in str(result.differences[-1])


def test_names_cannot_pass_for_lines_of_ours(log: tuple[Path, Checkpoint]) -> None:
    result = compare(log, [*ROWS, row(1, client="x\nlog and ledger agree\x1b[2K")])
    assert "\n" not in str(result.differences[0])
    assert "\x1b" not in str(result.differences[0])


async def test_the_rows_of_a_real_ledger_are_all_looked_at(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    world = await World(url).open()
    await world.pipeline.submit([submit(order(meter=meter())), submit(key_change())])
    await world.close()
    origin = world.module.status_now.module_id
    engine = make_engine(url)
    with engine.connect() as connection:
        rows = list(queries.accounted(connection, origin))
        assert [(token.token_class, token.subclass) for token in rows] == [(2, 3), (2, 4), (2, 8), (2, 9), (0, 0)]
        assert queries.tokens_elsewhere(connection, origin) == {}
        first = rows[-1]
        assert queries.entry_of(connection, origin, first.client, first.request_id) == first.log_index
        assert queries.entry_of(connection, origin, "nobody", first.request_id) is None
    engine.dispose()
    altered = sqlite3.connect(tmp_path / "ledger.db")
    altered.execute("UPDATE tokens SET log_id = NULL WHERE subclass = 3")
    altered.execute("UPDATE tokens SET log_id = 77 WHERE subclass = 4")
    altered.execute("UPDATE tokens SET log_index = NULL WHERE subclass = 8")
    altered.execute("INSERT INTO logs (id, origin) VALUES (5, 'invented')")
    altered.execute("UPDATE tokens SET log_id = 5 WHERE subclass = 9")
    altered.execute("DELETE FROM clients")
    altered.commit()
    altered.close()
    engine = make_engine(url)
    with engine.connect() as connection:
        assert [token.client for token in queries.accounted(connection, origin)] == [""]
        assert queries.tokens_elsewhere(connection, origin) == {"": 3, "invented": 1}
    engine.dispose()
