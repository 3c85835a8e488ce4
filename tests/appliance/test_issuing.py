"""Issuing against a module that is played: identifiers, automatic key change, a module that changes under us."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from appliance.config import ApplianceSettings
from appliance.errors import (
    ConfigurationInvalid,
    IdentifierLookAhead,
    IdentifierUsed,
    KeyChangeRequired,
    MeterKeyMismatch,
)
from appliance.issuing.orders import Timing
from hsm.errors import HsmError, ModuleBusy, ModuleChanged, ModuleInterrupted, ModuleRefusal
from hsm.reasons import Reason
from hsm.requests import IssueItem, KeyChangeItem
from hsm.status import Mode
from sts.errors import TimeOutOfRange
from sts.identifiers import KeyType
from sts.token_identifier import BaseDate, TokenIdentifier
from tests.support.played import NOW, PANS, STATUS, World, holds, key_change, meter, order, submit

DUE = TokenIdentifier.from_naive(NOW.replace(tzinfo=None), BaseDate.BDT_2014).minutes


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = await World(f"sqlite:///{tmp_path}/ledger.db").open()
    yield world
    await world.close()


async def test_identifiers_follow_each_other_and_a_refusal_takes_none(world: World) -> None:
    assert (await world.sell())["identifier"] == DUE
    world.module.refuses = Reason.KEY_EXPIRED
    with pytest.raises(ModuleRefusal):
        await world.sell()
    world.module.refuses = Reason.OK
    assert (await world.sell())["identifier"] == DUE + 1


@pytest.mark.parametrize("error", [ModuleBusy("x"), ModuleInterrupted("x")])
async def test_a_token_that_was_never_released_leaves_no_trace(world: World, error: HsmError) -> None:
    world.module.fails = error
    with pytest.raises(type(error)):
        await world.sell()
    world.module.fails = None
    assert (await world.sell())["identifier"] == DUE


async def test_concurrent_sales_to_one_meter_never_share_an_identifier(world: World) -> None:
    answers = await asyncio.gather(*(world.sell() for _ in range(20)))
    assert [answer["identifier"] for answer in answers] == list(range(DUE, DUE + 20))


async def test_each_base_date_has_identifiers_of_its_own(tmp_path: Path) -> None:
    world = World(f"sqlite:///{tmp_path}/ledger.db")
    world.clock.wall_seconds = datetime.fromisoformat("2038-01-01T00:01:30+00:00").timestamp()
    await world.open()
    both = {sgc: [await world.sell(meter=meter(sgc=sgc)) for _ in range(2)] for sgc in ("201457", "203557")}
    await world.close()
    days = {14: 24 * 365 + 6, 35: 3 * 365 + 1}
    for answers, base_date in zip(both.values(), (14, 35), strict=True):
        # 00:01 is reserved: both begin at 00:02.
        assert [answer["identifier"] for answer in answers] == [days[base_date] * 1440 + 2, days[base_date] * 1440 + 3]
        assert {answer["base_date"] for answer in answers} == {base_date}


async def test_a_base_date_that_has_not_come_or_has_run_out_is_refused(world: World) -> None:
    with pytest.raises(TimeOutOfRange, match="has not come"):
        await world.sell(meter=meter(sgc="203557"))
    with pytest.raises(TimeOutOfRange, match="has run out"):
        await world.sell(meter=meter(sgc="123457"))


async def test_the_look_ahead_is_bounded_and_time_heals_it(world: World) -> None:
    for _ in range(31):
        await world.sell()
    with pytest.raises(IdentifierLookAhead):
        await world.sell()
    world.clock.passes(60)
    assert (await world.sell())["identifier"] == DUE + 31
    with pytest.raises(IdentifierLookAhead):
        await world.sell()
    assert (await world.sell(meter=meter(PANS[1])))["identifier"] == DUE + 1


async def test_key_change_is_required_unless_the_policy_makes_it(world: World, tmp_path: Path) -> None:
    changed = order(assignment=holds("201458", "02"))
    with pytest.raises(KeyChangeRequired):
        await world.sell(submit(changed))
    assert world.module.asked == []
    other = await World(f"sqlite:///{tmp_path}/other.db", module=world.module).open(automatic_key_change=True)
    answer = await other.sell(submit(changed))
    assert len(answer["key_change"]) == 4
    trial, change, credit = world.module.asked
    assert isinstance(trial, IssueItem)
    assert trial.validate_only
    assert isinstance(change, KeyChangeItem)
    assert (change.old_tariff_index, change.new_tariff_index, change.new_supply_group_code) == ("01", "02", "201458")
    assert isinstance(credit, IssueItem)
    assert credit.tariff_index == "02"
    assert not credit.validate_only
    await other.close()


async def test_no_key_change_tokens_for_a_sale_that_cannot_be(tmp_path: Path) -> None:
    world = await World(f"sqlite:///{tmp_path}/ledger.db").open(automatic_key_change=True)
    world.module.refuses = Reason.AMOUNT_TOO_LARGE
    with pytest.raises(ModuleRefusal):
        await world.sell(assignment=holds("201458"))
    assert not any(isinstance(item, KeyChangeItem) for item in world.module.asked)
    await world.close()


@pytest.mark.parametrize("stated", [{"key_type": KeyType.DEFAULT}, {"base_date": BaseDate.BDT_1993}])
async def test_no_key_change_from_a_key_that_the_meter_cannot_hold(world: World, stated: dict[str, Any]) -> None:
    wrong = replace(meter(), **stated)
    with pytest.raises(MeterKeyMismatch):
        await world.sell(submit(key_change(meter=wrong)))
    with pytest.raises(MeterKeyMismatch):
        await world.sell(meter=wrong)
    assert not any(isinstance(item, KeyChangeItem) for item in world.module.asked)


@pytest.mark.parametrize("change", [{"mode": Mode.CERTIFICATION}, {"module_id": "another"}])
async def test_a_module_that_changes_under_us_is_not_served(world: World, change: dict[str, Any]) -> None:
    await world.sell()
    world.module.status_now = replace(STATUS, **change)
    world.module.connections = 2
    with pytest.raises(ModuleChanged):
        await world.sell()
    world.module.status_now = STATUS
    await world.sell()


def reserved(date: datetime) -> Timing:
    return Timing(reserved_date=date)


async def test_reserved_identifier_is_given_once_and_does_not_move_the_last(world: World) -> None:
    today = datetime(2026, 11, 22)
    await world.sell()
    answer = await world.sell(timing=reserved(today))
    assert answer["identifier"] % 1440 == 1
    assert answer["identifier"] < DUE
    with pytest.raises(IdentifierUsed):
        await world.sell(timing=reserved(today))
    tomorrow = await world.sell(timing=reserved(datetime(2026, 11, 23)))
    assert tomorrow["identifier"] == answer["identifier"] + 1440
    # Neither of them moved the ordinary ones.
    assert (await world.sell())["identifier"] == DUE + 1


async def test_a_reserved_identifier_is_given_once_within_a_batch(world: World) -> None:
    today = order(timing=reserved(datetime(2026, 11, 22)))
    outcomes = await world.pipeline.submit([submit(today), submit(today)])
    assert [type(outcome) for outcome in outcomes] == [bytes, IdentifierUsed]


async def test_certification_replays_below_the_last_and_forgets_on_request(tmp_path: Path) -> None:
    world = World(f"sqlite:///{tmp_path}/ledger.db")
    world.module.status_now = replace(STATUS, mode=Mode.CERTIFICATION)
    await world.open()
    times = [Timing(issue_time=datetime(2014, 3, day, 13, 0)) for day in (2, 1, 1)]
    first = [(await world.sell(timing=timing))["identifier"] for timing in times]
    assert first[1] < first[0]
    assert first[2] == first[1] + 1
    assert await world.ledger.forget_identifiers() == 1
    assert (await world.sell(timing=times[1]))["identifier"] == first[1]
    await world.close()


@pytest.mark.parametrize("text", ["", "listen = 1", 'listen = "nowhere"', "surprise = 1", "not toml ="])
def test_bad_configuration(tmp_path: Any, text: str) -> None:
    path = tmp_path / "appliance.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationInvalid):
        ApplianceSettings.read(path)
    with pytest.raises(ConfigurationInvalid):
        ApplianceSettings.read(tmp_path / "missing.toml")
