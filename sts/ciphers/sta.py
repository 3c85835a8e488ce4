"""EA07, the Standard Transfer Algorithm (IEC 62055-41, clause 6.4.5): 16 rounds on 64 bits under a 64-bit key.

State and key are integers; nibble n is bits 4n+3..4n. The top bit of a key nibble chooses the substitution.
"""

from __future__ import annotations

from sts.ciphers.sta_tables import SAMPLE_TABLES, StaTables

_MASK = (1 << 64) - 1
_ROUNDS = 16


def _inverse(table: tuple[int, ...]) -> tuple[int, ...]:
    inverse = [0] * len(table)
    for position, value in enumerate(table):
        inverse[value] = position
    return tuple(inverse)


def _rotate_left(value: int, count: int) -> int:
    return (value << count | value >> (64 - count)) & _MASK


def _substitute(state: int, key: int, bit: int, when_set: tuple[int, ...], when_clear: tuple[int, ...]) -> int:
    result = 0
    for shift in range(0, 64, 4):
        table = when_set if key >> (shift + bit) & 1 else when_clear
        result |= table[state >> shift & 0xF] << shift
    return result


def _permute(state: int, permutation: tuple[int, ...]) -> int:
    result = 0
    for source, target in enumerate(permutation):
        result |= (state >> source & 1) << target
    return result


def encrypt(key: int, block: int, tables: StaTables = SAMPLE_TABLES) -> int:
    """Encrypt a 64-bit block under a 64-bit decoder key."""
    round_key = _rotate_left(~key & _MASK, 64 - 12)
    for _ in range(_ROUNDS):
        block = _substitute(block, round_key, 3, tables.substitution2, tables.substitution1)
        block = _permute(block, tables.permutation)
        round_key = _rotate_left(round_key, 1)
    return block


def decrypt(key: int, block: int, tables: StaTables = SAMPLE_TABLES) -> int:
    """Decrypt a 64-bit block under a 64-bit decoder key."""
    inverse1, inverse2 = _inverse(tables.substitution2), _inverse(tables.substitution1)
    inverse_permutation = _inverse(tables.permutation)
    round_key = key
    for _ in range(_ROUNDS):
        block = _permute(block, inverse_permutation)
        block = _substitute(block, round_key, 0, inverse2, inverse1)
        round_key = _rotate_left(round_key, 63)
    return block
