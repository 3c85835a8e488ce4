"""The virtual meter: order of acceptance, every result code, registers, token memory, key changes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from sts import codec
from sts.amount import Amount16
from sts.credit import CreditSubClass, TransferCredit, TransferCurrencyCredit
from sts.currency import CurrencyAmount
from sts.decoder_key import DecoderKey
from sts.frame import Frame
from sts.identifiers import (
    EncryptionAlgorithm,
    KeyExpiryNumber,
    KeyRevisionNumber,
    KeyType,
    MeterPAN,
    SupplyGroupCode,
    TariffIndex,
    TokenCarrierType,
)
from sts.key_change import KeyChange
from sts.management import (
    ClearCredit,
    ClearCreditRegister,
    ClearTamperCondition,
    ExtendedSet,
    ProprietaryManagement,
    SetMaximumPhasePowerUnbalanceLimit,
    SetMaximumPowerLimit,
    SetTariffRate,
    SetWaterMeterFactor,
)
from sts.meter import KEY_CHANGE_TIMEOUT_SECONDS, MeterKey, Result, VirtualMeter
from sts.meter_memory import STORE_SIZE
from sts.meter_registers import REGISTER_MAX_UNITS
from sts.meter_test import InitiateMeterTest

MISTY1_KEY = DecoderKey(octets=bytes(range(16)), ea=EncryptionAlgorithm.MISTY1)
STA_KEY = DecoderKey(octets=bytes(range(8)), ea=EncryptionAlgorithm.STA)
ELECTRICITY = CreditSubClass.ELECTRICITY


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """A meter on the bench, and the tools to make its tokens."""

    key: DecoderKey = MISTY1_KEY
    key_type: KeyType = KeyType.UNIQUE
    ken: int = 255
    manufactured: int = 0
    carrier: TokenCarrierType = TokenCarrierType.NUMERIC
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.meter = VirtualMeter(
            pan=MeterPAN.parse("12345678903"),
            key=MeterKey(
                decoder_key=self.key,
                key_type=self.key_type,
                key_revision_number=KeyRevisionNumber(number=1),
                key_expiry_number=KeyExpiryNumber(number=self.ken),
                tariff_index=TariffIndex(digits="01"),
                supply_group_code=SupplyGroupCode(digits="123456"),
            ),
            carrier=self.carrier,
            manufactured=self.manufactured,
            clock=self.clock,
        )

    def enter(self, token: codec.Token) -> Result:
        return self.meter.enter(codec.encode(token, self.key).digits)

    def enter_frame(self, frame: Frame) -> Result:
        return self.meter.enter(codec.encode_frame(frame, self.key).digits)

    def credit(self, tid: int, units: int = 100, subclass: CreditSubClass = ELECTRICITY) -> Result:
        amount = Amount16.from_units(units)
        return self.enter(TransferCredit(subclass=subclass, random_number=5, token_identifier=tid, amount=amount))

    def units(self, register: CreditSubClass = ELECTRICITY) -> int:
        return self.meter.registers.credit(register)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("subclass", [s for s in CreditSubClass if not s.is_currency])
def test_service_credit(bench: Bench, subclass: CreditSubClass) -> None:
    assert bench.credit(10, 256, subclass) is Result.ACCEPT
    assert [bench.units(s) for s in CreditSubClass] == [256 if s is subclass else 0 for s in CreditSubClass]
    assert bench.meter.registers.is_connected(subclass)


@pytest.mark.parametrize("subclass", [s for s in CreditSubClass if s.is_currency])
def test_currency_credit_and_debit(bench: Bench, subclass: CreditSubClass) -> None:
    for tid, amount in ((10, "2"), (11, "-1")):
        token = TransferCurrencyCredit(
            subclass=subclass, token_identifier=tid, amount=CurrencyAmount.from_decimal(amount)
        )
        assert bench.enter(token) is Result.ACCEPT
    # 2.00000 rounds up to its step, -1.00000 towards zero.
    assert bench.units(subclass) >= 100_000
    assert bench.meter.registers.is_connected(CreditSubClass(subclass - 4))


@pytest.mark.parametrize("text", ["", "1234", "1" * 19, "1" * 21, "1" * 19 + "x", "9" * 20, str(2**66)])
def test_format_error(bench: Bench, text: str) -> None:
    assert bench.meter.enter(text) is Result.FORMAT_ERROR


def test_grouped_digits_are_taken(bench: Bench) -> None:
    token = TransferCredit(subclass=ELECTRICITY, random_number=5, token_identifier=9, amount=Amount16(field=1))
    assert bench.meter.enter(codec.encode(token, bench.key).grouped) is Result.ACCEPT


def test_crc_error_for_another_key(bench: Bench) -> None:
    other = DecoderKey(octets=bytes(16), ea=EncryptionAlgorithm.MISTY1)
    token = TransferCredit(subclass=ELECTRICITY, random_number=5, token_identifier=9, amount=Amount16(field=1))
    assert bench.meter.enter(codec.encode(token, other).digits) is Result.CRC_ERROR


def test_currency_token_with_ordinary_crc_is_refused(bench: Bench) -> None:
    frame = Frame(token_class=0, subclass=4, content=0x06D6F5160AA)
    from sts.ciphers import encrypt_block
    from sts.crc import crc16
    from sts.token_number import TokenNumber

    ordinary = crc16((0 << 48 | 4 << 44 | frame.content).to_bytes(7, "big"))
    block = encrypt_block(bench.key, frame.block & ~0xFFFF | ordinary)
    assert bench.meter.enter(TokenNumber.from_block(token_class=0, block=block).digits) is Result.CRC_ERROR


@pytest.mark.parametrize(("token_class", "subclass"), [(0, 8), (0, 15), (1, 3), (1, 5)])
def test_function_error_for_reserved_subclasses(bench: Bench, token_class: int, subclass: int) -> None:
    assert (
        bench.enter_frame(Frame(token_class=token_class, subclass=subclass, content=1 << 16)) is Result.FUNCTION_ERROR
    )


def test_function_error_for_class_3(bench: Bench) -> None:
    assert bench.meter.enter(f"{3 << 27:020d}") is Result.FUNCTION_ERROR


def test_function_error_for_a_fourth_section_under_sta() -> None:
    assert Bench(key=STA_KEY).enter_frame(Frame(token_class=2, subclass=9, content=0)) is Result.FUNCTION_ERROR


def test_used_old_and_unseen_between(bench: Bench) -> None:
    assert bench.credit(1000) is Result.ACCEPT
    assert bench.credit(1000) is Result.USED_ERROR
    for tid in range(1001, 1001 + STORE_SIZE - 1):
        assert bench.credit(tid) is Result.ACCEPT
    # Now 1000 to 1049 are stored: below is old, an unseen one above replaces the smallest.
    assert bench.credit(999) is Result.OLD_ERROR
    assert bench.credit(1060) is Result.ACCEPT
    assert bench.credit(1000) is Result.OLD_ERROR
    assert bench.credit(1055) is Result.ACCEPT
    assert bench.credit(1055) is Result.USED_ERROR


def test_before_manufacture_is_old() -> None:
    bench = Bench(manufactured=500)
    assert bench.credit(499) is Result.OLD_ERROR
    assert bench.credit(500) is Result.USED_ERROR
    assert bench.credit(501) is Result.ACCEPT


def test_key_expiry_goes_before_memory() -> None:
    bench = Bench(ken=0)
    assert bench.credit(0xFFFF) is Result.ACCEPT
    assert bench.credit(0x10000) is Result.KEY_EXPIRED_ERROR
    assert Bench(ken=255).credit(0xFFFFFF) is Result.ACCEPT


def test_default_key_takes_no_credit_but_management() -> None:
    bench = Bench(key_type=KeyType.DEFAULT)
    assert bench.credit(10) is Result.DDTK_ERROR
    token = SetTariffRate(random_number=5, token_identifier=10, rate=3)
    assert bench.enter(token) is Result.ACCEPT


def test_overflow_does_not_consume_the_identifier(bench: Bench) -> None:
    bench.meter.registers.add(ELECTRICITY, REGISTER_MAX_UNITS)
    assert bench.credit(10) is Result.OVERFLOW_ERROR
    bench.meter.registers.clear(ClearCreditRegister.ALL)
    assert bench.credit(10) is Result.ACCEPT


def test_range_error_does_not_consume_the_identifier(bench: Bench) -> None:
    content = 5 << 40 | 10 << 16 | 8
    assert bench.enter_frame(Frame(token_class=2, subclass=1, content=content)) is Result.RANGE_ERROR
    assert bench.enter_frame(Frame(token_class=2, subclass=5, content=content)) is Result.RANGE_ERROR
    assert bench.credit(10) is Result.ACCEPT


def test_management(bench: Bench) -> None:
    limit = Amount16.from_units(5000)
    common = {"random_number": 5}
    tokens = [
        SetMaximumPowerLimit(token_identifier=1, limit=limit, **common),
        SetMaximumPhasePowerUnbalanceLimit(token_identifier=2, limit=limit, **common),
        SetTariffRate(token_identifier=3, rate=7, **common),
        SetWaterMeterFactor(token_identifier=4, factor=9, **common),
        ExtendedSet.flag(token_identifier=5, flag=5, value=True, **common),
        ProprietaryManagement(token_identifier=6, subclass=12, data=77, **common),
    ]
    assert [bench.enter(token) for token in tokens] == [Result.ACCEPT] * 6
    registers = bench.meter.registers
    assert (registers.maximum_power_limit_watts, registers.maximum_phase_unbalance_watts) == (5000, 5000)
    assert (registers.tariff_rate, registers.water_meter_factor) == (7, 9)
    assert (registers.extended, registers.proprietary) == ({63: 11}, {12: 77})


def test_power_limits_disconnect(bench: Bench) -> None:
    bench.credit(10)
    bench.enter(SetMaximumPowerLimit(random_number=5, token_identifier=11, limit=Amount16.from_units(5000)))
    registers = bench.meter.registers
    registers.set_load(watts=5000)
    assert registers.is_connected(ELECTRICITY)
    registers.set_load(watts=5001)
    assert not registers.is_connected(ELECTRICITY)
    registers.set_load(watts=100)
    limit = SetMaximumPhasePowerUnbalanceLimit(random_number=5, token_identifier=12, limit=Amount16.from_units(10))
    assert bench.enter(limit) is Result.ACCEPT
    registers.set_load(watts=100, unbalance_watts=11)
    assert registers.is_overloaded


def test_tamper_disconnects_until_cleared(bench: Bench) -> None:
    bench.credit(10)
    bench.meter.registers.tamper()
    assert bench.meter.registers.is_tampered
    assert not bench.meter.registers.is_connected(ELECTRICITY)
    assert bench.enter(ClearTamperCondition(random_number=5, token_identifier=11)) is Result.ACCEPT
    assert bench.meter.registers.is_connected(ELECTRICITY)


@pytest.mark.parametrize("register", ClearCreditRegister)
def test_clear_credit(bench: Bench, register: ClearCreditRegister) -> None:
    for number, subclass in enumerate(CreditSubClass):
        bench.meter.registers.add(subclass, 100 + number)
    assert bench.enter(ClearCredit(random_number=5, token_identifier=10, register=register)) is Result.ACCEPT
    for number, subclass in enumerate(CreditSubClass):
        cleared = register is ClearCreditRegister.ALL or int(register) == int(subclass)
        assert bench.units(subclass) == (0 if cleared else 100 + number)


def test_consumption_counts_down_and_disconnects_at_zero(bench: Bench) -> None:
    bench.credit(10, 100)
    registers = bench.meter.registers
    assert registers.consume(ELECTRICITY, 60) == 60
    assert registers.is_connected(ELECTRICITY)
    assert registers.consume(ELECTRICITY, 60) == 40
    assert not registers.is_connected(ELECTRICITY)
    assert registers.consume(ELECTRICITY, 1) == 0
    bench.credit(11, 5)
    assert registers.is_connected(ELECTRICITY)
    with pytest.raises(ValueError, match="zero or more"):
        registers.consume(ELECTRICITY, -1)


def test_debt_disconnects(bench: Bench) -> None:
    subclass = CreditSubClass.WATER_CURRENCY
    token = TransferCurrencyCredit(subclass=subclass, token_identifier=1, amount=CurrencyAmount.from_decimal("-1"))
    assert bench.enter(token) is Result.ACCEPT
    assert bench.units(subclass) < 0
    assert not bench.meter.registers.is_connected(subclass)


@pytest.mark.parametrize(("code", "result"), [(0, Result.ACCEPT), (12, Result.ACCEPT), (13, Result.MFR_CODE_ERROR)])
def test_meter_test_is_for_a_manufacturer(bench: Bench, code: int, result: Result) -> None:
    token = InitiateMeterTest.for_test(2, manufacturer_code=code)
    assert bench.meter.enter(codec.encode(token, None).digits) is result
    assert bench.meter.tests_run == ([token] if result is Result.ACCEPT else [])


def new_key(ea: EncryptionAlgorithm) -> DecoderKey:
    return DecoderKey(octets=bytes(range(100, 100 + ea.decoder_key_bits // 8)), ea=ea)


def key_change(
    ea: EncryptionAlgorithm, *, sgc: str | None = "654321", kt: int = 2, rollover: bool = False
) -> KeyChange:
    return KeyChange(
        decoder_key=new_key(ea),
        key_expiry_number=KeyExpiryNumber(number=0xA7),
        key_revision_number=KeyRevisionNumber(number=3),
        key_type=KeyType(kt),
        tariff_index=TariffIndex(digits="42"),
        rollover=rollover,
        supply_group_code=None if sgc is None else SupplyGroupCode(digits=sgc),
    )


SETS: list[tuple[DecoderKey, str | None]] = [(STA_KEY, None), (STA_KEY, "654321"), (MISTY1_KEY, "654321")]


@pytest.mark.parametrize(("key", "sgc"), SETS)
@pytest.mark.parametrize("step", [1, -1], ids=["in order", "reversed"])
def test_key_change_in_any_order(key: DecoderKey, sgc: str | None, step: int) -> None:
    bench = Bench(key=key)
    sections = key_change(key.ea, sgc=sgc).sections()
    digits = [codec.encode(section, key).digits for section in sections]
    shown = [Result.FIRST_KCT, Result.SECOND_KCT, Result.THIRD_KCT, Result.FOURTH_KCT]
    positions = list(range(len(digits)))[::step]
    for position in positions[:-1]:
        assert bench.meter.enter(digits[position]) is shown[position]
        assert bench.meter.key.decoder_key == key
    assert bench.meter.enter(digits[positions[-1]]) is Result.ACCEPT
    held = bench.meter.key
    assert held.decoder_key == new_key(key.ea)
    assert (held.key_expiry_number.number, held.key_revision_number.number) == (0xA7, 3)
    assert held.tariff_index.digits == "42"
    assert held.supply_group_code == SupplyGroupCode(digits=sgc or "123456")
    # The set again is not for the new key.
    assert bench.meter.enter(digits[0]) is Result.CRC_ERROR
    # A token under the new key is taken.
    bench.key = new_key(key.ea)
    assert bench.credit(50) is Result.ACCEPT


def test_third_section_alone_does_not_complete_a_two_token_set() -> None:
    bench = Bench(key=STA_KEY)
    first, second = key_change(STA_KEY.ea, sgc=None).sections()
    third = key_change(STA_KEY.ea).sections()[2]
    assert bench.enter(third) is Result.THIRD_KCT
    assert bench.enter(second) is Result.SECOND_KCT
    assert bench.enter(first) is Result.ACCEPT
    assert bench.meter.key.supply_group_code == SupplyGroupCode(digits="123456")


def test_incomplete_set_times_out(bench: Bench) -> None:
    sections = key_change(MISTY1_KEY.ea).sections()
    for section in sections[:3]:
        bench.enter(section)
    bench.clock.now += KEY_CHANGE_TIMEOUT_SECONDS + 1
    assert bench.enter(sections[3]) is Result.FOURTH_KCT
    assert bench.meter.key.decoder_key == MISTY1_KEY
    for section in sections[:2]:
        bench.enter(section)
    assert bench.enter(sections[2]) is Result.ACCEPT


def test_rollover_clears_the_token_memory() -> None:
    for rollover in (False, True):
        bench = Bench(manufactured=5000)
        assert bench.credit(6000) is Result.ACCEPT
        for section in key_change(MISTY1_KEY.ea, rollover=rollover).sections():
            bench.enter(section)
        bench.key = new_key(MISTY1_KEY.ea)
        assert bench.credit(6000) is (Result.ACCEPT if rollover else Result.USED_ERROR)
        assert bench.credit(100) is (Result.ACCEPT if rollover else Result.OLD_ERROR)


@pytest.mark.parametrize(
    ("old", "new", "carrier", "result"),
    [
        (KeyType.INITIALISATION, KeyType.UNIQUE, TokenCarrierType.NUMERIC, Result.ACCEPT),
        (KeyType.INITIALISATION, KeyType.INITIALISATION, TokenCarrierType.NUMERIC, Result.ACCEPT),
        (KeyType.DEFAULT, KeyType.UNIQUE, TokenCarrierType.NUMERIC, Result.ACCEPT),
        (KeyType.UNIQUE, KeyType.DEFAULT, TokenCarrierType.NUMERIC, Result.ACCEPT),
        (KeyType.UNIQUE, KeyType.INITIALISATION, TokenCarrierType.NUMERIC, Result.KEY_TYPE_ERROR),
        (KeyType.UNIQUE, KeyType.COMMON, TokenCarrierType.MAGNETIC_CARD, Result.KEY_TYPE_ERROR),
        (KeyType.COMMON, KeyType.COMMON, TokenCarrierType.MAGNETIC_CARD, Result.ACCEPT),
        (KeyType.COMMON, KeyType.COMMON, TokenCarrierType.NUMERIC, Result.KEY_TYPE_ERROR),
    ],
)
def test_key_type_changes(old: KeyType, new: KeyType, carrier: TokenCarrierType, result: Result) -> None:
    bench = Bench(key_type=old, carrier=carrier)
    shown = [bench.enter(section) for section in key_change(MISTY1_KEY.ea, kt=new).sections()]
    assert shown[-1] is result
    assert (bench.meter.key.decoder_key == MISTY1_KEY) == (result is not Result.ACCEPT)


def test_bad_fields_in_sections_are_range_errors(bench: Bench) -> None:
    revision_zero = Frame(token_class=2, subclass=3, content=0)
    assert bench.enter_frame(revision_zero) is Result.RANGE_ERROR
    tariff_100 = Frame(token_class=2, subclass=4, content=100 << 32)
    assert bench.enter_frame(tariff_100) is Result.RANGE_ERROR
    sta = Bench(key=STA_KEY)
    padding = Frame(token_class=2, subclass=8, content=1)
    assert sta.enter_frame(padding) is Result.RANGE_ERROR


def test_no_digits_or_keys_in_a_repr(bench: Bench) -> None:
    token = TransferCredit(subclass=ELECTRICITY, random_number=5, token_identifier=9, amount=Amount16(field=1))
    number = codec.encode(token, bench.key)
    assert number.digits not in repr(number)
    assert MISTY1_KEY.octets.hex() not in repr(bench.meter.key)
    assert repr(MISTY1_KEY.octets)[2:-1] not in repr(MISTY1_KEY)
    for section in key_change(MISTY1_KEY.ea).sections():
        assert "key_part=" not in repr(section)
