"""The 20-digit token number (IEC 62055-41, clauses 6.4.2 and 6.4.3): class bits transposed into the block.

Token66 = (B[28:27] << 64) | (B with bits 28 and 27 replaced by the class)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from sts import errors
from sts.digits import is_decimal
from sts.frame import BLOCK_MAX

TOKEN66_LIMIT = 1 << 66
_CLASS_SHIFT = 27
_CLASS_MASK = 0b11 << _CLASS_SHIFT


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenNumber:
    """A token as a customer types it. Its repr shows no digits, for a token is money.

    Args:
        digits: exactly 20 decimal digits.

    Raises:
        TokenNumberFormat: not 20 decimal digits.
        TokenNumberRange: 2^66 or more.
    """

    digits: str

    def __post_init__(self) -> None:
        if not is_decimal(self.digits, 20):
            raise errors.TokenNumberFormat("a token number has exactly 20 decimal digits")
        if int(self.digits) >= TOKEN66_LIMIT:
            raise errors.TokenNumberRange("a token number is below 2^66")

    def __repr__(self) -> str:
        return "TokenNumber(digits=<redacted>)"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Accept 20 digits, in one piece or in groups of four parted by single spaces or hyphens."""
        groups = text.strip().replace("-", " ").split(" ")
        if len(groups) == 5 and all(len(group) == 4 for group in groups):
            return cls(digits="".join(groups))
        return cls(digits=text.strip())

    @classmethod
    def from_block(cls, *, token_class: int, block: int) -> Self:
        """Transpose the class (0 to 3) into a 64-bit block, encrypted or in clear."""
        if not (0 <= token_class <= 3 and 0 <= block <= BLOCK_MAX):
            raise errors.FieldOutOfRange("class is 2 bits, the block 64")
        displaced = block >> _CLASS_SHIFT & 0b11
        return cls(digits=f"{displaced << 64 | block & ~_CLASS_MASK | token_class << _CLASS_SHIFT:020d}")

    @property
    def token_class(self) -> int:
        """The class, 0 to 3, readable without any key."""
        return int(self.digits) >> _CLASS_SHIFT & 0b11

    @property
    def block(self) -> int:
        """The 64-bit block, encrypted in class 0 and 2."""
        token66 = int(self.digits)
        return token66 & BLOCK_MAX & ~_CLASS_MASK | token66 >> 64 << _CLASS_SHIFT

    @property
    def grouped(self) -> str:
        """The digits 4-4-4-4-4, as they are printed."""
        return " ".join(self.digits[i : i + 4] for i in range(0, 20, 4))
