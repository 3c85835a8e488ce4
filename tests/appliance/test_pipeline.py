"""The pipeline on both databases: one answer for one request, whatever happens around it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from appliance.errors import (
    AnswerUnreadable,
    ClockStopped,
    DeadlinePassed,
    FieldMissing,
    KeyChangeRequired,
    LedgerConflict,
    LedgerUnavailable,
    QueueFull,
    RequestIdReused,
)
from appliance.issuing.orders import MeterTestOrder, Submission, Timing
from appliance.ledger.answers import AnswerCipher
from appliance.ledger.ledger import Ledger, Transaction
from appliance.ledger.records import Filter
from hsm.errors import ModuleInterrupted
from hsm.reasons import Reason
from tests.support.played import CIPHER, PANS, PlayedClock, World, holds, key_change, meter, order, submit


@pytest_asyncio.fixture
async def world(ledger_url: str) -> AsyncIterator[World]:
    world = await World(ledger_url).open(queue_max=600)
    yield world
    await world.close()


async def test_a_repeated_request_has_the_stored_answer_after_a_crash(ledger_url: str) -> None:
    world = await World(ledger_url).open()
    sale = submit()
    first = await world.outcome(sale)
    assert first == await world.outcome(sale)
    await world.close()
    after = await World(ledger_url).open()
    assert await after.outcome(sale) == first
    assert after.module.asked == []
    await after.close()


async def test_a_stored_answer_needs_neither_module_nor_clock_nor_key(world: World) -> None:
    sale = submit()
    first = await world.outcome(sale)
    world.module.fails = ModuleInterrupted("x")
    world.clock.steps(-3600)
    assert await world.outcome(sale) == first
    assert isinstance(await world.outcome(submit()), ClockStopped)


async def test_another_request_under_the_same_id_is_refused(world: World) -> None:
    sale = submit()
    first = await world.outcome(sale)
    other = submit(order(units=1), request_id=sale.request_id)
    assert isinstance(await world.outcome(other), RequestIdReused)
    assert await world.outcome(sale) == first
    # The id is the client's own.
    assert isinstance(await world.outcome(submit(order(units=1), request_id=sale.request_id, client="bob")), bytes)


async def test_the_same_request_many_times_at_once_is_one_issue(world: World) -> None:
    sale = submit()
    outcomes = await asyncio.gather(*(world.outcome(sale) for _ in range(50)))
    assert len(set(outcomes)) == 1
    assert len(world.module.asked) == 1
    both = await world.pipeline.submit([sale, sale, submit(order(units=1), request_id=sale.request_id)])
    assert both[0] == both[1] == outcomes[0]
    assert isinstance(both[2], RequestIdReused)


async def test_another_body_while_the_first_is_under_way_is_refused(world: World) -> None:
    world.module.gate = asyncio.Event()
    sale = submit()
    first = asyncio.create_task(world.outcome(sale))
    await world.module.until_asked()
    assert isinstance(await world.outcome(submit(order(units=1), request_id=sale.request_id)), RequestIdReused)
    world.module.gate.set()
    assert isinstance(await first, bytes)


async def test_a_refused_request_changes_nothing_and_its_id_stays_free(world: World) -> None:
    sale = submit(order(assignment=holds(ti="02")))
    assert isinstance(await world.outcome(sale), KeyChangeRequired)
    assert await world.ledger.list(Filter(client=None), 10) == []
    assert isinstance(await world.outcome(submit(request_id=sale.request_id)), bytes)


async def test_validate_only_uses_nothing_up(world: World) -> None:
    trial = submit(order(timing=Timing(validate_only=True)))
    for _ in range(50):
        assert isinstance(await world.outcome(trial), bytes)
    assert await world.ledger.list(Filter(client=None), 10) == []
    answer = await world.sell(submit(request_id=trial.request_id))
    assert answer["digits"]
    # And it may be asked again under an id that is used up.
    assert isinstance(await world.outcome(trial), bytes)


async def test_class_1_and_key_changes_are_as_safe_to_repeat(world: World) -> None:
    for what in (
        MeterTestOrder(subclass=0, control=1, manufacturer_code=0, validate_only=False),
        key_change(),
    ):
        request = submit(what)
        first = await world.outcome(request)
        assert isinstance(first, bytes)
        assert await world.outcome(request) == first
    found = await world.ledger.list(Filter(client="alice"), 10)
    assert [len(one.tokens) for one in found] == [1, 4]
    assert found[0].tokens[0].meter is None
    assert all(token.identifier is None for one in found for token in one.tokens)


async def test_one_bad_request_in_a_batch_stands_alone(world: World) -> None:
    good = [submit(order(meter=meter(pan))) for pan in PANS]
    bad = submit(order(meter=meter(sgc="999999")))
    outcomes = await world.pipeline.submit([good[0], bad, *good[1:]])
    assert [isinstance(outcome, bytes) for outcome in outcomes] == [True, False, True, True]


async def test_what_waits_goes_together(world: World) -> None:
    world.module.gate = asyncio.Event()
    tasks = [asyncio.create_task(world.outcome(submit(order(meter=meter(PANS[0])))))]
    await world.module.until_asked()
    # One meter is in one batch at a time: these wait, and then go as one.
    tasks += [asyncio.create_task(world.outcome(submit())) for _ in range(20)]
    await asyncio.sleep(0.05)
    assert world.module.batches == [1]
    world.module.gate.set()
    assert all(isinstance(outcome, bytes) for outcome in await asyncio.gather(*tasks))
    assert world.module.batches == [1, 20]


async def test_the_queue_is_bounded(world: World) -> None:
    outcomes = await world.pipeline.submit(
        [submit(order(meter=meter(PANS[number % 3]), timing=Timing(validate_only=True))) for number in range(700)]
    )
    assert [isinstance(outcome, bytes) for outcome in outcomes] == [True] * 600 + [False] * 100
    assert isinstance(outcomes[-1], QueueFull)
    assert isinstance(await world.outcome(submit()), bytes)


def _same(sale: Submission) -> Submission:
    return sale


async def test_single_calls_count_before_they_are_read(ledger_url: str) -> None:
    world = await World(ledger_url).open(queue_max=3)
    sales = [submit(order(meter=meter(pan))) for pan in PANS]
    waiting = [world.pipeline.ask(partial(_same, sale)) for sale in sales]
    with pytest.raises(QueueFull):
        world.pipeline.ask(submit)
    assert all(isinstance(answer, bytes) for answer in await asyncio.gather(*waiting))
    await world.close()


async def test_a_single_call_that_cannot_be_read_stands_alone(world: World) -> None:
    def unreadable() -> Submission:
        raise FieldMissing("amount is missing", field="amount")

    waiting = [world.pipeline.ask(read) for read in (submit, unreadable, submit)]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [bytes, FieldMissing, bytes]
    assert world.pipeline.batches == 1


async def test_a_single_call_that_is_given_up_is_not_even_read(world: World) -> None:
    def unread() -> Submission:
        raise AssertionError("read")

    world.pipeline.ask(unread).cancel()
    assert isinstance(await world.outcome(submit()), bytes)
    assert world.pipeline.requests == 1


async def test_a_deadline_is_honoured_before_work_starts(world: World) -> None:
    past = asyncio.get_running_loop().time() - 1
    outcome = await world.outcome(submit(deadline=past))
    assert isinstance(outcome, DeadlinePassed)
    assert world.module.asked == []


async def test_a_call_that_is_given_up_before_work_starts_is_forgotten(world: World) -> None:
    world.module.gate = asyncio.Event()
    first = asyncio.create_task(world.outcome(submit()))
    await world.module.until_asked()
    given_up, sale = submit(), submit()
    waiting = [asyncio.create_task(world.outcome(one)) for one in (given_up, sale, sale)]
    await asyncio.sleep(0.01)
    waiting[0].cancel()
    # One of two who wait for the same answer gives up: the other one still gets it.
    waiting[1].cancel()
    await asyncio.sleep(0)
    world.module.gate.set()
    await asyncio.gather(first)
    assert isinstance(await waiting[2], bytes)
    assert len(world.module.asked) == 2
    assert await world.ledger.find("alice", given_up.request_id) is None


async def test_a_call_that_is_given_up_under_way_is_finished_and_kept(world: World) -> None:
    world.module.gate = asyncio.Event()
    sale = submit()
    call = asyncio.create_task(world.outcome(sale))
    await world.module.until_asked()
    call.cancel()
    await asyncio.sleep(0)
    world.module.gate.set()
    await world.pipeline.drain()
    found = await world.ledger.find("alice", sale.request_id)
    assert found is not None
    assert await world.outcome(sale) == found.answer
    assert len(world.module.asked) == 1


async def test_no_commit_no_token(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: Transaction, *_: object, **__: object) -> None:
        await self.abandon()
        raise LedgerUnavailable("no space")

    sale = submit()
    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "commit", fail)
        assert isinstance(await world.outcome(sale), LedgerUnavailable)
    assert len(world.module.asked) == 1
    answer = await world.sell(sale)
    assert len(world.module.asked) == 2
    assert answer["identifier"] == world.module.asked[1].token_identifier  # type: ignore[union-attr]


async def test_an_error_that_nobody_foresaw_reaches_every_caller_and_stops_nothing(world: World) -> None:
    world.module.fails = ZeroDivisionError()
    outcomes = await world.pipeline.submit([submit(), submit()])
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 2
    world.module.fails = None
    assert isinstance(await world.outcome(submit()), bytes)


async def test_a_conflict_in_a_batch_does_not_hold_up_the_rest(postgres_url: str) -> None:
    one, two = await World(postgres_url).open(), await World(postgres_url).open()
    # Class 1 has no meter to lock: both issue, one commits, the other one finds that answer.
    request = submit(MeterTestOrder(subclass=0, control=1, manufacturer_code=0, validate_only=False))
    one.module.gate = asyncio.Event()
    slow = asyncio.create_task(one.pipeline.submit([submit(), request, submit()]))
    await one.module.until_asked()
    fast = await two.outcome(request)
    one.module.gate.set()
    outcomes = await slow
    assert outcomes[1] == fast
    assert all(isinstance(outcome, bytes) for outcome in outcomes)
    identifiers = [token.identifier for one_ in await one.ledger.list(Filter(client=None), 10) for token in one_.tokens]
    assert len(identifiers) == 3
    await one.close()
    await two.close()


async def test_a_conflict_that_lasts_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def begin(*_: object) -> Transaction:
        raise LedgerConflict("locked")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "begin", begin)
        assert isinstance(await world.outcome(submit()), LedgerConflict)
    assert isinstance(await world.outcome(submit()), bytes)


async def test_two_appliances_on_one_ledger_never_share_an_identifier(postgres_url: str) -> None:
    worlds = [await World(postgres_url).open(look_ahead=400) for _ in range(2)]
    sales = [submit(order(meter=meter(PANS[number % 2]))) for number in range(200)]

    async def run(world: World, order_: list[int]) -> list[object]:
        return await asyncio.gather(*(world.outcome(sales[number]) for number in order_))

    # Both are given every request, in opposite order.
    there, back = await asyncio.gather(run(worlds[0], list(range(200))), run(worlds[1], list(range(199, -1, -1))))
    assert there == back[::-1]
    assert len(set(there)) == 200
    tokens = [token for one in await worlds[0].ledger.list(Filter(client=None), 1000) for token in one.tokens]
    assert len(tokens) == len({(token.meter, token.identifier) for token in tokens}) == 200
    for world in worlds:
        await world.close()


async def test_a_refusal_by_the_module_takes_no_identifier_from_the_ledger(world: World) -> None:
    world.module.refuses = Reason.KEY_EXPIRED
    await world.outcome(submit())
    world.module.refuses = Reason.OK
    answer = await world.sell()
    assert answer["identifier"] == world.module.asked[0].token_identifier  # type: ignore[union-attr]


async def test_a_restored_ledger_begins_past_all_that_can_have_been_given(tmp_path: Path) -> None:
    from appliance.ledger.storage import queries
    from appliance.ledger.storage.open import make_engine

    url = f"sqlite:///{tmp_path}/ledger.db"
    world = await World(url).open()
    before = await world.sell()
    await world.close()
    engine = make_engine(url)
    clock = PlayedClock()
    with engine.begin() as connection:
        queries.set_floor(connection, clock.milliseconds() + 31 * 60_000)
        queries.set_floor(connection, 0)
    engine.dispose()
    restored = await World(url).open()
    assert (await restored.sell())["identifier"] == before["identifier"] + 31
    assert (await restored.sell(meter=meter(PANS[1])))["identifier"] == before["identifier"] + 31
    await restored.close()
    assert CIPHER.current == 1


async def test_an_answer_that_does_not_open_is_nobody_elses_trouble(ledger_url: str) -> None:
    world = await World(ledger_url).open()
    sealed = submit()
    await world.outcome(sealed)
    await world.close()
    stranger = World(ledger_url)
    await stranger.open()
    stranger.ledger._cipher = AnswerCipher({2: bytes(32)})
    outcomes = await stranger.pipeline.submit([submit(), sealed, submit()])
    assert [type(outcome) for outcome in outcomes] == [bytes, AnswerUnreadable, bytes]
    await stranger.close()


async def test_rows_and_mark_carry_the_time_that_was_let_through(world: World) -> None:
    world.module.gate = asyncio.Event()
    sale = submit()
    call = asyncio.create_task(world.outcome(sale))
    await world.module.until_asked()
    # While the module works the clock is a year off for a moment.
    world.clock.steps(365 * 86400)
    world.module.gate.set()
    await call
    world.clock.steps(-365 * 86400)
    found = await world.ledger.find("alice", sale.request_id)
    assert found is not None
    assert found.created.timestamp() == world.clock.wall_seconds
    assert (await world.ledger.clock_mark()).milliseconds == world.clock.milliseconds()


async def test_who_has_more_time_keeps_the_request_alive(world: World) -> None:
    world.module.gate = asyncio.Event()
    first = asyncio.create_task(world.outcome(submit()))
    await world.module.until_asked()
    now = asyncio.get_running_loop().time()
    hasty = submit(deadline=now + 0.02)
    calls = [asyncio.create_task(world.outcome(one)) for one in (hasty, replace(hasty, deadline=now + 60))]
    await asyncio.sleep(0.1)
    world.module.gate.set()
    outcomes = await asyncio.gather(first, *calls)
    assert all(isinstance(outcome, bytes) for outcome in outcomes)


async def test_a_batch_that_is_held_up_does_not_hold_up_other_meters(world: World) -> None:
    world.module.gate = asyncio.Event()
    first = asyncio.create_task(world.outcome(submit()))
    await world.module.until_asked()
    world.module.is_asked.clear()
    second = asyncio.create_task(world.outcome(submit(order(meter=meter(PANS[1])))))
    await asyncio.wait_for(world.module.until_asked(), 10)
    assert world.module.batches == [1, 1]
    world.module.gate.set()
    assert all(isinstance(outcome, bytes) for outcome in await asyncio.gather(first, second))


async def test_no_transaction_stays_open_whatever_interrupts_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.ledger.storage import sqlite

    world = await World(f"sqlite:///{tmp_path}/ledger.db").open()
    sale = submit()
    real = sqlite._insert_all

    def fail(execute: Callable[..., object], table: str, rows: Sequence[tuple[object, ...]]) -> None:
        real(execute, table, rows)
        if table == "tokens":
            raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "_insert_all", fail)
        assert isinstance(await world.outcome(sale), MemoryError)
    assert await world.ledger.find("alice", sale.request_id) is None
    answer = await world.outcome(sale)
    assert isinstance(answer, bytes)
    found = await world.ledger.find("alice", sale.request_id)
    assert found is not None
    assert found.answer == answer
    await world.close()


async def test_a_foreign_writer_does_not_stop_the_event_loop(tmp_path: Path) -> None:
    world = await World(f"sqlite:///{tmp_path}/ledger.db").open()
    await world.sell()
    foreign = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    call = asyncio.create_task(world.outcome(submit()))
    turns = 0
    while turns < 50:
        await asyncio.sleep(0.005)
        turns += 1
    assert not call.done()
    foreign.execute("COMMIT")
    foreign.close()
    assert isinstance(await call, bytes)
    await world.close()
