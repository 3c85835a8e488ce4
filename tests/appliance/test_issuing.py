"""Issuing against a module that is played: identifiers, automatic key change, a module that changes under us."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import ApplianceSettings
from appliance.errors import (
    ConfigurationInvalid,
    IdentifierLookAhead,
    IdentifierUsed,
    KeyChangeRequired,
    MeterKeyMismatch,
)
from appliance.issuing.identifiers import IdentifierRegister, Reservation
from appliance.issuing.issuer import Issuer
from appliance.issuing.meter import KeyAssignment, Meter
from appliance.issuing.module import ModuleCatalogue
from appliance.issuing.orders import CreditOrder, KeyChangeOrder, Timing
from hsm.errors import HsmError, ModuleBusy, ModuleChanged, ModuleInterrupted, ModuleRefusal
from hsm.keys import KeyReference, VendingKey
from hsm.reasons import Reason
from hsm.requests import Issued, IssueItem, KeyChanged, KeyChangeItem, Mark
from hsm.status import Mode, ModuleStatus, Profile
from sts.credit import CreditSubClass
from sts.identifiers import EncryptionAlgorithm, KeyType, MeterPAN, TariffIndex, TokenCarrierType
from sts.token_identifier import BaseDate, TokenIdentifier
from tests.support.lab import reference

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PAN = MeterPAN.parse("00000000000")
LABEL = (
    "keywatt-vk/1 sgc={} krn=1 kt=2 dkga=04 bdt=14 ken=255 act=- iut=- c0=00ff c2=fce7 kc=1 origin=public kcv=000000"
)
STATUS = ModuleStatus(
    mode=Mode.ONLINE,
    profile=Profile.DEVELOPMENT,
    config_root_owned=True,
    self_test_passed=True,
    sample_tables=True,
    logged_in=True,
    utc_offset_minutes=0,
    clock_minutes=0,
    keys=2,
    keys_refused=0,
    issued=0,
    verified=0,
    key_changes=0,
    refused=0,
    tables_name="sample",
    tables_digest=bytes(32),
    source_digest=bytes(32),
    module_id="played",
    token_label="keywatt",
    token_serial="1",
    library="none",
    library_version="0.0",
    past_window_minutes=10,
    future_window_minutes=60,
    module_version="0.1",
    hardware=False,
)


class PlayedModule:
    """Answers as the module would, or as it is told."""

    def __init__(self) -> None:
        self.status_now = STATUS
        self.connections = 1
        self.is_connected = True
        self.asked: list[IssueItem | KeyChangeItem] = []
        self.fails: HsmError | None = None
        self.refuses = Reason.OK

    async def status(self) -> ModuleStatus:
        return self.status_now

    async def keys(self) -> list[VendingKey]:
        return [VendingKey.from_label(LABEL.format(sgc)) for sgc in ("201457", "201458")]

    async def issue(self, _: KeyReference | None, items: Sequence[IssueItem]) -> list[Issued]:
        self.asked += items
        if self.fails is not None:
            raise self.fails
        await asyncio.sleep(0)
        return [
            Issued(
                reason=self.refuses,
                token_class=item.token_class,
                subclass=item.subclass,
                marks=Mark.TEST_KEY,
                random_number=0,
                token_identifier=item.token_identifier,
                digits="" if item.validate_only or self.refuses is not Reason.OK else "0" * 20,
                granted=item.value,
            )
            for item in items
        ]

    async def key_change(self, _: KeyReference, items: Sequence[KeyChangeItem]) -> list[KeyChanged]:
        self.asked += items
        tokens = () if items[0].validate_only else ("1" * 20,) * items[0].set_size
        return [
            KeyChanged(
                reason=Reason.OK,
                marks=Mark.TEST_KEY,
                key_expiry_number=255,
                key_revision_number=1,
                key_type=2,
                rollover=False,
                tokens=tokens,
            )
        ]


def make_issuer(module: PlayedModule, **options: Any) -> Issuer:
    catalogue = ModuleCatalogue(module)  # type: ignore[arg-type]  # played
    return Issuer(
        catalogue=catalogue, identifiers=IdentifierRegister(look_ahead_minutes=30), now=lambda: NOW, **options
    )


def holds(sgc: str = "201457", ti: str = "01") -> KeyAssignment:
    return KeyAssignment(reference=reference(sgc), tariff_index=TariffIndex(digits=ti))


def order(**changes: Any) -> CreditOrder:
    meter = Meter(
        pan=PAN,
        holds=holds(),
        ea=EncryptionAlgorithm.MISTY1,
        carrier=TokenCarrierType.NUMERIC,
        key_type=None,
        base_date=None,
        key_expiry_number=None,
    )
    base = CreditOrder(meter=meter, assignment=None, subclass=CreditSubClass.ELECTRICITY, units=256, timing=Timing())
    return replace(base, **changes)


async def test_identifiers_follow_each_other_and_a_refusal_returns_its_own() -> None:
    module = PlayedModule()
    issuer = make_issuer(module)
    first = (await issuer.issue_credit(order())).token.identifier
    module.refuses = Reason.KEY_EXPIRED
    with pytest.raises(ModuleRefusal):
        await issuer.issue_credit(order())
    module.refuses = Reason.OK
    second = (await issuer.issue_credit(order())).token.identifier
    assert first is not None
    assert second == first.next_free()


@pytest.mark.parametrize(("error", "kept"), [(ModuleBusy("x"), False), (ModuleInterrupted("x"), True)])
async def test_an_identifier_whose_fate_is_unknown_stays_taken(error: HsmError, kept: bool) -> None:
    module = PlayedModule()
    issuer = make_issuer(module)
    module.fails = error
    with pytest.raises(type(error)):
        await issuer.issue_credit(order())
    module.fails = None
    token = (await issuer.issue_credit(order())).token
    due = TokenIdentifier.from_naive(NOW.replace(tzinfo=None), BaseDate.BDT_2014)
    assert token.identifier == (due.next_free() if kept else due)


async def test_concurrent_sales_to_one_meter_never_share_an_identifier() -> None:
    issuer = make_issuer(PlayedModule())
    deliveries = await asyncio.gather(*(issuer.issue_credit(order()) for _ in range(20)))
    assert len({delivery.token.identifier for delivery in deliveries}) == 20


async def test_key_change_is_required_unless_the_policy_makes_it() -> None:
    module = PlayedModule()
    changed = order(assignment=holds("201458", "02"))
    with pytest.raises(KeyChangeRequired):
        await make_issuer(module).issue_credit(changed)
    assert module.asked == []
    delivery = await make_issuer(module, automatic_key_change=True).issue_credit(changed)
    assert len(delivery.key_change_tokens) == 4
    trial, change, credit = module.asked
    assert isinstance(trial, IssueItem)
    assert trial.validate_only
    assert isinstance(change, KeyChangeItem)
    assert (change.old_tariff_index, change.new_tariff_index, change.new_supply_group_code) == ("01", "02", "201458")
    assert isinstance(credit, IssueItem)
    assert credit.tariff_index == "02"
    assert not credit.validate_only


async def test_no_key_change_tokens_for_a_sale_that_cannot_be() -> None:
    module = PlayedModule()
    module.refuses = Reason.AMOUNT_TOO_LARGE
    with pytest.raises(ModuleRefusal):
        await make_issuer(module, automatic_key_change=True).issue_credit(order(assignment=holds("201458")))
    assert not any(isinstance(item, KeyChangeItem) for item in module.asked)


@pytest.mark.parametrize("stated", [{"key_type": KeyType.DEFAULT}, {"base_date": BaseDate.BDT_1993}])
async def test_no_key_change_from_a_key_that_the_meter_cannot_hold(stated: dict[str, Any]) -> None:
    module = PlayedModule()
    meter = replace(order().meter, **stated)
    change = KeyChangeOrder(meter=meter, target=holds(ti="02"), set_size=0, issue_time=None, validate_only=False)
    with pytest.raises(MeterKeyMismatch):
        await make_issuer(module).issue_key_change(change)
    with pytest.raises(MeterKeyMismatch):
        await make_issuer(module, automatic_key_change=True).issue_credit(order(meter=meter))
    assert not any(isinstance(item, KeyChangeItem) for item in module.asked)


@pytest.mark.parametrize("change", [{"mode": Mode.CERTIFICATION}, {"module_id": "another"}])
async def test_a_module_that_changes_under_us_is_not_served(change: dict[str, Any]) -> None:
    module = PlayedModule()
    issuer = make_issuer(module)
    await issuer.issue_credit(order())
    module.status_now = replace(STATUS, **change)
    module.connections = 2
    with pytest.raises(ModuleChanged):
        await issuer.issue_credit(order())
    module.status_now = STATUS
    await issuer.issue_credit(order())


LOCAL = datetime(2026, 11, 22, 12, 0)


def test_reserved_identifier_is_given_once_and_does_not_move_the_last() -> None:
    register = IdentifierRegister(look_ahead_minutes=30)
    due = register.take(PAN, BaseDate.BDT_2014, LOCAL)
    reserved = register.take_reserved(PAN, BaseDate.BDT_2014, LOCAL)
    assert reserved.identifier.local_time == datetime(2026, 11, 22, 0, 1)
    with pytest.raises(IdentifierUsed):
        register.take_reserved(PAN, BaseDate.BDT_2014, LOCAL)
    register.give_back(reserved)
    assert register.take_reserved(PAN, BaseDate.BDT_2014, LOCAL).identifier == reserved.identifier
    assert register.take(PAN, BaseDate.BDT_2014, LOCAL).identifier == due.identifier.next_free()


@given(st.lists(st.sampled_from(("take", "keep", "back")), max_size=60), st.booleans())
def test_no_identifier_is_kept_twice(steps: list[str], replay: bool) -> None:
    register = IdentifierRegister(look_ahead_minutes=1000, replay=replay)
    open_: list[Reservation] = []
    kept: set[int] = set()
    for number, step in enumerate(steps):
        if step == "take":
            open_.append(register.take(PAN, BaseDate.BDT_2014, LOCAL))
            minutes = [reservation.identifier.minutes for reservation in open_]
            assert len(set(minutes)) == len(minutes)
            assert not kept & set(minutes)
        elif open_:
            reservation = open_.pop(number % len(open_))
            if step == "keep":
                kept.add(reservation.identifier.minutes)
            else:
                register.give_back(reservation)


def test_a_reset_makes_old_reservations_harmless() -> None:
    register = IdentifierRegister(look_ahead_minutes=30, replay=True)
    old = register.take(PAN, BaseDate.BDT_2014, LOCAL)
    assert register.reset() == 1
    again = register.take(PAN, BaseDate.BDT_2014, LOCAL)
    register.give_back(old)
    assert register.take(PAN, BaseDate.BDT_2014, LOCAL).identifier == again.identifier.next_free()


def test_refused_meters_leave_nothing_behind() -> None:
    register = IdentifierRegister(look_ahead_minutes=30)
    for _ in range(3):
        register.give_back(register.take(PAN, BaseDate.BDT_2014, LOCAL))
    assert register._given == {}
    with pytest.raises(IdentifierLookAhead):
        for _ in range(40):
            register.take(PAN, BaseDate.BDT_2014, LOCAL)


@pytest.mark.parametrize("text", ["", "listen = 1", 'listen = "nowhere"', "surprise = 1", "not toml ="])
def test_bad_configuration(tmp_path: Any, text: str) -> None:
    path = tmp_path / "appliance.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationInvalid):
        ApplianceSettings.read(path)
    with pytest.raises(ConfigurationInvalid):
        ApplianceSettings.read(tmp_path / "missing.toml")
