"""Every codec is its own inverse, on all values that Hypothesis finds; and refuses what lies beyond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sts import codec, errors, luhn
from sts.amount import AMOUNT16_MAX_UNITS, Amount16
from sts.ciphers import decrypt_block, encrypt_block
from sts.ciphers.sta_tables import StaTables
from sts.currency import CURRENCY_MAX_UNITS, CurrencyAmount
from sts.decoder_key import DecoderKey
from sts.frame import Frame
from sts.identifiers import (
    DecoderKeyGenerationAlgorithm,
    DecoderReferenceNumber,
    EncryptionAlgorithm,
    IssuerIdentificationNumber,
    KeyExpiryNumber,
    KeyRevisionNumber,
    KeyType,
    MeterPAN,
    SupplyGroupCode,
    TariffIndex,
    TokenCarrierType,
)
from sts.key_change import KeyChange, set_sizes
from sts.key_transition import is_rollover
from sts.token_identifier import BaseDate, TokenIdentifier
from sts.token_number import TOKEN66_LIMIT, TokenNumber

EAS = st.sampled_from(EncryptionAlgorithm)
KEYS = EAS.flatmap(
    lambda ea: st.binary(min_size=ea.decoder_key_bits // 8, max_size=ea.decoder_key_bits // 8).map(
        lambda octets: DecoderKey(octets=octets, ea=ea)
    )
)
BLOCKS = st.integers(0, 2**64 - 1)
FRAMES = st.builds(Frame, token_class=st.integers(0, 2), subclass=st.integers(0, 15), content=st.integers(0, 2**44 - 1))


@given(KEYS, BLOCKS)
def test_ciphers_invert(key: DecoderKey, block: int) -> None:
    assert decrypt_block(key, encrypt_block(key, block)) == block


@given(
    st.permutations(range(16)),
    st.permutations(range(16)),
    st.permutations(range(64)),
    st.binary(min_size=8, max_size=8),
    BLOCKS,
)
def test_sta_inverts_under_any_tables(
    first: list[int], second: list[int], moves: list[int], key: bytes, block: int
) -> None:
    # D1 inverts T2 and D2 inverts T1 by the standard, which holds for tables that pair so.
    tables = StaTables(name="any", substitution1=tuple(first), substitution2=tuple(second), permutation=tuple(moves))
    decoder_key = DecoderKey(octets=key, ea=EncryptionAlgorithm.STA)
    assert decrypt_block(decoder_key, encrypt_block(decoder_key, block, tables), tables) == block


@given(st.integers(0, 3), BLOCKS)
def test_token_number_inverts(token_class: int, block: int) -> None:
    number = TokenNumber.from_block(token_class=token_class, block=block)
    assert (number.token_class, number.block) == (token_class, block)
    assert TokenNumber.parse(number.grouped) == number
    assert TokenNumber.parse(number.grouped.replace(" ", "-")) == number


@given(st.integers(TOKEN66_LIMIT, 10**20 - 1))
def test_numbers_beyond_66_bits_are_refused(number: int) -> None:
    with pytest.raises(errors.TokenNumberRange):
        TokenNumber(digits=f"{number:020d}")


@given(st.text(max_size=25))
def test_text_that_is_no_number_is_refused(text: str) -> None:
    assume(not (text.strip().isascii() and text.strip().replace(" ", "").replace("-", "").isdigit()))
    with pytest.raises(errors.TokenNumberFormat):
        TokenNumber.parse(text)


@given(FRAMES)
def test_frame_inverts_and_one_flipped_bit_is_found(frame: Frame) -> None:
    assert Frame.from_block(token_class=frame.token_class, block=frame.block) == frame
    for bit in range(64):
        with pytest.raises(errors.CRCMismatch):
            Frame.from_block(token_class=frame.token_class, block=frame.block ^ 1 << bit)


@given(FRAMES, KEYS)
def test_every_frame_decodes_to_its_token_or_a_typed_error(frame: Frame, key: DecoderKey) -> None:
    number = codec.encode_frame(frame, key)
    try:
        token = codec.decode(number, key)
    except errors.StsError:
        return
    assert codec.encode(token, key) == number


@given(st.integers(0, AMOUNT16_MAX_UNITS))
def test_amount16_rounds_up_by_less_than_a_step(units: int) -> None:
    field = Amount16.from_units(units)
    assert 0 <= field.units - units < 10 ** (field.field >> 14)
    assert Amount16.from_units(field.units).units == field.units


@given(st.integers(0, 0xFFFF))
def test_amount16_decodes_every_field(field: int) -> None:
    assert Amount16.from_units(Amount16(field=field).units).units == Amount16(field=field).units


@given(st.integers(AMOUNT16_MAX_UNITS + 1) | st.integers(max_value=-1))
def test_amount16_refuses_what_does_not_fit(units: int) -> None:
    with pytest.raises((errors.AmountTooLarge, errors.AmountNegative)):
        Amount16.from_units(units)


@given(st.decimals(min_value=0, max_value=1_000_000, allow_nan=False, allow_infinity=False))
def test_decimals_are_exact(value: Decimal) -> None:
    units = Amount16.from_decimal(value).units
    assert Decimal(units) >= value * 10


def test_binary_fractions_are_refused() -> None:
    with pytest.raises(errors.AmountInvalid):
        Amount16.from_decimal(1.05)  # type: ignore[arg-type]
    assert Amount16.from_decimal("1.05").units == 11
    for text in ("NaN", "Infinity", "x", ""):
        with pytest.raises(errors.AmountInvalid):
            Amount16.from_decimal(text)
    with pytest.raises(errors.AmountTooLarge):
        Amount16.from_decimal("1e999999")


@given(st.integers(-CURRENCY_MAX_UNITS, CURRENCY_MAX_UNITS))
def test_currency_is_never_below_what_was_asked(units: int) -> None:
    amount = CurrencyAmount.from_units(units)
    assert amount.units >= units
    step = 10 ** (amount.field >> 14 & 0x1F)
    assert amount.units - units < step
    assert CurrencyAmount.from_parts(sign_and_exponent=amount.sign_and_exponent, lower=amount.lower) == amount


@given(st.integers(0, 2**20 - 1))
def test_currency_decodes_every_field(field: int) -> None:
    amount = CurrencyAmount(field=field)
    assert CurrencyAmount.from_units(amount.units).units == amount.units


def test_currency_refuses_what_does_not_fit() -> None:
    with pytest.raises(errors.AmountTooLarge):
        CurrencyAmount.from_units(CURRENCY_MAX_UNITS + 1)


PAYLOADS = st.sampled_from((10, 12)).flatmap(lambda n: st.text("0123456789", min_size=n, max_size=n))


@given(PAYLOADS)
def test_pan_of_every_meter_number(payload: str) -> None:
    drn = DecoderReferenceNumber(digits=payload + luhn.check_digit(payload))
    pan = MeterPAN.from_decoder_reference_number(drn)
    assert (len(pan.digits), pan.decoder_reference_number) == (18, drn)
    assert MeterPAN.parse(drn.digits) == MeterPAN.parse(pan.digits) == pan
    assert drn.manufacturer_code + drn.serial_number == payload


@given(PAYLOADS, st.integers(0, 17), st.integers(1, 9))
def test_one_wrong_digit_is_found(payload: str, position: int, shift: int) -> None:
    digits = list(MeterPAN.parse(payload + luhn.check_digit(payload)).digits)
    digits[position] = str((int(digits[position]) + shift) % 10)
    with pytest.raises(errors.StsError):
        MeterPAN(digits="".join(digits))


INSTANTS = st.datetimes(datetime(2014, 1, 1, 12), datetime(2045, 11, 24, 8), timezones=st.just(UTC))
ZONES = st.integers(-11, 11).map(lambda hours: timezone(timedelta(hours=hours)))


@given(INSTANTS, ZONES)
def test_token_identifier_is_the_wall_clock_and_never_one_past_midnight(instant: datetime, zone: timezone) -> None:
    identifier = TokenIdentifier.from_instant(instant, BaseDate.BDT_2014, zone)
    wall = instant.astimezone(zone).replace(tzinfo=None, second=0, microsecond=0)
    assert not identifier.is_reserved
    skipped = (wall.hour, wall.minute) == (0, 1)
    assert identifier.local_time == wall + timedelta(minutes=1 if skipped else 0)
    following = identifier.next_free()
    assert following > identifier
    assert not following.is_reserved


def test_edges_of_token_identifiers() -> None:
    last = TokenIdentifier.from_naive(datetime(2045, 11, 24, 20, 15), BaseDate.BDT_2014)
    assert last.minutes == (1 << 24) - 1
    for base_date, moment in (
        (BaseDate.BDT_1993, datetime(2024, 11, 24, 20, 15)),
        (BaseDate.BDT_2035, datetime(2066, 11, 24, 20, 15)),
    ):
        assert TokenIdentifier.from_naive(moment, base_date).minutes == (1 << 24) - 1
    with pytest.raises(errors.TimeOutOfRange):
        last.next_free()
    with pytest.raises(errors.TimeOutOfRange):
        TokenIdentifier.from_naive(datetime(2045, 11, 24, 20, 16), BaseDate.BDT_2014)
    with pytest.raises(errors.TimeOutOfRange):
        TokenIdentifier.from_naive(datetime(2013, 12, 31, 23, 59), BaseDate.BDT_2014)
    with pytest.raises(errors.TimeZoneMissing):
        TokenIdentifier.from_instant(datetime(2020, 1, 1), BaseDate.BDT_2014, UTC)
    with pytest.raises(errors.TimeZoneMissing):
        TokenIdentifier.from_naive(datetime(2020, 1, 1, tzinfo=UTC), BaseDate.BDT_2014)
    reserved = TokenIdentifier.from_naive(datetime(2020, 1, 1, 0, 1), BaseDate.BDT_2014, reserved=True)
    assert reserved.is_reserved
    with pytest.raises(errors.ReservedTokenIdentifier):
        TokenIdentifier.from_naive(datetime(2020, 1, 1, 0, 2), BaseDate.BDT_2014, reserved=True)


@given(
    KEYS,
    st.integers(0, 255),
    st.integers(1, 9),
    st.sampled_from(KeyType),
    st.integers(0, 99),
    st.integers(0, 999_999),
    st.booleans(),
    st.booleans(),
)
def test_key_change_sets_invert(
    key: DecoderKey, ken: int, krn: int, key_type: KeyType, ti: int, sgc: int, rollover: bool, short: bool
) -> None:
    without_group = short and key.ea is EncryptionAlgorithm.STA
    change = KeyChange(
        decoder_key=key,
        key_expiry_number=KeyExpiryNumber(number=ken),
        key_revision_number=KeyRevisionNumber(number=krn),
        key_type=key_type,
        tariff_index=TariffIndex(digits=f"{ti:02d}"),
        rollover=rollover,
        supply_group_code=None if without_group else SupplyGroupCode(digits=f"{sgc:06d}"),
    )
    sections = change.sections()
    assert len(sections) in set_sizes(key.ea)
    read = [codec.decode_frame(section.frame, key.ea) for section in sections]
    assert read == list(sections)
    assert KeyChange.assemble(read[::-1], key.ea) == change  # type: ignore[arg-type]
    assert KeyChange.assemble(read[1:], key.ea) is None  # type: ignore[arg-type]


def test_key_change_under_misty1_needs_the_group() -> None:
    key = DecoderKey(octets=bytes(16), ea=EncryptionAlgorithm.MISTY1)
    change = KeyChange(
        decoder_key=key,
        key_expiry_number=KeyExpiryNumber(number=1),
        key_revision_number=KeyRevisionNumber(number=1),
        key_type=KeyType.UNIQUE,
        tariff_index=TariffIndex(digits="01"),
        rollover=False,
        supply_group_code=None,
    )
    with pytest.raises(errors.KeyChangeSetInvalid):
        change.sections()


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: IssuerIdentificationNumber(digits="123456"), errors.InvalidIssuerIdentificationNumber),
        (lambda: DecoderReferenceNumber(digits="123"), errors.InvalidDecoderReferenceNumber),
        (lambda: DecoderReferenceNumber(digits="12345678904"), errors.DecoderReferenceNumberCheckDigit),
        (lambda: DecoderReferenceNumber(digits="11111111113"), errors.DecoderReferenceNumberCheckDigit),
        (lambda: SupplyGroupCode(digits="1234567"), errors.InvalidSupplyGroupCode),
        (lambda: TariffIndex(digits="1"), errors.InvalidTariffIndex),
        (lambda: KeyRevisionNumber(number=True), errors.InvalidKeyRevisionNumber),
        (lambda: KeyExpiryNumber(number=-1), errors.InvalidKeyExpiryNumber),
        (lambda: KeyType.from_number(4), errors.InvalidKeyType),
        (lambda: EncryptionAlgorithm.from_number(9), errors.WithdrawnEncryptionAlgorithm),
        (lambda: EncryptionAlgorithm.from_number(8), errors.UnknownEncryptionAlgorithm),
        (lambda: DecoderKeyGenerationAlgorithm.from_number(1), errors.WithdrawnDecoderKeyGenerationAlgorithm),
        (lambda: DecoderKeyGenerationAlgorithm.from_number(3), errors.WithdrawnDecoderKeyGenerationAlgorithm),
        (lambda: DecoderKeyGenerationAlgorithm.from_number(5), errors.UnknownDecoderKeyGenerationAlgorithm),
        (lambda: TokenCarrierType.from_number(0), errors.InvalidTokenCarrierType),
        (lambda: BaseDate.from_number(1999), errors.InvalidBaseDate),
        (lambda: TokenIdentifier(minutes=1 << 24, base_date=BaseDate.BDT_2014), errors.InvalidTokenIdentifier),
        (lambda: DecoderKey(octets=b"x", ea=EncryptionAlgorithm.STA), errors.DecoderKeyInvalid),
    ],
)
def test_types_refuse_the_invalid(make: object, error: type[errors.StsError]) -> None:
    with pytest.raises(error) as refusal:
        make()  # type: ignore[operator]
    assert refusal.value.reason.isupper()
    assert refusal.value.hint
    assert not refusal.value.retryable


def test_rollover_follows_the_base_dates() -> None:
    order = [BaseDate.BDT_1993, BaseDate.BDT_2014, BaseDate.BDT_2035]
    for old in order:
        for new in order:
            assert is_rollover(old, new) == (order.index(new) > order.index(old))
