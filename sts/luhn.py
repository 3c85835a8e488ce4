"""The Luhn check digit (ISO/IEC 7812-1, mod 10), which guards the DRN and, again, the meter PAN."""

from __future__ import annotations


def check_digit(payload: str) -> str:
    """Return the Luhn digit for ``payload``.

    Args:
        payload: one or more ASCII decimal digits, without their check digit.

    Returns:
        One decimal digit.
    """
    total = 0
    for position, character in enumerate(reversed(payload)):
        digit = int(character)
        if position % 2 == 0:
            digit = digit * 2 - 9 if digit > 4 else digit * 2
        total += digit
    return str(-total % 10)


def is_valid(number: str) -> bool:
    """Tell whether the last digit of ``number`` is the Luhn digit of those before it."""
    return check_digit(number[:-1]) == number[-1]
