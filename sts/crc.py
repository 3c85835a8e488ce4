"""The token CRC (IEC 62055-41, clause 6.3.8): CRC-16/MODBUS, stored byte-swapped.

Covers seven octets: six zero bits, class, subclass and content. Currency tokens use CRC_C, which takes one more
octet 0x01, so that an old meter cannot mistake money for energy.
"""

from __future__ import annotations

_POLYNOMIAL_REFLECTED = 0xA001


def _table() -> tuple[int, ...]:
    entries = []
    for octet in range(256):
        value = octet
        for _ in range(8):
            value = value >> 1 ^ _POLYNOMIAL_REFLECTED if value & 1 else value >> 1
        entries.append(value)
    return tuple(entries)


_TABLE = _table()


def crc16(octets: bytes) -> int:
    """Return the CRC as it stands in the token, that is with its two octets swapped."""
    value = 0xFFFF
    for octet in octets:
        value = value >> 8 ^ _TABLE[(value ^ octet) & 0xFF]
    return (value & 0xFF) << 8 | value >> 8


def token_crc(*, token_class: int, subclass: int, content: int) -> int:
    """Return the 16-bit CRC field of a token.

    Args:
        token_class: 0 to 3.
        subclass: 0 to 15.
        content: the 44-bit content.
    """
    covered = (token_class << 48 | subclass << 44 | content).to_bytes(7, "big")
    is_currency = token_class == 0 and 4 <= subclass <= 7
    return crc16(covered + b"\x01" if is_currency else covered)
