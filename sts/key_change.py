"""Key-change tokens, Set1st..4thSectionDecoderKey (IEC 62055-41, clauses 6.2.7, 6.2.8 and, ed. 3, 6.2.13, 6.2.14).

A set of two (EA07), three (EA07, carries the SGC) or four tokens (EA11) brings a meter its new decoder key,
encrypted under the old one. SGC and TI are binary here, digits in the derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from sts import errors
from sts.decoder_key import DecoderKey
from sts.fields import require_bits
from sts.frame import Frame
from sts.identifiers import (
    EncryptionAlgorithm,
    KeyExpiryNumber,
    KeyRevisionNumber,
    KeyType,
    SupplyGroupCode,
    TariffIndex,
)
from sts.management import ManagementSubClass

_SGC_PADDING_BITS = 20


def set_sizes(ea: EncryptionAlgorithm) -> tuple[int, ...]:
    """Sizes of a key-change set that ``ea`` allows: 2 or 3 for EA07, 4 for EA11."""
    return (2, 3) if ea is EncryptionAlgorithm.STA else (4,)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FirstSection:
    """KENHO4, KRN4, RO1, 3KCT1, KT2, NKHO32."""

    token_class: ClassVar[int] = 2
    ken_high: int
    key_revision_number: KeyRevisionNumber
    rollover: bool
    third_follows: bool
    key_type: KeyType
    key_part: int

    @property
    def frame(self) -> Frame:
        """The frame of the token, subclass 3."""
        require_bits("KENHO", self.ken_high, 4)
        require_bits("key part", self.key_part, 32)
        flags = self.rollover << 3 | self.third_follows << 2 | self.key_type
        content = self.ken_high << 40 | self.key_revision_number.number << 36 | flags << 32 | self.key_part
        return Frame(token_class=2, subclass=ManagementSubClass.SET_1ST_SECTION_DECODER_KEY, content=content)

    @classmethod
    def from_frame(cls, frame: Frame) -> Self:
        """Decode; raises InvalidKeyRevisionNumber for KRN 0 or above 9."""
        content = frame.content
        return cls(
            ken_high=content >> 40,
            key_revision_number=KeyRevisionNumber(number=content >> 36 & 0xF),
            rollover=bool(content >> 35 & 1),
            third_follows=bool(content >> 34 & 1),
            key_type=KeyType(content >> 32 & 0b11),
            key_part=content & 0xFFFFFFFF,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SecondSection:
    """KENLO4, TI8 (binary), NKLO32."""

    token_class: ClassVar[int] = 2
    ken_low: int
    tariff_index: TariffIndex
    key_part: int

    @property
    def frame(self) -> Frame:
        """The frame of the token, subclass 4."""
        require_bits("KENLO", self.ken_low, 4)
        require_bits("key part", self.key_part, 32)
        content = self.ken_low << 40 | int(self.tariff_index) << 32 | self.key_part
        return Frame(token_class=2, subclass=ManagementSubClass.SET_2ND_SECTION_DECODER_KEY, content=content)

    @classmethod
    def from_frame(cls, frame: Frame) -> Self:
        """Decode; raises InvalidTariffIndex above 99."""
        return cls(
            ken_low=frame.content >> 40,
            tariff_index=TariffIndex(digits=f"{frame.content >> 32 & 0xFF:02d}"),
            key_part=frame.content & 0xFFFFFFFF,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SupplyGroupSection:
    """The third token of an EA07 set: SGC24 (binary), twenty zero bits."""

    token_class: ClassVar[int] = 2
    supply_group_code: SupplyGroupCode

    @property
    def frame(self) -> Frame:
        """The frame of the token, subclass 8."""
        content = int(self.supply_group_code) << _SGC_PADDING_BITS
        return Frame(token_class=2, subclass=ManagementSubClass.SET_3RD_SECTION_DECODER_KEY, content=content)

    @classmethod
    def from_frame(cls, frame: Frame) -> Self:
        """Decode; raises FieldOutOfRange for padding that is not zero, InvalidSupplyGroupCode above 999999."""
        if frame.content & ((1 << _SGC_PADDING_BITS) - 1):
            raise errors.FieldOutOfRange("the padding of the third key-change token must be zero")
        return cls(supply_group_code=SupplyGroupCode(digits=f"{frame.content >> _SGC_PADDING_BITS:06d}"))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class HalfSupplyGroupSection:
    """The third and fourth token of an EA11 set: twelve bits of SGC, NK32.

    Args:
        subclass: 8 (low half of the SGC, key octets 4-7) or 9 (high half, octets 8-11).
    """

    token_class: ClassVar[int] = 2
    subclass: ManagementSubClass
    sgc_half: int
    key_part: int

    @property
    def frame(self) -> Frame:
        """The frame of the token, subclass 8 or 9."""
        require_bits("half SGC", self.sgc_half, 12)
        require_bits("key part", self.key_part, 32)
        return Frame(token_class=2, subclass=self.subclass, content=self.sgc_half << 32 | self.key_part)

    @classmethod
    def from_frame(cls, frame: Frame) -> Self:
        """Decode."""
        subclass = ManagementSubClass(frame.subclass)
        return cls(subclass=subclass, sgc_half=frame.content >> 32, key_part=frame.content & 0xFFFFFFFF)


KeyChangeSection = FirstSection | SecondSection | SupplyGroupSection | HalfSupplyGroupSection


def decode_section(frame: Frame, ea: EncryptionAlgorithm) -> KeyChangeSection:
    """Decode a key-change frame; the EA of the meter decides how subclass 8 is read.

    Raises:
        ReservedSubClass: no key-change subclass, or subclass 9 under EA07.
        StsError: a field that the standard does not allow.
    """
    match frame.subclass:
        case ManagementSubClass.SET_1ST_SECTION_DECODER_KEY:
            return FirstSection.from_frame(frame)
        case ManagementSubClass.SET_2ND_SECTION_DECODER_KEY:
            return SecondSection.from_frame(frame)
        case ManagementSubClass.SET_3RD_SECTION_DECODER_KEY if ea is EncryptionAlgorithm.STA:
            return SupplyGroupSection.from_frame(frame)
        case ManagementSubClass.SET_3RD_SECTION_DECODER_KEY | ManagementSubClass.SET_4TH_SECTION_DECODER_KEY if (
            ea is EncryptionAlgorithm.MISTY1
        ):
            return HalfSupplyGroupSection.from_frame(frame)
        case _:
            raise errors.ReservedSubClass(f"subclass {frame.subclass} is no key-change section under EA{ea.code}")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class KeyChange:
    """What a complete set does to a meter.

    Args:
        decoder_key: the new key.
        key_expiry_number, key_revision_number, key_type, tariff_index: its attributes.
        rollover: True exactly when the new key's base date is later than the old one's.
        supply_group_code: None in a 2-token set, which does not carry it.
    """

    decoder_key: DecoderKey
    key_expiry_number: KeyExpiryNumber
    key_revision_number: KeyRevisionNumber
    key_type: KeyType
    tariff_index: TariffIndex
    rollover: bool
    supply_group_code: SupplyGroupCode | None

    def sections(self) -> tuple[KeyChangeSection, ...]:
        """Return the two, three or four sections in their order.

        Raises:
            KeyChangeSetInvalid: EA11 without an SGC.
        """
        ea = self.decoder_key.ea
        words = [
            int.from_bytes(self.decoder_key.octets[i : i + 4], "big") for i in range(0, ea.decoder_key_bits // 8, 4)
        ]
        sgc = self.supply_group_code
        first = FirstSection(
            ken_high=self.key_expiry_number.number >> 4,
            key_revision_number=self.key_revision_number,
            rollover=self.rollover,
            third_follows=ea is EncryptionAlgorithm.STA and sgc is not None,
            key_type=self.key_type,
            key_part=words[0],
        )
        second = SecondSection(
            ken_low=self.key_expiry_number.number & 0xF, tariff_index=self.tariff_index, key_part=words[-1]
        )
        if ea is EncryptionAlgorithm.STA:
            return (first, second) if sgc is None else (first, second, SupplyGroupSection(supply_group_code=sgc))
        if sgc is None:
            raise errors.KeyChangeSetInvalid("an EA11 set carries the SGC")
        low = HalfSupplyGroupSection(
            subclass=ManagementSubClass.SET_3RD_SECTION_DECODER_KEY, sgc_half=int(sgc) & 0xFFF, key_part=words[1]
        )
        high = HalfSupplyGroupSection(
            subclass=ManagementSubClass.SET_4TH_SECTION_DECODER_KEY, sgc_half=int(sgc) >> 12, key_part=words[2]
        )
        return (first, second, low, high)

    @classmethod
    def assemble(cls, sections: Sequence[KeyChangeSection], ea: EncryptionAlgorithm) -> KeyChange | None:
        """Join sections, in any order; None while some are missing.

        Raises:
            InvalidSupplyGroupCode: the halves of an EA11 set make no six-digit SGC.
        """
        first = next((s for s in sections if isinstance(s, FirstSection)), None)
        second = next((s for s in sections if isinstance(s, SecondSection)), None)
        group = next((s for s in sections if isinstance(s, SupplyGroupSection)), None)
        halves = {s.subclass: s for s in sections if isinstance(s, HalfSupplyGroupSection)}
        if first is None or second is None:
            return None
        if ea is EncryptionAlgorithm.STA:
            if first.third_follows and group is None:
                return None
            words = [first.key_part, second.key_part]
            sgc = group.supply_group_code if first.third_follows and group is not None else None
        else:
            low = halves.get(ManagementSubClass.SET_3RD_SECTION_DECODER_KEY)
            high = halves.get(ManagementSubClass.SET_4TH_SECTION_DECODER_KEY)
            if low is None or high is None:
                return None
            words = [first.key_part, low.key_part, high.key_part, second.key_part]
            sgc = SupplyGroupCode(digits=f"{high.sgc_half << 12 | low.sgc_half:06d}")
        return cls(
            decoder_key=DecoderKey(octets=b"".join(word.to_bytes(4, "big") for word in words), ea=ea),
            key_expiry_number=KeyExpiryNumber(number=first.ken_high << 4 | second.ken_low),
            key_revision_number=first.key_revision_number,
            key_type=first.key_type,
            tariff_index=second.tariff_index,
            rollover=first.rollover,
            supply_group_code=sgc,
        )
