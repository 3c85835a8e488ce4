"""The module in C and the reference in Python agree on 100,000 random tokens of every type, EA and DKGA."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from hsm.reasons import Reason
from hsm.requests import IssueItem, KeyChangeItem, VerifyItem
from hsm.session import ModuleSession
from sts import codec, derivation, luhn
from sts.amount import AMOUNT16_MAX_UNITS, Amount16
from sts.credit import CreditSubClass, TransferCredit, TransferCurrencyCredit
from sts.currency import CURRENCY_MAX_UNITS, CurrencyAmount
from sts.frame import Frame
from sts.identifiers import (
    DecoderKeyGenerationAlgorithm,
    EncryptionAlgorithm,
    KeyExpiryNumber,
    KeyRevisionNumber,
    KeyType,
    MeterPAN,
    SupplyGroupCode,
    TariffIndex,
)
from sts.key_change import KeyChange
from sts.key_transition import is_rollover
from sts.management import decode_management
from sts.meter_test import InitiateMeterTest, control_bits
from sts.token_identifier import BaseDate
from tests.support import vectors
from tests.support.lab import CONTEXTS, change, issue, minutes, reference, verify

TOTAL = 100_000
BATCH = 500
CREDIT = range(8)
MANAGEMENT = (0, 1, 2, 5, 6, 7, 10, 11, 12, 13, 14, 15)
METER_TEST = (0, 1, 2, *range(6, 16))


def random_pan(source: random.Random) -> MeterPAN:
    length = source.choice((10, 12))
    payload = "".join(source.choices("0123456789", k=length))
    return MeterPAN.parse(payload + luhn.check_digit(payload))


def random_tid(source: random.Random) -> int:
    while True:
        tid = source.choice((source.randrange(1 << 24), (1 << 24) - 1, 0, 2))
        if tid % 1440 != 1:
            return tid


def random_amount(source: random.Random, limit: int) -> int:
    return min(limit, max(1, source.choice((source.randrange(1, 1 << source.randrange(1, 26)), 16384, 180215, limit))))


class Kit:
    """A public test key with a random meter: what both sides need."""

    def __init__(self, source: random.Random) -> None:
        self.record = source.choice(CONTEXTS)
        self.dkga = DecoderKeyGenerationAlgorithm(self.record.dkga)
        choices = (7, 11) if self.dkga is DecoderKeyGenerationAlgorithm.DKGA04 else (7,)
        self.ea = EncryptionAlgorithm(source.choice(choices))
        self.base_date = BaseDate(self.record.base_date)
        self.reference = reference(self.record.supply_group_code, self.record.key_revision_number)

    def context(self, pan: MeterPAN, ti: str) -> derivation.KeyContext:
        return derivation.KeyContext(
            pan=pan,
            supply_group_code=SupplyGroupCode(digits=self.record.supply_group_code),
            tariff_index=TariffIndex(digits=ti),
            key_revision_number=KeyRevisionNumber(number=self.record.key_revision_number),
            key_type=KeyType.UNIQUE,
            base_date=self.base_date,
            ea=self.ea,
            dkga=self.dkga,
        )

    def decoder_key(self, pan: MeterPAN, ti: str) -> derivation.DecoderKey:
        return derivation.derive(self.record.key, self.context(pan, ti), vectors.des_block)


def random_value(source: random.Random, token_class: int, subclass: int) -> int:
    if token_class == 0 and subclass < 4:
        return random_amount(source, AMOUNT16_MAX_UNITS)
    if token_class == 0:
        magnitude = source.randrange(1, 10 ** source.randrange(1, 37))
        return min(magnitude, CURRENCY_MAX_UNITS) * source.choice((1, -1))
    if subclass in (0, 6):
        return source.choice((0, random_amount(source, AMOUNT16_MAX_UNITS)))
    if subclass == 1:
        return source.choice((*range(8), 0xFFFF))
    return 0 if subclass == 5 else source.randrange(1 << 16)


def reference_digits(kit: Kit, item: IssueItem) -> str:
    """The same token by the Python reference."""
    key = kit.decoder_key(MeterPAN(digits=item.pan), item.tariff_index)
    if item.token_class == 0 and item.subclass >= 4:
        token: codec.Token = TransferCurrencyCredit(
            subclass=CreditSubClass(item.subclass),
            token_identifier=item.token_identifier,
            amount=CurrencyAmount.from_units(item.value),
        )
    elif item.token_class == 0:
        token = TransferCredit(
            subclass=CreditSubClass(item.subclass),
            random_number=item.random_number,
            token_identifier=item.token_identifier,
            amount=Amount16.from_units(item.value),
        )
    else:
        lower = Amount16.from_units(item.value).field if item.subclass in (0, 6) else item.value
        content = item.random_number << 40 | item.token_identifier << 16 | lower
        token = decode_management(Frame(token_class=2, subclass=item.subclass, content=content))
    return codec.encode(token, key).digits


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_100_000_random_tokens(certification: ModuleSession) -> None:
    source = random.Random(62055)
    kinds = [(0, s) for s in CREDIT] + [(2, s) for s in MANAGEMENT]
    seen: Counter[tuple[object, ...]] = Counter()
    compared = 0
    while compared < TOTAL * 85 // 100:
        kit = Kit(source)
        base = minutes(kit.base_date.midnight)
        items = []
        for _ in range(BATCH):
            token_class, subclass = source.choice(kinds)
            tid = random_tid(source)
            is_currency = token_class == 0 and subclass >= 4
            items.append(
                IssueItem(
                    token_class=token_class,
                    subclass=subclass,
                    value=random_value(source, token_class, subclass),
                    ea=kit.ea,
                    tct=2,
                    random_number=0 if is_currency else source.randrange(16),
                    tariff_index=f"{source.randrange(100):02d}",
                    pan=random_pan(source).digits,
                    token_identifier=tid,
                    clock_minutes=base + tid,
                )
            )
        answers = issue(certification, kit.reference, *items)
        for item, answer in zip(items, answers, strict=True):
            assert answer.reason is Reason.OK, (item, answer.reason)
            assert answer.digits == reference_digits(kit, item), item
            seen[item.token_class, item.subclass, kit.ea, kit.dkga] += 1
        questions = [
            VerifyItem(digits=a.digits, ea=kit.ea, tct=2, tariff_index=i.tariff_index, pan=i.pan)
            for i, a in zip(items, answers, strict=True)
        ]
        for item, answer, found in zip(items, answers, verify(certification, kit.reference, *questions), strict=True):
            assert (found.reason, found.value) == (Reason.OK, answer.granted)
            assert (found.token_class, found.subclass) == (item.token_class, item.subclass)
        compared += BATCH
    compared += compare_key_changes(certification, source, TOTAL // 10, seen)
    compared += compare_meter_tests(certification, source, TOTAL // 20, seen)
    assert compared >= TOTAL
    pairs = ((7, 2), (7, 4), (11, 4))
    assert all(seen[c, s, ea, dkga] for c, s in kinds for ea, dkga in pairs)
    assert all(seen["set", size] for size in (2, 3, 4))
    assert all(seen[1, subclass] for subclass in METER_TEST)


def compare_key_changes(
    session: ModuleSession, source: random.Random, wanted: int, seen: Counter[tuple[object, ...]]
) -> int:
    compared = 0
    while compared < wanted:
        old, new = Kit(source), Kit(source)
        if EncryptionAlgorithm.MISTY1 in (old.ea, new.ea) and not (
            old.dkga is new.dkga is DecoderKeyGenerationAlgorithm.DKGA04
        ):
            continue
        new.ea = old.ea
        size = 4 if old.ea is EncryptionAlgorithm.MISTY1 else source.choice((2, 3))
        pan, old_ti, new_ti = random_pan(source), f"{source.randrange(100):02d}", f"{source.randrange(100):02d}"
        item = KeyChangeItem(
            ea=old.ea,
            set_size=size,
            tct=2,
            pan=pan.digits,
            old_tariff_index=old_ti,
            new_tariff_index=new_ti,
            new_supply_group_code=new.record.supply_group_code,
            new_key_revision_number=new.record.key_revision_number,
            clock_minutes=minutes(new.base_date.midnight) + source.randrange(1 << 24),
        )
        (answer,) = change(session, old.reference, item)
        assert answer.reason is Reason.OK
        expected = KeyChange(
            decoder_key=new.decoder_key(pan, new_ti),
            key_expiry_number=KeyExpiryNumber(number=255),
            key_revision_number=KeyRevisionNumber(number=new.record.key_revision_number),
            key_type=KeyType.UNIQUE,
            tariff_index=TariffIndex(digits=new_ti),
            rollover=is_rollover(old.base_date, new.base_date),
            supply_group_code=None if size == 2 else SupplyGroupCode(digits=new.record.supply_group_code),
        )
        old_key = old.decoder_key(pan, old_ti)
        assert list(answer.tokens) == [codec.encode(section, old_key).digits for section in expected.sections()]
        seen["set", size] += 1
        compared += size
    return compared


def compare_meter_tests(
    session: ModuleSession, source: random.Random, wanted: int, seen: Counter[tuple[object, ...]]
) -> int:
    tokens = []
    for _ in range(wanted):
        subclass = source.choice(METER_TEST)
        bits = control_bits(subclass)
        code = 0 if subclass == 2 else source.randrange(1 << (44 - bits))
        tokens.append(InitiateMeterTest(subclass=subclass, control=source.randrange(1 << bits), manufacturer_code=code))
        seen[1, subclass] += 1
    for start in range(0, wanted, BATCH):
        part = tokens[start : start + BATCH]
        item = IssueItem(token_class=1, subclass=0, value=0, clock_minutes=1)
        items = [replace(item, subclass=t.subclass, value=t.control << 16 | t.manufacturer_code) for t in part]
        for token, answer in zip(part, issue(session, None, *items), strict=True):
            assert answer.digits == codec.encode(token, None).digits
    return wanted
