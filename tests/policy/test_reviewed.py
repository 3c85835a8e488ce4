"""Ways round a policy that a hostile reading found: each was open once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from appliance.errors import ApprovalRequired, KeyChangeRequired, LimitExceeded, NotAuthorised, SignalRefused
from appliance.issuing.orders import Submission
from appliance.policy.authority import Authority
from appliance.policy.judge import Asked, Judge
from appliance.policy.signals import Signals
from hsm.reasons import Reason
from sts.identifiers import KeyExpiryNumber, MeterPAN
from tests.policy.test_limits import authority, sales
from tests.policy.texts import client, limit, policy
from tests.support.meters import pan
from tests.support.played import PlayedClock, World, holds, meter, order, submit

CREDIT_ONLY = '[[client.grant]]\nsupply_groups = ["*"]\nclasses = ["0.0"]\n'
KEY_CHANGE = '[[client.grant]]\nsupply_groups = ["*"]\nclasses = ["key-change"]\n'


def governed(*parts: str) -> Authority:
    return Authority(Judge(policy(*parts)))


def wants_key_change() -> list[Submission]:
    """Credits to meters that need a key change, said in every way that a request can say it."""
    base = meter()
    return [
        submit(order(meter=base, assignment=holds(ti="02"))),
        submit(order(meter=replace(base, key_expiry_number=KeyExpiryNumber(number=100)))),
        submit(order(meter=replace(base, key_expiry_number=KeyExpiryNumber(number=100)), assignment=holds())),
    ]


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize(
    ("parts", "refusal"),
    [
        ((client("alice", CREDIT_ONLY),), NotAuthorised),
        ((client("alice", CREDIT_ONLY + KEY_CHANGE), limit("kc", count=0, classes=["key-change"])), LimitExceeded),
        (
            (
                client("alice", CREDIT_ONLY + KEY_CHANGE + "approvals = 1\n"),
                client("bob", '[[client.approves]]\nsupply_groups = ["*"]\nclasses = ["key-change"]\n'),
            ),
            ApprovalRequired,
        ),
        ((client("alice", CREDIT_ONLY + KEY_CHANGE),), bytes),
    ],
    ids=["no grant", "no limit left", "approval", "allowed"],
)
async def test_a_key_change_that_comes_with_a_credit_is_one(
    ledger_url: str, parts: tuple[str, ...], refusal: type, place: int
) -> None:
    world = await World(ledger_url).open(authority=governed(*parts), automatic_key_change=True)
    try:
        outcome = await world.outcome(wants_key_change()[place])
        assert isinstance(outcome, refusal), outcome
    finally:
        await world.close()


async def test_without_automatic_key_changes_it_is_told_as_ever(ledger_url: str) -> None:
    world = await World(ledger_url).open(authority=governed(client("alice", CREDIT_ONLY)))
    try:
        for one in wants_key_change():
            assert isinstance(await world.outcome(one), KeyChangeRequired)
    finally:
        await world.close()


SIGNAL = '[[signal]]\nkind = "{}"\nrefuse = true\nminutes = 60\n{}\n'


async def test_what_is_refused_raises_no_signal_against_anybody(ledger_url: str) -> None:
    """One client asks for a meter again and again in vain; another sells to it all the same."""
    parts = (SIGNAL.format("velocity", "most = 2"), limit("none", "client", clients=["bob"], count=0))
    world = await World(ledger_url).open(authority=authority(*parts))
    try:
        for _ in range(10):
            assert isinstance(await world.outcome(submit(client="bob")), LimitExceeded)
        world.module.refuses = Reason.CLASS_NOT_ALLOWED
        for _ in range(5):
            assert not isinstance(await world.outcome(submit()), bytes | SignalRefused)
        world.module.refuses = Reason.OK
        assert isinstance(await world.outcome(submit()), bytes)
        assert isinstance(await world.outcome(submit()), bytes)
        assert isinstance(await world.outcome(submit()), SignalRefused)
    finally:
        await world.close()


async def test_refused_sales_do_not_thin_engineering_tokens_out(ledger_url: str) -> None:
    from tests.support.played import key_change

    parts = (SIGNAL.format("engineering-ratio", "percent = 10\nleast = 10"), limit("units", "client", units="10"))
    world = await World(ledger_url).open(authority=authority(*parts))
    try:
        outcomes: list[Any] = []
        for number in range(10):
            # Within a unit each: these are issued.
            one = order(meter=meter(MeterPAN(digits=pan(500 + number))), units=10)
            outcomes.append(await world.outcome(submit(one)))
        for number in range(300):
            one = order(meter=meter(MeterPAN(digits=pan(1000 + number))), units=10)
            outcomes.append(await world.outcome(submit(one)))
        assert sum(isinstance(one, bytes) for one in outcomes) == 10
        made = [
            await world.outcome(submit(replace(key_change(), meter=meter(MeterPAN(digits=pan(3000 + number))))))
            for number in range(5)
        ]
        assert [type(one) for one in made] == [bytes] + [SignalRefused] * 4
    finally:
        await world.close()


def test_a_signal_counts_as_far_as_it_can_be_set() -> None:
    now = [0.0]
    signals = Signals(lambda: now[0])
    signals.put(
        policy(client("alice"), '[[signal]]\nkind = "round-amounts"\nmost = 150000\nminutes = 60\nmultiple = "1"\n')
    )
    asked = [Asked(client="alice", supply_groups=("201457",), token_class=0, subclass=0, meter=1, units=10)]
    for _ in range(150_000):
        signals.see(asked, datetime(2026, 11, 29))
    assert not signals.counts
    signals.see(asked, datetime(2026, 11, 29))
    assert sum(signals.counts.values()) == 1


async def test_a_limit_for_all_groups_is_for_meter_tests_too() -> None:
    judge = Judge(policy(client("alice"), limit("all", supply_groups=["*"], count=0)))
    asked = Asked(client="alice", supply_groups=(), token_class=1, subclass=0)
    assert [charge.bound.limit for charge in judge.judge(asked, datetime(2026, 11, 29))] == ["all"]


async def test_counters_are_not_forgotten_because_a_clock_was_ahead(ledger_url: str) -> None:
    """As the appliance does it at a start: by the guard's clock, and long after the window."""
    clock = PlayedClock(datetime(2026, 11, 22, 12, 0, tzinfo=UTC))
    world = await World(ledger_url, clock=clock).open(authority=authority(limit("monthly", window="month", count=2)))
    try:
        outcomes = list(await asyncio.gather(*(world.outcome(one) for one in sales(3))))
        assert sum(isinstance(one, bytes) for one in outcomes) == 2
        month_ahead = datetime(2026, 12, 25, tzinfo=UTC).timestamp()
        assert await world.ledger.forget_usage(int((month_ahead - 40 * 24 * 3600) * 1000)) == 0
        assert isinstance(await world.outcome(sales(4)[-1]), LimitExceeded)
    finally:
        await world.close()


def test_what_was_refused_does_not_push_out_what_was_issued(monkeypatch: pytest.MonkeyPatch) -> None:
    from appliance.policy import signals as watched

    monkeypatch.setattr(watched, "_SUBJECTS_MAX", 50)
    signals = Signals(lambda: 1000.0)
    signals.put(policy(client("alice"), '[[signal]]\nkind = "velocity"\nmost = 3\nminutes = 60\n'))

    def asked(number: int) -> list[Asked]:
        return [Asked(client="alice", supply_groups=("201457",), token_class=0, subclass=0, meter=number)]

    for _ in range(3):
        signals.see(asked(1), datetime(2026, 11, 29))
    for number in range(2, 1000):
        signals.see(asked(number), datetime(2026, 11, 29))
        signals.unsee(asked(number))
    signals.see(asked(1), datetime(2026, 11, 29))
    assert sum(signals.counts.values()) == 1
