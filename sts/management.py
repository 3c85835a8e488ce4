"""Class 2, management tokens other than key change (IEC 62055-41, clauses 6.2.5 to 6.2.12)."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar, Self

from sts import errors
from sts.amount import Amount16
from sts.fields import require_bits, split_timed_content, timed_content
from sts.frame import Frame


class ManagementSubClass(enum.IntEnum):
    """Class 2 subclasses; 3, 4, 8 and 9 are the sections of a decoder key."""

    SET_MAXIMUM_POWER_LIMIT = 0
    CLEAR_CREDIT = 1
    SET_TARIFF_RATE = 2
    SET_1ST_SECTION_DECODER_KEY = 3
    SET_2ND_SECTION_DECODER_KEY = 4
    CLEAR_TAMPER_CONDITION = 5
    SET_MAXIMUM_PHASE_POWER_UNBALANCE_LIMIT = 6
    SET_WATER_METER_FACTOR = 7
    SET_3RD_SECTION_DECODER_KEY = 8
    SET_4TH_SECTION_DECODER_KEY = 9
    EXTENDED_SET = 10
    PROPRIETARY_11 = 11
    PROPRIETARY_12 = 12
    PROPRIETARY_13 = 13
    PROPRIETARY_14 = 14
    PROPRIETARY_15 = 15


KEY_CHANGE_SUBCLASSES = frozenset({3, 4, 8, 9})


class ClearCreditRegister(enum.IntEnum):
    """The register that a ClearCredit token empties; raw binary, anything else is a RangeError."""

    ELECTRICITY = 0
    WATER = 1
    GAS = 2
    TIME = 3
    ELECTRICITY_CURRENCY = 4
    WATER_CURRENCY = 5
    GAS_CURRENCY = 6
    TIME_CURRENCY = 7
    ALL = 0xFFFF

    @classmethod
    def from_number(cls, number: int) -> ClearCreditRegister:
        """Return the register, or raise FieldOutOfRange."""
        try:
            return cls(number)
        except ValueError:
            raise errors.FieldOutOfRange("a register is 0 to 7, or 65535 for all") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _TimedManagement:
    """RND4, TID24 and sixteen bits that each subclass reads in its own way."""

    token_class: ClassVar[int] = 2
    random_number: int
    token_identifier: int

    def __post_init__(self) -> None:
        _ = self.frame

    def _subclass(self) -> int:
        raise AssertionError("each management token names its subclass")

    def _lower(self) -> int:
        raise AssertionError("each management token fills its last field")

    @property
    def frame(self) -> Frame:
        """The frame of the token."""
        content = timed_content(self.random_number, self.token_identifier, self._lower())
        return Frame(token_class=2, subclass=self._subclass(), content=content)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMaximumPowerLimit(_TimedManagement):
    """Limit of the load in watts, coded as an Amount16 of 1 W."""

    limit: Amount16

    def _subclass(self) -> int:
        return ManagementSubClass.SET_MAXIMUM_POWER_LIMIT

    def _lower(self) -> int:
        return self.limit.field


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearCredit(_TimedManagement):
    """Empty a credit register, or all of them."""

    register: ClearCreditRegister

    def _subclass(self) -> int:
        return ManagementSubClass.CLEAR_CREDIT

    def _lower(self) -> int:
        return self.register


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTariffRate(_TimedManagement):
    """Tariff rate, 16 bits whose meaning is the meter's."""

    rate: int

    def _subclass(self) -> int:
        return ManagementSubClass.SET_TARIFF_RATE

    def _lower(self) -> int:
        return self.rate


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearTamperCondition(_TimedManagement):
    """Clear the tamper state; the last sixteen bits are zero."""

    def _subclass(self) -> int:
        return ManagementSubClass.CLEAR_TAMPER_CONDITION

    def _lower(self) -> int:
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMaximumPhasePowerUnbalanceLimit(_TimedManagement):
    """Limit of the difference between phases in watts, an Amount16 of 1 W."""

    limit: Amount16

    def _subclass(self) -> int:
        return ManagementSubClass.SET_MAXIMUM_PHASE_POWER_UNBALANCE_LIMIT

    def _lower(self) -> int:
        return self.limit.field


@dataclass(frozen=True, slots=True, kw_only=True)
class SetWaterMeterFactor(_TimedManagement):
    """Factor of a water meter, 16 bits whose meaning is the meter's."""

    factor: int

    def _subclass(self) -> int:
        return ManagementSubClass.SET_WATER_METER_FACTOR

    def _lower(self) -> int:
        return self.factor


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedSet(_TimedManagement):
    """Extended set (STS 202-5): six bits of index, ten of data."""

    FLAGS_INDEX: ClassVar[int] = 63
    index: int
    data: int

    def __post_init__(self) -> None:
        require_bits("index", self.index, 6)
        require_bits("data", self.data, 10)
        _ = self.frame

    @classmethod
    def flag(cls, *, random_number: int, token_identifier: int, flag: int, value: bool) -> Self:
        """Set or clear flag 0 to 511: index 63, data = flag << 1 | value."""
        require_bits("flag", flag, 9)
        data = flag << 1 | value
        return cls(random_number=random_number, token_identifier=token_identifier, index=cls.FLAGS_INDEX, data=data)

    def _subclass(self) -> int:
        return ManagementSubClass.EXTENDED_SET

    def _lower(self) -> int:
        return self.index << 10 | self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class ProprietaryManagement(_TimedManagement):
    """Subclass 11 to 15: sixteen bits that belong to the manufacturer."""

    subclass: int
    data: int

    def __post_init__(self) -> None:
        if not 11 <= self.subclass <= 15:
            raise errors.ReservedSubClass("proprietary management is subclass 11 to 15")
        _ = self.frame

    def _subclass(self) -> int:
        return self.subclass

    def _lower(self) -> int:
        return self.data


ManagementToken = (
    SetMaximumPowerLimit
    | ClearCredit
    | SetTariffRate
    | ClearTamperCondition
    | SetMaximumPhasePowerUnbalanceLimit
    | SetWaterMeterFactor
    | ExtendedSet
    | ProprietaryManagement
)


def decode_management(frame: Frame) -> ManagementToken:
    """Decode a class 2 frame that is no section of a decoder key.

    Raises:
        FieldOutOfRange: a register that does not exist, or padding that is not zero.
        ReservedSubClass: the subclass is a key-change section.
    """
    rnd, tid, lower = split_timed_content(frame.content)
    match frame.subclass:
        case ManagementSubClass.SET_MAXIMUM_POWER_LIMIT:
            return SetMaximumPowerLimit(random_number=rnd, token_identifier=tid, limit=Amount16(field=lower))
        case ManagementSubClass.CLEAR_CREDIT:
            register = ClearCreditRegister.from_number(lower)
            return ClearCredit(random_number=rnd, token_identifier=tid, register=register)
        case ManagementSubClass.SET_TARIFF_RATE:
            return SetTariffRate(random_number=rnd, token_identifier=tid, rate=lower)
        case ManagementSubClass.CLEAR_TAMPER_CONDITION:
            if lower:
                raise errors.FieldOutOfRange("the padding of ClearTamperCondition must be zero")
            return ClearTamperCondition(random_number=rnd, token_identifier=tid)
        case ManagementSubClass.SET_MAXIMUM_PHASE_POWER_UNBALANCE_LIMIT:
            limit = Amount16(field=lower)
            return SetMaximumPhasePowerUnbalanceLimit(random_number=rnd, token_identifier=tid, limit=limit)
        case ManagementSubClass.SET_WATER_METER_FACTOR:
            return SetWaterMeterFactor(random_number=rnd, token_identifier=tid, factor=lower)
        case ManagementSubClass.EXTENDED_SET:
            return ExtendedSet(random_number=rnd, token_identifier=tid, index=lower >> 10, data=lower & 0x3FF)
        case subclass if subclass in KEY_CHANGE_SUBCLASSES:
            raise errors.ReservedSubClass("this subclass is a section of a decoder key")
        case subclass:
            return ProprietaryManagement(random_number=rnd, token_identifier=tid, subclass=subclass, data=lower)
