"""Digests as words that can be said and heard: proquints, five letters for sixteen bits (arXiv:0901.4016)."""

from __future__ import annotations

_CONSONANTS = "bdfghjklmnprstvz"
_VOWELS = "aiou"


def spell(octets: bytes) -> str:
    """Return words for an even number of octets, two octets each."""
    if len(octets) % 2:
        raise ValueError("two octets make a word")
    return " ".join(_word(int.from_bytes(octets[at : at + 2], "big")) for at in range(0, len(octets), 2))


def _word(number: int) -> str:
    return (
        _CONSONANTS[number >> 12]
        + _VOWELS[number >> 10 & 3]
        + _CONSONANTS[number >> 6 & 15]
        + _VOWELS[number >> 4 & 3]
        + _CONSONANTS[number & 15]
    )
