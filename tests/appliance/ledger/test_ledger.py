"""The ledger on both databases: what is durable, unique, sealed and found again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy

from appliance.errors import AnswerUnreadable, ConfigurationInvalid, LedgerConflict, LedgerUnavailable
from appliance.ledger.answers import AnswerCipher
from appliance.ledger.ledger import Ledger
from appliance.ledger.records import Claim, Entry, Filter, Method, RowNumbers, TokenEntry
from appliance.ledger.storage import queries
from appliance.ledger.storage.open import make_engine, open_storage, revision, upgrade
from appliance.ledger.storage.schema import HEAD, metadata
from sts.token_identifier import BaseDate
from tests.support.played import CIPHER, PlayedClock

METER = 600727000000000009
BDT = BaseDate.BDT_2014


def token(identifier: int | None = 100, meter: int | None = METER, **changes: object) -> TokenEntry:
    base = TokenEntry(
        meter=meter,
        base_date=None if identifier is None else BDT,
        identifier=identifier,
        supply_group_code=201457,
        key_revision_number=1,
        token_class=0,
        subclass=0,
        value=256,
    )
    return replace(base, **changes)


def entry(*tokens: TokenEntry, request_id: bytes | None = None, client: str = "alice") -> Entry:
    return Entry(
        client=client,
        request_id=request_id or os.urandom(16),
        fingerprint=bytes(32),
        method=Method.CREDIT,
        answer=b"digits 01234567890123456789",
        tokens=tokens or (token(),),
    )


def claim(of: Entry) -> Claim:
    return Claim(client=of.client, request_id=of.request_id, meter=of.tokens[0].meter)


async def store(ledger: Ledger, *entries: Entry) -> None:
    transaction = await ledger.begin([claim(one) for one in entries])
    await transaction.commit(entries, epoch=0)


@pytest_asyncio.fixture
async def ledger(ledger_url: str) -> AsyncIterator[Ledger]:
    ledger = await Ledger.open(ledger_url, CIPHER, certification=False, now=PlayedClock().milliseconds)
    yield ledger
    await ledger.close()


async def test_what_is_committed_is_found_after_a_restart(ledger_url: str) -> None:
    one, two = entry(), entry(token(101), token(None, token_class=2, subclass=3, value=0))
    ledger = await Ledger.open(ledger_url, CIPHER, certification=False)
    await store(ledger, one, two)
    await ledger.close()
    again = await Ledger.open(ledger_url, CIPHER, certification=False)
    transaction = await again.begin([claim(one), claim(entry()), claim(two)])
    assert {place: getattr(stored, "answer", None) for place, stored in transaction.stored.items()} == {
        0: one.answer,
        2: two.answer,
    }
    assert transaction.last(METER, BDT) == 101
    assert transaction.last(METER, BaseDate.BDT_2035) is None
    assert await transaction.taken(METER, BDT, 100)
    assert not await transaction.taken(METER, BDT, 102)
    await transaction.abandon()
    found = await again.find("alice", two.request_id)
    assert found is not None
    assert (found.tokens, found.answer, found.method) == (two.tokens, two.answer, Method.CREDIT)
    assert await again.find("alice", os.urandom(16)) is None
    assert await again.find("bob", two.request_id) is None
    await again.close()


async def test_the_last_identifier_is_an_ordinary_one_of_its_base_date(ledger: Ledger) -> None:
    reserved = 1440 * 5 + 1
    tokens = [token(100), token(reserved), token(90), token(70, base_date=BaseDate.BDT_2035), token(None)]
    await store(ledger, *(entry(one) for one in tokens))
    transaction = await ledger.begin([claim(entry()), claim(entry(token(meter=METER + 1)))])
    assert [transaction.last(METER, base_date) for base_date in (BDT, BaseDate.BDT_2035)] == [100, 70]
    assert transaction.last(METER, BaseDate.BDT_1993) is None
    assert transaction.last(METER + 1, BDT) is None
    assert await transaction.taken(METER, BDT, reserved)
    await transaction.abandon()


async def test_abandoned_work_leaves_nothing(ledger: Ledger) -> None:
    one = entry()
    transaction = await ledger.begin([claim(one)])
    await transaction.abandon()
    assert await ledger.find("alice", one.request_id) is None
    assert await ledger.list(Filter(client="alice"), 10) == []


def contents(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in folder.glob("ledger.db*")]


@pytest.mark.parametrize("size", [1, 63, 64, 65, 500])
async def test_batches_of_every_size(ledger: Ledger, size: int) -> None:
    entries = [entry(token(100 + i, meter=METER + i % 7)) for i in range(size)]
    await store(ledger, *entries)
    transaction = await ledger.begin([claim(one) for one in entries])
    assert sorted(transaction.stored) == list(range(size))
    assert transaction.last(METER, BDT) == max(100 + i for i in range(size) if i % 7 == 0)
    await transaction.abandon()


async def test_the_same_request_twice_cannot_be_committed(ledger: Ledger) -> None:
    one = entry()
    await store(ledger, one)
    with pytest.raises(LedgerConflict):
        await store(ledger, replace(one, tokens=(token(200),)))
    # Another client may use the same id.
    await store(ledger, replace(one, client="bob", tokens=(token(201),)))


async def test_the_same_identifier_twice_cannot_be_committed(ledger: Ledger) -> None:
    await store(ledger, entry(token(100)))
    good = entry(token(150))
    with pytest.raises(LedgerConflict):
        await store(ledger, good, entry(token(100)))
    # All or nothing.
    assert await ledger.find("alice", good.request_id) is None
    # The same minute under another base date, or without a meter, is another matter.
    await store(ledger, entry(token(100, base_date=BaseDate.BDT_2035)))
    await store(ledger, entry(token(None, meter=None)), entry(token(None, meter=None)))


async def test_currency_beyond_64_bits_is_kept_exactly(ledger: Ledger) -> None:
    huge = entry(token(value=-(10**35)))
    await store(ledger, huge)
    found = await ledger.find("alice", huge.request_id)
    assert found is not None
    assert found.tokens[0].value == -(10**35)


async def test_lists_by_meter_key_time_and_page(ledger_url: str) -> None:
    clock = PlayedClock()
    ledger = await Ledger.open(ledger_url, CIPHER, certification=False, now=clock.milliseconds)
    made = []
    for number in range(6):
        one = entry(token(100 + number, meter=METER + number % 2, supply_group_code=201457 + number % 3))
        await store(ledger, one)
        made.append(one.request_id)
        clock.passes(60)
    await store(ledger, entry(token(300), client="bob"))
    start = int(PlayedClock().wall_seconds * 1000)

    async def ids(**fields: object) -> list[int]:
        found = await ledger.list(Filter(**({"client": "alice"} | fields)), 100)  # type: ignore[arg-type]
        return [made.index(one.request_id) for one in found]

    assert await ids() == [0, 1, 2, 3, 4, 5]
    assert await ids(meter=METER) == [0, 2, 4]
    assert await ids(vending_key=(201458, 1)) == [1, 4]
    assert await ids(vending_key=(201458, 2)) == []
    assert await ids(meter=METER, vending_key=(201457, 1)) == [0]
    assert await ids(since=start + 60_000, until=start + 180_000) == [1, 2]
    assert await ids(client="carol") == []
    page = await ledger.list(Filter(client="alice"), 4)
    assert await ids(after=page[-1].row) == [4, 5]
    assert len(await ledger.list(Filter(client=None), 100)) == 7
    assert page[1].created.timestamp() * 1000 == start + 60_000
    await ledger.close()


async def test_no_digits_at_rest(ledger_url: str, tmp_path: Path) -> None:
    ledger = await Ledger.open(ledger_url, CIPHER, certification=False)
    await store(ledger, entry())
    await ledger.close()
    engine = make_engine(ledger_url)
    with engine.connect() as connection:
        rows = [
            str(value) if not isinstance(value, bytes | memoryview) else bytes(value).decode("latin-1")
            for table in metadata.sorted_tables
            for row in connection.execute(sqlalchemy.select(table))
            for value in row
        ]
    engine.dispose()
    assert any("alice" in value for value in rows)
    assert not any("01234567890123456789" in value for value in rows)
    assert not any(b"01234567890123456789" in octets for octets in contents(tmp_path))


async def test_answers_open_with_their_own_key_in_their_own_row_only(ledger_url: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.key"
    AnswerCipher.add_key(path)
    ledger = await Ledger.open(ledger_url, AnswerCipher.read(path), certification=False)
    one, two = entry(), entry(token(101))
    await store(ledger, one, two)
    await ledger.close()
    assert AnswerCipher.add_key(path) == 2
    newer = await Ledger.open(ledger_url, AnswerCipher.read(path), certification=False)
    found = await newer.find("alice", one.request_id)
    assert found is not None
    assert found.answer == one.answer
    await newer.close()
    path.write_text(path.read_text().splitlines()[1] + "\n")
    without = await Ledger.open(ledger_url, AnswerCipher.read(path), certification=False)
    with pytest.raises(AnswerUnreadable):
        await without.find("alice", one.request_id)
    transaction = await without.begin([claim(one)])
    assert isinstance(transaction.stored[0], AnswerUnreadable)
    await transaction.abandon()
    await without.close()
    # Whoever writes to the database cannot pass one sale's token off as another's.
    path.write_text("1 " + "00" * 32 + "\n")
    sealed = AnswerCipher.read(path)
    box = sealed.seal(bytes(12), b"x", "alice", one.request_id, bytes(32))
    assert sealed.open(1, box, "alice", one.request_id, bytes(32)) == b"x"
    for client, request_id, fingerprint in (
        ("bob", one.request_id, bytes(32)),
        ("alice", two.request_id, bytes(32)),
        ("alice", one.request_id, bytes(31) + b"1"),
    ):
        with pytest.raises(AnswerUnreadable):
            sealed.open(1, box, client, request_id, fingerprint)


def test_a_key_that_was_added_since_the_start_is_found(tmp_path: Path) -> None:
    path = tmp_path / "ledger.key"
    AnswerCipher.add_key(path)
    running = AnswerCipher.read(path)
    AnswerCipher.add_key(path)
    newer = AnswerCipher.read(path)
    box = newer.seal(bytes(12), b"x", "alice", bytes(16), bytes(32))
    assert running.open(newer.current, box, "alice", bytes(16), bytes(32)) == b"x"
    # It still seals with the key that it started with.
    assert running.current == 1


@pytest.mark.parametrize("text", ["", "1 00", "x " + "00" * 32, "1 " + "00" * 32 + "\n1 " + "11" * 32])
def test_a_bad_key_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ledger.key"
    with pytest.raises(ConfigurationInvalid):
        AnswerCipher.read(path)
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigurationInvalid):
        AnswerCipher.read(path)


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.key"
    AnswerCipher.add_key(path)
    path.chmod(0o644)
    with pytest.raises(ConfigurationInvalid, match="closed to others"):
        AnswerCipher.read(path)


async def test_a_ledger_keeps_its_purpose(ledger_url: str) -> None:
    ledger = await Ledger.open(ledger_url, CIPHER, certification=False)
    await ledger.close()
    with pytest.raises(ConfigurationInvalid, match="online"):
        await Ledger.open(ledger_url, CIPHER, certification=True)


def test_migrations_make_the_schema_of_the_code(ledger_url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    engine = make_engine(ledger_url)
    upgrade(engine)
    assert revision(engine) == HEAD
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
    scripts = ScriptDirectory(str(Path(queries.__file__).parents[1] / "migrations"))
    assert scripts.get_current_head() == HEAD


def test_another_revision_is_refused(ledger_url: str) -> None:
    engine = make_engine(ledger_url)
    upgrade(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(ConfigurationInvalid, match="keywatt-ledger upgrade"):
        open_storage(ledger_url)


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "nonsense", "postgresql+psycopg://u:secret@h/d"])
def test_other_databases_and_passwords_in_the_url_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationInvalid) as refusal:
        open_storage(url)
    assert "secret" not in str(refusal.value)


async def test_one_sqlite_file_has_one_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = await Ledger.open(url, CIPHER, certification=False)
    with pytest.raises(ConfigurationInvalid, match="another appliance process"):
        await Ledger.open(url, CIPHER, certification=False)
    await ledger.close()
    await (await Ledger.open(url, CIPHER, certification=False)).close()


async def test_a_link_to_the_file_is_the_file(tmp_path: Path) -> None:
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db", CIPHER, certification=False)
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "ledger.db")
    with pytest.raises(ConfigurationInvalid, match="another appliance process"):
        await Ledger.open(f"sqlite:///{link}", CIPHER, certification=False)
    await ledger.close()


async def test_no_database_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid):
        await Ledger.open(f"sqlite:///{tmp_path}/missing/ledger.db", CIPHER, certification=False)
    with pytest.raises(LedgerUnavailable):
        await Ledger.open(f"postgresql+psycopg:///nothing?host={tmp_path}", CIPHER, certification=False)


async def test_appliances_on_one_ledger_wait_for_each_others_meters(postgres_url: str) -> None:
    first = await Ledger.open(postgres_url, CIPHER, certification=False)
    second = await Ledger.open(postgres_url, CIPHER, certification=False)
    one, two = entry(token(100)), entry(token(101))
    held = await first.begin([claim(one)])
    waiting = asyncio.create_task(second.begin([claim(two), claim(one)]))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await held.commit([one], epoch=0)
    after = await waiting
    # Once the lock is free the other one sees all of it: the identifier, and the answer to a repeated request.
    assert after.last(METER, BDT) == 100
    assert getattr(after.stored[1], "answer", None) == one.answer
    await after.commit([two], epoch=0)
    await first.close()
    await second.close()


async def test_appliances_that_name_meters_in_any_order_never_wait_in_a_circle(postgres_url: str) -> None:
    ledgers = [await Ledger.open(postgres_url, CIPHER, certification=False) for _ in range(2)]

    async def work(ledger: Ledger, meters: list[int]) -> None:
        for _ in range(20):
            claims = [Claim(client="alice", request_id=os.urandom(16), meter=meter) for meter in meters]
            transaction = await ledger.begin(claims)
            entries = [
                Entry(
                    client="alice",
                    request_id=one.request_id,
                    fingerprint=bytes(32),
                    method=Method.CREDIT,
                    answer=b"x",
                    tokens=(token((transaction.last(one.meter or 0, BDT) or 0) + 2, meter=one.meter),),
                )
                for one in claims
            ]
            await transaction.commit(entries, epoch=0)

    meters = [METER + i for i in range(30)]
    await asyncio.gather(*(work(one, order) for one in ledgers for order in (meters, meters[::-1])))
    assert len(await ledgers[0].list(Filter(client="alice", meter=METER), 1000)) == 80
    for ledger in ledgers:
        await ledger.close()


def test_row_numbers_grow_and_never_repeat() -> None:
    one, two = RowNumbers(1), RowNumbers(2)
    rows = one.take(1000, 5000) + one.take(999, 10) + one.take(2000, 1)
    assert rows == sorted(set(rows))
    assert rows[-1] >> 21 == 2000
    assert not set(rows) & set(two.take(1000, 5000))
    assert all(row < 1 << 63 for row in one.take(4_000_000_000_000, 3))


async def test_purge_and_integrity(ledger_url: str) -> None:
    clock = PlayedClock()
    ledger = await Ledger.open(ledger_url, CIPHER, certification=False, now=clock.milliseconds)
    await store(ledger, *(entry(token(100 + i)) for i in range(20)))
    clock.passes(86400)
    kept = entry(token(500))
    await store(ledger, kept)
    await ledger.close()
    engine = make_engine(ledger_url)
    with engine.begin() as connection:
        assert queries.integrity(connection) == []
        assert queries.purge_chunk(connection, clock.milliseconds() - 1000) == 20
        assert queries.purge_chunk(connection, clock.milliseconds() - 1000) == 0
        assert queries.counts(connection)["tokens"] == 1
        assert queries.integrity(connection) == []
        connection.exec_driver_sql("DELETE FROM requests")
        assert queries.integrity(connection) == ["1 tokens belong to no request"]
    engine.dispose()
