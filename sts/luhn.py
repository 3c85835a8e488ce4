"""The Luhn check digit (ISO/IEC 7812-1, mod 10), which guards the DRN and, again, the meter PAN."""

from __future__ import annotations

_ZERO = ord("0")
_DIGITS = "0123456789"
# The sum of the digits of twice a digit, as a digit: every sale checks two of these numbers.
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")


def check_digit(payload: str) -> str:
    """Return the Luhn digit for ``payload``.

    Args:
        payload: one or more ASCII decimal digits, without their check digit.

    Returns:
        One decimal digit.
    """
    octets = payload.encode("ascii")
    doubled = octets[-1::-2].translate(_DOUBLED)
    return _DIGITS[-(sum(doubled) + sum(octets[-2::-2]) - _ZERO * len(octets)) % 10]


def is_valid(number: str) -> bool:
    """Tell whether the last digit of ``number`` is the Luhn digit of those before it."""
    return check_digit(number[:-1]) == number[-1]
