"""Limits hold: in a race, over a crash, between appliances, and to the last unit; what was not issued counts nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from appliance.errors import LedgerUnavailable, LimitExceeded, NotAuthorised
from appliance.issuing.orders import Submission, Timing
from appliance.issuing.usage import UsageBook
from appliance.policy.authority import Authority
from appliance.policy.judge import Judge
from hsm.errors import ModuleRefusal, ModuleUnavailable
from hsm.reasons import Reason
from sts.credit import CreditSubClass
from sts.identifiers import MeterPAN
from tests.policy.texts import client, limit, policy
from tests.support.meters import pan
from tests.support.played import PANS, PlayedClock, World, key_change, meter, order, submit


def authority(*parts: str) -> Authority:
    return Authority(Judge(policy(client("alice"), client("bob"), *parts)))


def sales(count: int, **changes: Any) -> list[Submission]:
    """Sales to as many meters."""
    return [submit(order(meter=meter(MeterPAN(digits=pan(number)))), **changes) for number in range(1000, 1000 + count)]


def issued(outcomes: list[bytes | Exception]) -> int:
    for outcome in outcomes:
        assert isinstance(outcome, bytes | LimitExceeded), outcome
    return sum(isinstance(outcome, bytes) for outcome in outcomes)


async def at_once(world: World, submissions: list[Submission]) -> list[bytes | Exception]:
    return list(await asyncio.gather(*(world.outcome(one) for one in submissions)))


@pytest.mark.parametrize("most", [0, 1, 37, 199, 200])
async def test_200_at_once(ledger_url: str, most: int) -> None:
    world = await World(ledger_url).open(authority=authority(limit("daily", count=most)))
    try:
        assert issued(await at_once(world, sales(200))) == most
        # And as many more find nothing left.
        assert issued(await at_once(world, sales(200))) == 0 if most < 200 else True
    finally:
        await world.close()


async def test_200_at_once_at_two_appliances(postgres_url: str) -> None:
    worlds = [await World(postgres_url).open(authority=authority(limit("daily", count=77))) for _ in range(2)]
    try:
        submissions = sales(200)
        halves = await asyncio.gather(at_once(worlds[0], submissions[::2]), at_once(worlds[1], submissions[1::2]))
        assert issued([*halves[0], *halves[1]]) == 77
        assert all(halves)
    finally:
        for world in worlds:
            await world.close()


async def test_a_limit_outlives_a_crash(ledger_url: str) -> None:
    limits = limit("daily", count=5)
    world = await World(ledger_url).open(authority=authority(limits))
    assert issued(await at_once(world, sales(3))) == 3
    await world.close()
    world = await World(ledger_url, clock=PlayedClock(datetime(2026, 11, 22, 12, 1, tzinfo=UTC))).open(
        authority=authority(limits)
    )
    try:
        assert issued(await at_once(world, sales(10))) == 2
    finally:
        await world.close()


async def test_a_repetition_counts_once(ledger_url: str) -> None:
    world = await World(ledger_url).open(authority=authority(limit("daily", count=1)))
    try:
        (sale,) = sales(1)
        answers = {await world.pipeline.ask(lambda: sale) for _ in range(3)}
        assert len(answers) == 1
        assert issued(await at_once(world, sales(1))) == 0
        # Answered before: it is given again, though nothing is left.
        assert await world.outcome(sale) in answers
    finally:
        await world.close()


async def test_what_the_module_refused_counts_nothing(ledger_url: str) -> None:
    world = await World(ledger_url).open(authority=authority(limit("daily", count=3)))
    try:
        world.module.refuses = Reason.KEY_EXPIRED
        for outcome in await at_once(world, sales(3)):
            assert isinstance(outcome, ModuleRefusal)
        world.module.refuses = Reason.OK
        world.module.fails = ModuleUnavailable("gone")
        for outcome in await at_once(world, sales(3)):
            assert isinstance(outcome, ModuleUnavailable)
        world.module.fails = None
        assert issued(await at_once(world, sales(10))) == 3
    finally:
        await world.close()


async def test_what_is_only_validated_counts_nothing_and_hears_of_it(ledger_url: str) -> None:
    world = await World(ledger_url).open(authority=authority(limit("daily", count=1)))
    try:
        trial = order(timing=Timing(validate_only=True))
        for _ in range(3):
            assert isinstance(await world.outcome(submit(trial)), bytes)
        assert issued(await at_once(world, sales(1))) == 1
        assert isinstance(await world.outcome(submit(trial)), LimitExceeded)
    finally:
        await world.close()


async def test_the_refusal_says_which_limit_how_much_and_until_when(ledger_url: str) -> None:
    world = await World(ledger_url).open(authority=authority(limit("units-a-day", "supply-group", units="51.0")))
    try:
        # 25.6 kWh each: two are 51.2, which is more.
        assert issued(await at_once(world, sales(2))) == 1
        (refused,) = [one for one in await at_once(world, sales(1)) if isinstance(one, LimitExceeded)]
        assert refused.details == {
            "limit": "units-a-day",
            "kind": "units",
            "most": "510",
            "used": "256",
            "resets": "2026-11-23T00:00",
        }
        # A smaller one still goes: the rest is not lost.
        small = submit(order(units=254, meter=meter(PANS[0])))
        assert isinstance(await world.outcome(small), bytes)
        assert isinstance(await world.outcome(submit(order(units=1, meter=meter(PANS[1])))), LimitExceeded)
    finally:
        await world.close()


async def test_rounding_up_counts(ledger_url: str) -> None:
    """16,385 tenths become 16,394 in the token's field: that is what is granted, and what counts."""
    world = await World(ledger_url).open(authority=authority(limit("units", units="1639.0")))
    try:
        big = submit(order(units=16_385))
        assert isinstance(await world.outcome(big), LimitExceeded)
        assert isinstance(await world.outcome(submit(order(units=16_384))), bytes)
    finally:
        await world.close()


async def test_a_window_ends(ledger_url: str) -> None:
    clock = PlayedClock(datetime(2026, 11, 22, 12, 59, tzinfo=UTC))
    world = await World(ledger_url, clock=clock).open(authority=authority(limit("hourly", window="hour", count=1)))
    try:
        assert issued(await at_once(world, sales(2))) == 1
        clock.passes(60)
        assert issued(await at_once(world, sales(2))) == 1
    finally:
        await world.close()


async def test_each_client_meter_and_group_has_its_own(ledger_url: str) -> None:
    world = await World(ledger_url).open(
        authority=authority(limit("clients", "client", count=3), limit("meters", "meter", count=1))
    )
    try:
        same = [submit(order(meter=meter(PANS[0]))) for _ in range(2)]
        assert issued(await at_once(world, same)) == 1
        assert issued(await at_once(world, sales(5))) == 2
        assert issued(await at_once(world, [submit(order(meter=meter(PANS[1])), client="bob")])) == 1
    finally:
        await world.close()


async def test_currency_and_key_changes_count_too(ledger_url: str) -> None:
    world = await World(ledger_url).open(
        authority=authority(limit("money", currency="2"), limit("changes", "all", count=1, classes=["key-change"]))
    )
    try:
        money = order(subclass=CreditSubClass.ELECTRICITY_CURRENCY, units=100_000, meter=meter(PANS[0]))
        # 1.00000 is granted as 1.00004: two are more than 2.
        assert isinstance(await world.outcome(submit(money)), bytes)
        assert isinstance(await world.outcome(submit(money)), LimitExceeded)
        assert isinstance(await world.outcome(submit(replace(money, units=-100_000))), bytes)
        assert isinstance(await world.outcome(submit(key_change())), bytes)
        assert isinstance(await world.outcome(submit(key_change())), LimitExceeded)
    finally:
        await world.close()


async def test_whoever_is_not_in_the_policy_issues_nothing(ledger_url: str) -> None:
    world = await World(ledger_url).open(authority=authority())
    try:
        outcome = await world.outcome(submit(order(), client="mallory"))
        assert isinstance(outcome, NotAuthorised)
        assert world.module.asked == []
    finally:
        await world.close()


async def test_an_automatic_key_change_needs_its_own_permission(ledger_url: str) -> None:
    from tests.support.played import holds

    only_credit = '[[client.grant]]\nsupply_groups = ["*"]\nclasses = ["0.0"]\n'
    judge = Judge(policy(client("alice", only_credit)))
    world = await World(ledger_url).open(authority=Authority(judge), automatic_key_change=True)
    try:
        moved = order(assignment=holds(ti="02"))
        assert isinstance(await world.outcome(submit(moved)), NotAuthorised)
        assert isinstance(await world.outcome(submit(order())), bytes)
    finally:
        await world.close()


async def test_a_commit_in_doubt_counts(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows whether it is durable: on one process it counts until the ledger is read again; never too little."""
    world = await World(ledger_url).open(authority=authority(limit("daily", count=2)))
    try:
        from appliance.ledger.ledger import Transaction

        keep = Transaction.commit

        async def fail(self: Transaction, *arguments: Any, **more: Any) -> None:
            await self.abandon()
            raise LedgerUnavailable("in doubt")

        monkeypatch.setattr(Transaction, "commit", fail)
        (outcome,) = await at_once(world, sales(1))
        assert isinstance(outcome, LedgerUnavailable)
        monkeypatch.setattr(Transaction, "commit", keep)
        assert issued(await at_once(world, sales(5))) in ({1} if "sqlite" in ledger_url else {2})
    finally:
        await world.close()


def test_a_book_forgets_what_is_over() -> None:
    from appliance.issuing import usage

    judge = Judge(policy(client("alice"), limit("minutes", "meter", "minute", count=1)))
    from appliance.policy.judge import Asked

    book = UsageBook()
    start = datetime(2026, 11, 29, 12, 0)
    charges = [
        judge.judge(Asked(client="alice", supply_groups=("201457",), token_class=0, subclass=0, meter=number), start)
        for number in range(10)
    ]
    for charge in charges:
        book.reserve(charge)
        book.settle(charge)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usage, "_PRUNE_AT", 5)
        book.prune(start)
        with pytest.raises(LimitExceeded):
            book.reserve(charges[0])
        book.prune(datetime(2026, 11, 29, 12, 59))
        with pytest.raises(LimitExceeded):
            book.reserve(charges[0])
        book.prune(datetime(2026, 11, 29, 13, 1))
    book.reserve(charges[0])
