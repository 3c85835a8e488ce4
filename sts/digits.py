"""Strict ASCII decimal digits: ``str.isdigit`` also takes other scripts, which must never pass for a meter."""

from __future__ import annotations


def is_decimal(text: object, length: int) -> bool:
    """Tell whether ``text`` is a string of exactly ``length`` ASCII decimal digits."""
    return isinstance(text, str) and len(text) == length and text.isascii() and text.isdigit()
