"""Substitution and permutation tables of EA07 (IEC 62055-41, clause 6.4.5).

The standard prints sample tables for illustration; they are below. Production tables come from the STS
Association to its licensees, who install them into the token; they are never part of this code.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sts import errors


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StaTables:
    """A named set of tables. Its repr shows the name and the digest, never a table.

    Args:
        name: 1 to 32 printable ASCII characters without spaces.
        substitution1: T1, a permutation of 0..15.
        substitution2: T2, a permutation of 0..15.
        permutation: P, a permutation of 0..63: bit i moves to bit P[i].

    Raises:
        SubstitutionTablesInvalid: a table is no permutation of its range, or the name is unfit.
    """

    name: str
    substitution1: tuple[int, ...]
    substitution2: tuple[int, ...]
    permutation: tuple[int, ...]

    def __post_init__(self) -> None:
        if not (1 <= len(self.name) <= 32 and self.name.isascii() and self.name.isprintable() and " " not in self.name):
            raise errors.SubstitutionTablesInvalid("the name is 1 to 32 printable ASCII characters without spaces")
        for label, table, size in (
            ("substitution1", self.substitution1, 16),
            ("substitution2", self.substitution2, 16),
            ("permutation", self.permutation, 64),
        ):
            if any(isinstance(entry, bool) or not isinstance(entry, int) for entry in table):
                raise errors.SubstitutionTablesInvalid(f"{label} must hold whole numbers")
            if sorted(table) != list(range(size)):
                raise errors.SubstitutionTablesInvalid(f"{label} must be a permutation of 0..{size - 1}")

    def __repr__(self) -> str:
        return f"StaTables(name={self.name!r}, sha256={self.digest.hex()})"

    @property
    def octets(self) -> bytes:
        """T1 (16 octets), T2 (16), P (64): what is stored in the token and digested."""
        return bytes(self.substitution1 + self.substitution2 + self.permutation)

    @property
    def digest(self) -> bytes:
        """SHA-256 of :attr:`octets`: the identity of the set."""
        return hashlib.sha256(self.octets).digest()


SAMPLE_TABLES = StaTables(
    name="sample",
    substitution1=(12, 10, 8, 4, 3, 15, 0, 2, 14, 1, 5, 13, 6, 9, 7, 11),
    substitution2=(6, 9, 7, 4, 3, 10, 12, 14, 2, 13, 1, 15, 0, 11, 8, 5),
    permutation=(
        *(29, 27, 34, 9, 16, 62, 55, 2, 40, 49, 38, 25, 33, 61, 30, 23),
        *(1, 41, 21, 57, 42, 15, 5, 58, 19, 53, 22, 17, 48, 28, 24, 39),
        *(3, 60, 36, 14, 11, 52, 54, 12, 31, 51, 10, 26, 0, 45, 37, 43),
        *(44, 6, 59, 4, 7, 35, 56, 50, 13, 18, 32, 47, 46, 63, 20, 8),
    ),
)
