"""Amount16: the floating decimal of service credit and power limits (IEC 62055-41, clause 6.3.6).

Two bits of exponent, fourteen of mantissa; steps of 1, 10, 100 and 1000 least significant bits. Encoding rounds
up, so that a customer never gets less than was paid for.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Self

from sts import errors

MANTISSA_MAX = (1 << 14) - 1
AMOUNT16_MAX_UNITS = 18_201_624
_OFFSETS = (0, 16_384, 180_224, 1_818_624)


def exact_decimal(text: str | int | Decimal) -> Decimal:
    """Return ``text`` as an exact finite decimal; raise AmountInvalid for anything else, floats among them."""
    if isinstance(text, bool) or not isinstance(text, (str, int, Decimal)):
        raise errors.AmountInvalid("an amount is a decimal string, never a binary fraction")
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise errors.AmountInvalid("an amount is decimal digits with at most one point") from None
    if not value.is_finite():
        raise errors.AmountInvalid("an amount must be finite")
    return value


def scale_to_units(value: Decimal, units_per_one: int) -> tuple[int, bool]:
    """Return ``value * units_per_one`` as floor and whether digits remain below one unit. Exact, no context.

    Raises:
        AmountTooLarge: the number is beyond anything a token holds (guards against 1e999999).
        AmountInvalid: over a thousand digits.
    """
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise errors.AmountInvalid("an amount must be finite")
    if len(digits) > 1000 or exponent < -1000:
        raise errors.AmountInvalid("an amount has at most 1000 digits")
    mantissa = int("".join(map(str, digits)) or "0")
    if mantissa == 0:
        return 0, False
    if len(digits) + exponent > 60:
        raise errors.AmountTooLarge("the amount is out of all proportion")
    numerator = (-mantissa if sign else mantissa) * units_per_one
    if exponent >= 0:
        return numerator * 10**exponent, False
    quotient, remainder = divmod(numerator, 10**-exponent)
    return quotient, remainder != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount16:
    """The 16-bit field, and what it is worth.

    Args:
        field: 0 to 65535, exponent (2 bits) above mantissa (14 bits).
    """

    field: int

    def __post_init__(self) -> None:
        if not 0 <= self.field <= 0xFFFF:
            raise errors.FieldOutOfRange("an Amount16 is 16 bits")

    @classmethod
    def from_units(cls, units: int) -> Self:
        """Encode a number of least significant bits, rounding up.

        Raises:
            AmountNegative: below zero.
            AmountTooLarge: above 18201624.
        """
        if units < 0:
            raise errors.AmountNegative("an Amount16 cannot be negative")
        for exponent, offset in enumerate(_OFFSETS):
            mantissa = -(-max(0, units - offset) // 10**exponent)
            if mantissa <= MANTISSA_MAX:
                return cls(field=exponent << 14 | mantissa)
        raise errors.AmountTooLarge(f"the amount is above {AMOUNT16_MAX_UNITS} units")

    @classmethod
    def from_decimal(cls, value: str | int | Decimal, *, units_per_one: int = 10) -> Self:
        """Encode an exact decimal (kWh, m3, minutes; or W with ``units_per_one=1``), rounding up.

        Raises:
            AmountInvalid, AmountNegative, AmountTooLarge: as their names say.
        """
        units, residue = scale_to_units(exact_decimal(value), units_per_one)
        return cls.from_units(units + 1 if residue else units)

    @property
    def units(self) -> int:
        """What the field is worth, in least significant bits: 0 to 18201624."""
        exponent = self.field >> 14
        mantissa: int = self.field & MANTISSA_MAX
        return mantissa * int(10**exponent) + _OFFSETS[exponent]
