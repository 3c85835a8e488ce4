"""Amounts as exact decimal digits on the outside, as whole least significant bits towards the module."""

from __future__ import annotations

import enum
import re

from sts import errors
from sts.credit import CreditSubClass
from sts.management import ManagementSubClass

_REQUEST_LIMIT = 1 << 127
_DECIMAL = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,20})?")


class Unit(enum.Enum):
    """What an amount counts: its name, and how many least significant bits make one."""

    KILOWATT_HOUR = ("kWh", 1)
    CUBIC_METRE = ("m3", 1)
    MINUTE = ("min", 1)
    CURRENCY = ("currency", 5)
    WATT = ("W", 0)
    NUMBER = ("", 0)

    def __init__(self, _: str, decimals: int) -> None:
        self.decimals = decimals
        """Digits behind the point of the least significant bit."""


_CREDIT_UNITS = (Unit.KILOWATT_HOUR, Unit.CUBIC_METRE, Unit.CUBIC_METRE, Unit.MINUTE)
_WATT_SUBCLASSES = frozenset(
    {ManagementSubClass.SET_MAXIMUM_POWER_LIMIT, ManagementSubClass.SET_MAXIMUM_PHASE_POWER_UNBALANCE_LIMIT}
)


def unit_of(token_class: int, subclass: int) -> Unit:
    """Return what the value of a token counts."""
    if token_class == 0:
        return Unit.CURRENCY if subclass >= CreditSubClass.ELECTRICITY_CURRENCY else _CREDIT_UNITS[subclass]
    return Unit.WATT if token_class == 2 and subclass in _WATT_SUBCLASSES else Unit.NUMBER


def to_units(text: str, unit: Unit, *, round_up: bool) -> int:
    """Turn decimal digits into least significant bits.

    Args:
        text: digits with at most one point, ASCII, at most 40 before and 20 behind it.
        unit: what they count.
        round_up: round a residue towards plus infinity, as the standard does, instead of refusing it.

    Raises:
        AmountInvalid, AmountTooFine, AmountTooLarge: as their names say.
    """
    if _DECIMAL.fullmatch(text) is None:
        raise errors.AmountInvalid(
            "an amount is 1 to 40 digits, then if need be a point and 1 to 20 digits, such as 25.6"
        )
    whole, _, fraction = text.lstrip("-").partition(".")
    decimals = unit.decimals
    magnitude = int(whole + fraction[:decimals].ljust(decimals, "0"))
    residue = bool(fraction[decimals:].strip("0"))
    floor_units = -magnitude - residue if text.startswith("-") else magnitude
    if residue and not round_up:
        raise errors.AmountTooFine(f"the amount has more digits behind the point than the field: {unit.decimals}")
    units = floor_units + 1 if residue else floor_units
    # The module knows the edge of each field; here only what its request cannot carry.
    if abs(units) >= _REQUEST_LIMIT:
        raise errors.AmountTooLarge("the amount is above what any token holds")
    return units


def to_decimal(units: int, unit: Unit) -> str:
    """Turn least significant bits into exact decimal digits, with every digit of the unit behind the point."""
    sign, digits = "-" if units < 0 else "", str(abs(units))
    if unit.decimals == 0:
        return sign + digits
    digits = digits.rjust(unit.decimals + 1, "0")
    return f"{sign}{digits[: -unit.decimals]}.{digits[-unit.decimals :]}"
