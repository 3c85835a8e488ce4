"""Virtual meters of the public test keys, into which tests enter what came out."""

from __future__ import annotations

from collections.abc import Sequence

from sts import derivation
from sts.decoder_key import DecoderKey
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
from sts.meter import MeterKey, Result, VirtualMeter
from sts.token_identifier import BaseDate
from tests.support.lab import PUBLIC_160


def _key(pan: MeterPAN, tariff_index: str) -> DecoderKey:
    context = derivation.KeyContext(
        pan=pan,
        key_type=KeyType.UNIQUE,
        supply_group_code=SupplyGroupCode(digits="201457"),
        tariff_index=TariffIndex(digits=tariff_index),
        key_revision_number=KeyRevisionNumber(number=1),
        dkga=DecoderKeyGenerationAlgorithm.DKGA04,
        ea=EncryptionAlgorithm.MISTY1,
        base_date=BaseDate.BDT_2014,
    )
    return derivation.derive(PUBLIC_160, context)


def meter_for(digits: str, tariff_index: str = "01") -> VirtualMeter:
    """Return a meter of supply group 201457 under EA11."""
    pan = MeterPAN.parse(digits)
    key = MeterKey(
        decoder_key=_key(pan, tariff_index),
        key_type=KeyType.UNIQUE,
        key_revision_number=KeyRevisionNumber(number=1),
        key_expiry_number=KeyExpiryNumber(number=255),
        tariff_index=TariffIndex(digits=tariff_index),
        supply_group_code=SupplyGroupCode(digits="201457"),
    )
    return VirtualMeter(pan=pan, key=key)


def enter_set(meter: VirtualMeter, tokens: Sequence[str], *, tariff_index: str) -> None:
    """Enter a set in its order; the meter then has the key that the tariff index gives it."""
    shown = [meter.enter(digits) for digits in tokens]
    assert shown[-1] is Result.ACCEPT, shown
    assert meter.key.tariff_index.digits == tariff_index
    assert meter.key.decoder_key == _key(meter.pan, tariff_index)
