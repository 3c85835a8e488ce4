"""The currency amount of class 0 subclass 4 to 7 (IEC 62055-41:2018, clause 6.3.7).

Twenty bits: sign, five of exponent, fourteen of mantissa; one unit is 1e-5 of the base currency unit. Positive
amounts round up, negative ones towards zero, so that the result is never below the signed amount asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from sts import errors
from sts.amount import MANTISSA_MAX, exact_decimal, scale_to_units

UNITS_PER_ONE = 100_000
_EXPONENTS = range(32)
_OFFSETS = tuple(sum((1 << 14) * 10 ** (n - 1) for n in range(1, e + 1)) for e in _EXPONENTS)
CURRENCY_MAX_UNITS = MANTISSA_MAX * 10**31 + _OFFSETS[31]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrencyAmount:
    """The 20-bit field, split over the token: the nibble S&E (sign, upper exponent) and sixteen lower bits.

    Args:
        field: 0 to 2^20 - 1.
    """

    field: int

    def __post_init__(self) -> None:
        if not 0 <= self.field < 1 << 20:
            raise errors.FieldOutOfRange("a currency amount is 20 bits")

    @classmethod
    def from_units(cls, units: int) -> Self:
        """Encode a signed number of 1e-5 units. Raises AmountTooLarge beyond the field."""
        magnitude = abs(units)
        for exponent in _EXPONENTS:
            above = max(0, magnitude - _OFFSETS[exponent])
            scale = 10**exponent
            mantissa = above // scale if units < 0 else -(-above // scale)
            if mantissa <= MANTISSA_MAX:
                return cls(field=(units < 0) << 19 | exponent << 14 | mantissa)
        raise errors.AmountTooLarge("the currency amount is beyond the field")

    @classmethod
    def from_decimal(cls, value: str | int | Decimal) -> Self:
        """Encode an exact signed decimal in base currency units. Raises AmountInvalid or AmountTooLarge."""
        floor_units, residue = scale_to_units(exact_decimal(value), UNITS_PER_ONE)
        # Towards plus infinity on both signs: up for credit, towards zero for debit.
        return cls.from_units(floor_units + 1 if residue else floor_units)

    @classmethod
    def from_parts(cls, *, sign_and_exponent: int, lower: int) -> Self:
        """Join the S&E nibble and the sixteen lower bits of a token."""
        return cls(field=sign_and_exponent << 16 | lower)

    @property
    def sign_and_exponent(self) -> int:
        """The nibble s e4 e3 e2, which takes the place of the random number."""
        return self.field >> 16

    @property
    def lower(self) -> int:
        """e1 e0 m13..m0."""
        return self.field & 0xFFFF

    @property
    def units(self) -> int:
        """What the field is worth, signed, in units of 1e-5."""
        exponent = self.field >> 14 & 0x1F
        magnitude: int = (self.field & MANTISSA_MAX) * int(10**exponent) + _OFFSETS[exponent]
        return -magnitude if self.field >> 19 else magnitude
