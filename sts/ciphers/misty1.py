"""EA11, MISTY1 (RFC 2994): 8 rounds on 64 bits under a 128-bit key; one block, big-endian."""

from __future__ import annotations

from sts.ciphers.misty1_sboxes import S7, S9

_ROUNDS = 8


def _fi(value: int, key: int) -> int:
    d9, d7 = value >> 7, value & 0x7F
    d9 = S9[d9] ^ d7
    d7 = S7[d7] ^ (d9 & 0x7F)
    d7 ^= key >> 9
    d9 ^= key & 0x1FF
    d9 = S9[d9] ^ d7
    return d7 << 9 | d9


def _expand(key: bytes) -> tuple[int, ...]:
    words = [int.from_bytes(key[i : i + 2], "big") for i in range(0, 16, 2)]
    primed = [_fi(words[i], words[(i + 1) % 8]) for i in range(8)]
    return (*words, *primed)


def _fo(value: int, ek: tuple[int, ...], k: int) -> int:
    t0, t1 = value >> 16, value & 0xFFFF
    t0 = _fi(t0 ^ ek[k], ek[(k + 5) % 8 + 8]) ^ t1
    t1 = _fi(t1 ^ ek[(k + 2) % 8], ek[(k + 1) % 8 + 8]) ^ t0
    t0 = _fi(t0 ^ ek[(k + 7) % 8], ek[(k + 3) % 8 + 8]) ^ t1
    t1 ^= ek[(k + 4) % 8]
    return t1 << 16 | t0


def _fl_keys(ek: tuple[int, ...], k: int) -> tuple[int, int]:
    if k % 2 == 0:
        return ek[k // 2], ek[(k // 2 + 6) % 8 + 8]
    return ek[((k - 1) // 2 + 2) % 8 + 8], ek[((k - 1) // 2 + 4) % 8]


def _fl(value: int, ek: tuple[int, ...], k: int) -> int:
    d0, d1 = value >> 16, value & 0xFFFF
    and_key, or_key = _fl_keys(ek, k)
    d1 ^= d0 & and_key
    d0 ^= d1 | or_key
    return d0 << 16 | d1


def _fl_inverse(value: int, ek: tuple[int, ...], k: int) -> int:
    d0, d1 = value >> 16, value & 0xFFFF
    and_key, or_key = _fl_keys(ek, k)
    d0 ^= d1 | or_key
    d1 ^= d0 & and_key
    return d0 << 16 | d1


def encrypt(key: bytes, block: int) -> int:
    """Encrypt a 64-bit block under a key of 16 octets."""
    ek = _expand(key)
    d0, d1 = block >> 32, block & 0xFFFFFFFF
    for i in range(0, _ROUNDS, 2):
        d0, d1 = _fl(d0, ek, i), _fl(d1, ek, i + 1)
        d1 ^= _fo(d0, ek, i)
        d0 ^= _fo(d1, ek, i + 1)
    d0, d1 = _fl(d0, ek, _ROUNDS), _fl(d1, ek, _ROUNDS + 1)
    return d1 << 32 | d0


def decrypt(key: bytes, block: int) -> int:
    """Decrypt a 64-bit block under a key of 16 octets."""
    ek = _expand(key)
    d1, d0 = block >> 32, block & 0xFFFFFFFF
    d0, d1 = _fl_inverse(d0, ek, _ROUNDS), _fl_inverse(d1, ek, _ROUNDS + 1)
    for i in range(_ROUNDS - 2, -1, -2):
        d0 ^= _fo(d1, ek, i + 1)
        d1 ^= _fo(d0, ek, i)
        d0, d1 = _fl_inverse(d0, ek, i), _fl_inverse(d1, ek, i + 1)
    return d0 << 32 | d1
