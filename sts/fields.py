"""Bounds checks shared by the token classes: a field of a token is an integer inside its bits."""

from __future__ import annotations

from sts import errors


def require_bits(name: str, value: int, bits: int) -> None:
    """Raise FieldOutOfRange unless ``value`` is an integer of at most ``bits`` bits."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
        raise errors.FieldOutOfRange(f"{name} is a number of {bits} bits")


def timed_content(random_number: int, token_identifier: int, lower: int) -> int:
    """Join RND (4 bits), TID (24) and the last sixteen bits into a 44-bit content."""
    require_bits("RND", random_number, 4)
    require_bits("TID", token_identifier, 24)
    require_bits("the last field", lower, 16)
    return random_number << 40 | token_identifier << 16 | lower


def split_timed_content(content: int) -> tuple[int, int, int]:
    """Return RND, TID and the last sixteen bits of a 44-bit content."""
    return content >> 40, content >> 16 & 0xFFFFFF, content & 0xFFFF
