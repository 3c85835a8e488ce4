"""Class 1, InitiateMeterTest/Display (IEC 62055-41, clause 6.2.4): in clear, for any meter of a manufacturer."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar, Self

from sts import errors
from sts.fields import require_bits
from sts.frame import Frame

EXTENDED_READ = 2
_RESERVED = range(3, 6)
_TWO_DIGIT_FORM = frozenset({0, 2, *range(11, 16)})


class MeterTest(enum.IntEnum):
    """Tests by number; the control bit of test n is bit n - 1 (names after public sources)."""

    ALL = 0
    LOAD_SWITCH = 1
    DISPLAY = 2
    CUMULATIVE_REGISTER = 3
    KEY_REVISION_NUMBER = 4
    TARIFF_INDEX = 5
    TOKEN_READER = 6
    MAXIMUM_POWER_LIMIT = 7
    TAMPER_STATUS = 8
    POWER_CONSUMPTION = 9
    SOFTWARE_VERSION = 10
    PHASE_POWER_UNBALANCE_LIMIT = 11
    WATER_METER_FACTOR = 12
    TARIFF_RATE = 13


def control_bits(subclass: int) -> int:
    """Width of the control field: 36 with a 2-digit manufacturer code, 28 with a 4-digit one."""
    return 36 if subclass in _TWO_DIGIT_FORM else 28


@dataclass(frozen=True, slots=True, kw_only=True)
class InitiateMeterTest:
    """A test or display token. It names no meter and needs no key.

    Args:
        subclass: 0 (2-digit manufacturer code), 1 (4-digit), 2 (extended read), 6-15 (proprietary).
        control: 36 bits in subclass 0, 2 and 11-15, else 28; one bit per test.
        manufacturer_code: 8 bits beside 36, 16 beside 28; 0 addresses every manufacturer.

    Raises:
        ReservedSubClass: subclass 3 to 5.
        FieldOutOfRange: a field wider than its bits, or a manufacturer code with extended read.
    """

    token_class: ClassVar[int] = 1
    subclass: int
    control: int
    manufacturer_code: int

    def __post_init__(self) -> None:
        require_bits("subclass", self.subclass, 4)
        if self.subclass in _RESERVED:
            raise errors.ReservedSubClass(f"class 1 subclass {self.subclass} is reserved")
        bits = control_bits(self.subclass)
        require_bits("control", self.control, bits)
        require_bits("manufacturer code", self.manufacturer_code, 44 - bits)
        if self.subclass == EXTENDED_READ and self.manufacturer_code:
            raise errors.FieldOutOfRange("extended read carries manufacturer code 0")

    @classmethod
    def for_test(cls, test: int, *, subclass: int = 0, manufacturer_code: int = 0) -> Self:
        """Build the token of one test; test 0 sets every bit.

        Raises:
            FieldOutOfRange: the test number is beyond the control field.
        """
        bits = control_bits(subclass)
        if not 0 <= test <= bits:
            raise errors.FieldOutOfRange(f"a test number is 0 to {bits}")
        control = (1 << bits) - 1 if test == 0 else 1 << (test - 1)
        return cls(subclass=subclass, control=control, manufacturer_code=manufacturer_code)

    @classmethod
    def extended_read(cls, index: int) -> Self:
        """Build an extended read (STS 202-5): the index, 0 to 63, in the top six bits of the control field."""
        require_bits("index", index, 6)
        return cls(subclass=EXTENDED_READ, control=index << 30, manufacturer_code=0)

    @property
    def frame(self) -> Frame:
        """Control36 || MfrCode8, or Control28 || MfrCode16."""
        content = self.control << (44 - control_bits(self.subclass)) | self.manufacturer_code
        return Frame(token_class=1, subclass=self.subclass, content=content)

    @classmethod
    def from_frame(cls, frame: Frame) -> Self:
        """Decode; raises ReservedSubClass, and FieldOutOfRange for an extended read with a manufacturer code."""
        width = 44 - control_bits(frame.subclass)
        return cls(
            subclass=frame.subclass,
            control=frame.content >> width,
            manufacturer_code=frame.content & ((1 << width) - 1),
        )
