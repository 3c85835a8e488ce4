"""Strict ASCII decimal digits: ``str.isdigit`` also takes other scripts, which must never pass for a meter."""

from __future__ import annotations

_ASCII_DIGITS = frozenset("0123456789")


def is_decimal(text: object, length: int) -> bool:
    """Tell whether ``text`` is a string of exactly ``length`` ASCII decimal digits."""
    return isinstance(text, str) and len(text) == length and _ASCII_DIGITS.issuperset(text)
