"""The compliance tests that have no published vector: the API in certification mode against the Python reference."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from keywatt.certification.v1 import certification_pb2
from keywatt.type.v1 import meter_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client.client import ClientError, KeywattClient
from sts import codec
from sts.amount import Amount16
from sts.credit import CreditSubClass, TransferCredit, TransferCurrencyCredit
from sts.currency import CURRENCY_MAX_UNITS, CurrencyAmount
from sts.decoder_key import DecoderKey
from sts.frame import Frame
from sts.identifiers import KeyExpiryNumber, KeyRevisionNumber, KeyType, SupplyGroupCode, TariffIndex
from sts.key_change import KeyChange
from sts.management import decode_management
from sts.token_identifier import BaseDate, TokenIdentifier
from tests.appliance.test_vectors import at, meter
from tests.support import vectors
from tests.support.lab import CONTEXTS, PAN, PAN_13, key_item
from tests.support.system import running

TIME = "2024-03-28 09:15"
TID = TokenIdentifier.from_naive(datetime.fromisoformat(TIME), BaseDate.BDT_2014).minutes
EXPIRED_KRN = 9


@pytest.fixture(scope="module")
def client() -> Iterator[KeywattClient]:
    # One more public key, that has expired.
    expired = key_item("201457", EXPIRED_KRN, key_expiry_number=10)
    with running("certification", [*CONTEXTS, expired]) as system, system.client() as client:
        yield client


@pytest.fixture(autouse=True)
def _fresh(client: KeywattClient) -> None:
    client.call(client.certification.ResetTokenIdentifiers, certification_pb2.ResetTokenIdentifiersRequest())


def fields(**changes: Any) -> dict[str, Any]:
    record = next(item for item in CONTEXTS if item.supply_group_code == changes.get("sgc", "201457"))
    base = {
        "vk": record.key.hex(),
        "pan": PAN,
        "sgc": record.supply_group_code,
        "ti": "01",
        "krn": record.key_revision_number,
        "kt": 2,
        "base_date": record.base_date,
        "dkga": record.dkga,
    }
    return base | changes


def key(ea: int, **changes: Any) -> DecoderKey:
    return vectors.decoder_key(fields(**changes), ea)


MANAGEMENT: list[tuple[dict[str, Any], int, int]] = [
    ({"clear_tamper": vending_pb2.ClearTamper()}, 5, 0),  # CTSA06
    ({"maximum_phase_power_unbalance_limit": 500}, 6, 500),  # CTSA07
    ({"maximum_phase_power_unbalance_limit": 16384}, 6, 0x4000),  # CTSA13
    ({"maximum_phase_power_unbalance_limit": 180224}, 6, 0x8000),
    ({"maximum_phase_power_unbalance_limit": 18201624}, 6, 0xFFFF),
    ({"maximum_power_limit": 180225}, 0, 0x8001),  # CTSA12
    ({"maximum_power_limit": 18201624}, 0, 0xFFFF),
    *[({"clear_credit": register + 1}, 1, register) for register in range(8)],  # CTSA14
    ({"clear_credit": 9}, 1, 0xFFFF),
    ({"tariff_rate": 65535}, 2, 0xFFFF),
    ({"water_meter_factor": 1}, 7, 1),
    ({"extended_set": vending_pb2.ExtendedSet(index=0, data=0x7B)}, 10, 0x007B),  # CTSA24
    ({"extended_set": vending_pb2.ExtendedSet(index=63, data=3)}, 10, 0xFC03),
    ({"proprietary": vending_pb2.Proprietary(subclass=11, data=0xABCD)}, 11, 0xABCD),
    ({"proprietary": vending_pb2.Proprietary(subclass=15, data=1)}, 15, 1),
]


@pytest.mark.parametrize(("command", "subclass", "lower"), MANAGEMENT)
@pytest.mark.parametrize("ea", [7, 11])
def test_management(client: KeywattClient, command: dict[str, Any], subclass: int, lower: int, ea: int) -> None:
    request = vending_pb2.IssueManagementTokenRequest(meter=meter(fields(), ea), certification=at(TIME), **command)
    token = decode_management(Frame(token_class=2, subclass=subclass, content=5 << 40 | TID << 16 | lower))
    assert client.call(client.vending.IssueManagementToken, request).token.digits == codec.encode(token, key(ea)).digits


AMOUNTS = ("0.1", "1638.3", "1638.4", "18022.4", "18022.5", "181862.4", "1820162.4")


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("subclass", [s for s in CreditSubClass if not s.is_currency])
def test_amount_edges(client: KeywattClient, amount: str, subclass: CreditSubClass) -> None:
    request = vending_pb2.IssueCreditTokenRequest(
        meter=meter(fields(pan=PAN_13), 11),
        credit_type=vending_pb2.CreditType.ValueType(subclass + 1),
        amount=amount,
        certification=at(TIME),
    )
    token = TransferCredit(
        subclass=subclass, random_number=5, token_identifier=TID, amount=Amount16.from_decimal(amount)
    )
    expected = codec.encode(token, key(11, pan=PAN_13)).digits
    assert client.call(client.vending.IssueCreditToken, request).token.digits == expected


CURRENCY = [
    *[Decimal(10) ** exponent for exponent in range(-5, 30)],
    Decimal(16384),
    Decimal("0.16383"),
    Decimal("0.16384"),
    Decimal(CURRENCY_MAX_UNITS).scaleb(-5),
]


@pytest.mark.parametrize("sign", [1, -1])
def test_currency_edges(client: KeywattClient, sign: int) -> None:
    for magnitude in CURRENCY:
        amount = f"{magnitude:f}" if sign > 0 else f"-{magnitude:f}"
        client.call(client.certification.ResetTokenIdentifiers, certification_pb2.ResetTokenIdentifiersRequest())
        request = vending_pb2.IssueCreditTokenRequest(
            meter=meter(fields(), 11), credit_type=5, amount=amount, certification=at(TIME)
        )
        token = TransferCurrencyCredit(
            subclass=CreditSubClass.ELECTRICITY_CURRENCY,
            token_identifier=TID,
            amount=CurrencyAmount.from_decimal(amount),
        )
        response = client.call(client.vending.IssueCreditToken, request)
        assert response.token.digits == codec.encode(token, key(11)).digits, amount
        assert Decimal(response.effective_amount) >= Decimal(amount)


TESTS = [(subclass, test) for subclass, bits in ((0, 36), (1, 28)) for test in range(bits + 1)]


def test_each_class_1_control_bit(client: KeywattClient) -> None:
    from sts.meter_test import InitiateMeterTest

    for subclass, test in TESTS:
        request = vending_pb2.IssueMeterTestTokenRequest(subclass=subclass, test=test)
        token = InitiateMeterTest.for_test(test, subclass=subclass)
        assert client.call(client.vending.IssueMeterTestToken, request).token.digits == codec.encode(token, None).digits
    read = vending_pb2.IssueMeterTestTokenRequest(subclass=2, extended_read_index=63)
    response = client.call(client.vending.IssueMeterTestToken, read)
    assert response.control == 0xFC0000000


SETS = [
    # EA, size, old group, new group: tariff, rollover, other derivation, group in the set
    (11, 4, "201457", "201457"),
    (11, 4, "123457", "201457"),
    (11, 4, "201457", "203557"),
    (7, 2, "123456", "888888"),
    (7, 3, "123456", "888888"),
    (7, 2, "123456", "123457"),
    (7, 3, "888888", "201457"),
]


@pytest.mark.parametrize(("ea", "size", "old", "new"), SETS)
@pytest.mark.parametrize("pan", [PAN, PAN_13])
def test_key_change(client: KeywattClient, ea: int, size: int, old: str, new: str, pan: str) -> None:
    before, after = fields(sgc=old, pan=pan), fields(sgc=new, pan=pan, ti="02")
    request = vending_pb2.IssueKeyChangeTokensRequest(
        meter=meter(before, ea),
        target=meter_pb2.KeyAssignment(
            supply_group_code=new, key_revision_number=after["krn"], tariff_index=after["ti"]
        ),
        set_size=size,
        certification=at(TIME),
    )
    response = client.call(client.vending.IssueKeyChangeTokens, request)
    order = [93, 14, 35]
    change = KeyChange(
        decoder_key=vectors.decoder_key(after, ea),
        key_expiry_number=KeyExpiryNumber(number=255),
        key_revision_number=KeyRevisionNumber(number=after["krn"]),
        key_type=KeyType.UNIQUE,
        tariff_index=TariffIndex(digits="02"),
        rollover=order.index(after["base_date"]) > order.index(before["base_date"]),
        supply_group_code=None if size == 2 else SupplyGroupCode(digits=new),
    )
    old_key = vectors.decoder_key(before, ea)
    assert [token.digits for token in response.tokens] == [codec.encode(s, old_key).digits for s in change.sections()]


def test_credit_is_refused_under_an_expired_key_and_a_change_away_from_it_is_made(client: KeywattClient) -> None:
    # CTSA16
    expired = fields(krn=EXPIRED_KRN)
    credit = vending_pb2.IssueCreditTokenRequest(
        meter=meter(expired, 11), credit_type=1, amount="1", certification=at(TIME)
    )
    with pytest.raises(ClientError) as refusal:
        client.call(client.vending.IssueCreditToken, credit)
    assert refusal.value.reason == "KEY_EXPIRED"
    request = vending_pb2.IssueKeyChangeTokensRequest(
        meter=meter(expired, 11),
        target=meter_pb2.KeyAssignment(supply_group_code="201457", key_revision_number=1, tariff_index="01"),
        certification=at(TIME),
    )
    response = client.call(client.vending.IssueKeyChangeTokens, request)
    assert len(response.tokens) == 4
    first = codec.decode_number(codec.TokenNumber(digits=response.tokens[0].digits), vectors.decoder_key(expired, 11))
    assert first.content >> 36 == 0xF1  # KENHO of 255, KRN 1
