"""Decoder key derivation blocks (IEC 62055-41, clause 6.5.3): DKGA02 and DKGA04.

The reference derivations serve the virtual meter and the cross-check of the functionality module in C; the
appliance never calls them. DKGA02 needs one DES block, which the standard library lacks: the caller lends it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from sts import errors
from sts.decoder_key import DecoderKey
from sts.identifiers import (
    IIN_TWO_DIGIT_MANUFACTURER,
    DecoderKeyGenerationAlgorithm,
    EncryptionAlgorithm,
    KeyRevisionNumber,
    KeyType,
    MeterPAN,
    SupplyGroupCode,
    TariffIndex,
)
from sts.token_identifier import BaseDate

DesBlock = Callable[[bytes, bytes], bytes]
"""DES-ECB of one block: (key of 8 octets, block of 8 octets) -> 8 octets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyContext:
    """All that enters a decoder key but the vending key itself."""

    pan: MeterPAN
    supply_group_code: SupplyGroupCode
    tariff_index: TariffIndex
    key_revision_number: KeyRevisionNumber
    key_type: KeyType
    base_date: BaseDate
    ea: EncryptionAlgorithm
    dkga: DecoderKeyGenerationAlgorithm

    def __post_init__(self) -> None:
        self.dkga.require_goes_with(self.ea)


def pan_block(pan: MeterPAN, key_type: KeyType) -> bytes:
    """Return the PANBlock of DKGA02: PAN digits 2 to 17 as 16 nibbles (clause 6.5.3.2).

    Under a common key the DRN digits are zeros. Under an initialisation key nothing is derived.

    Raises:
        CommonKeyUnsettled: KT 3 with an IIN other than 600727.
        KeyTypeTransition: KT 0, which no vending key derives.
    """
    digits = pan.digits[1:17]
    if key_type is KeyType.INITIALISATION:
        raise errors.KeyTypeTransition("an initialisation key is not derived from a vending key")
    if key_type is KeyType.COMMON:
        if not pan.digits.startswith(IIN_TWO_DIGIT_MANUFACTURER):
            raise errors.CommonKeyUnsettled("no settled PANBlock for a common key and IIN 0000")
        digits = pan.digits[1:6] + "0" * 11
    return bytes.fromhex(digits)


def control_block(context: KeyContext) -> bytes:
    """Return the CONTROLBlock of DKGA02: nibbles KT(1) SGC(6) TI(2) KRN(1) FFFFFF."""
    sgc, ti = context.supply_group_code.digits, context.tariff_index.digits
    return bytes.fromhex(f"{int(context.key_type)}{sgc}{ti}{context.key_revision_number.number}FFFFFF")


def dkga02_block(context: KeyContext) -> bytes:
    """Return PANBlock xor CONTROLBlock, eight octets."""
    pairs = zip(pan_block(context.pan, context.key_type), control_block(context), strict=True)
    return bytes(left ^ right for left, right in pairs)


def dkga04_block(context: KeyContext) -> bytes:
    """Return the 49-octet DataBlock of DKGA04; text is ASCII, every length stands in one octet before it.

    Raises:
        CommonKeyUnsettled: KT 3, for which public sources do not settle the PAN.
        KeyTypeTransition: KT 0, which no vending key derives.
    """
    if context.key_type is KeyType.COMMON:
        raise errors.CommonKeyUnsettled("no settled derivation of a common key under DKGA04")
    if context.key_type is KeyType.INITIALISATION:
        raise errors.KeyTypeTransition("an initialisation key is not derived from a vending key")

    def counted(text: str) -> bytes:
        return bytes([len(text)]) + text.encode("ascii")

    labels = b"".join(
        counted(text) for text in ("04", context.base_date.code, context.ea.code, context.tariff_index.digits)
    )
    fields = b"".join(
        counted(text)
        for text in (
            context.supply_group_code.digits,
            str(int(context.key_type)),
            str(context.key_revision_number.number),
            context.pan.digits,
        )
    )
    length = context.ea.decoder_key_bits.to_bytes(4, "big")
    return b"\x04" + labels + b"\x00" + b"\x04" + fields + length


def derive(vending_key: bytes, context: KeyContext, des_block: DesBlock | None = None) -> DecoderKey:
    """Derive a decoder key, for reference.

    Args:
        vending_key: 8 octets for DKGA02, 20 for DKGA04.
        context: everything else that enters the key.
        des_block: one block of DES, needed for DKGA02 only.

    Raises:
        DecoderKeyInvalid: the vending key has the wrong length, or DKGA02 was asked for without ``des_block``.
    """
    if len(vending_key) != context.dkga.vending_key_octets:
        raise errors.DecoderKeyInvalid(f"DKGA{context.dkga.code} takes {context.dkga.vending_key_octets} octets")
    if context.dkga is DecoderKeyGenerationAlgorithm.DKGA04:
        digest = hmac.new(vending_key, dkga04_block(context), hashlib.sha256).digest()
        return DecoderKey(octets=digest[: context.ea.decoder_key_bits // 8], ea=context.ea)
    if des_block is None:
        raise errors.DecoderKeyInvalid("DKGA02 needs a DES block function")
    data = dkga02_block(context)
    encrypted = des_block(vending_key, data)
    octets = bytes(e ^ d ^ k for e, d, k in zip(encrypted, data, vending_key, strict=True))
    return DecoderKey(octets=octets, ea=context.ea)
