"""The token frame (IEC 62055-41, clause 6.2.1): class and subclass, 44 bits of content, CRC.

``Block64`` is what a cipher works on: SubClass4 || Content44 || CRC16; the class travels beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from sts import errors
from sts.crc import token_crc

CONTENT_MAX = (1 << 44) - 1
BLOCK_MAX = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Class (0 to 3), subclass (0 to 15) and content (44 bits) of a token, before encryption."""

    token_class: int
    subclass: int
    content: int

    def __post_init__(self) -> None:
        if not (0 <= self.token_class <= 3 and 0 <= self.subclass <= 15 and 0 <= self.content <= CONTENT_MAX):
            raise errors.FieldOutOfRange("class is 2 bits, subclass 4 bits, content 44 bits")

    @property
    def crc(self) -> int:
        """The CRC field, CRC_C for currency tokens."""
        return token_crc(token_class=self.token_class, subclass=self.subclass, content=self.content)

    @property
    def block(self) -> int:
        """The 64-bit data block."""
        return self.subclass << 60 | self.content << 16 | self.crc

    @classmethod
    def from_block(cls, *, token_class: int, block: int) -> Self:
        """Take a (decrypted) block apart.

        Raises:
            CRCMismatch: the CRC does not fit: another key, another meter, or a wrong digit.
        """
        if not 0 <= block <= BLOCK_MAX:
            raise errors.FieldOutOfRange("a data block is 64 bits")
        frame = cls(token_class=token_class, subclass=block >> 60, content=block >> 16 & CONTENT_MAX)
        if frame.crc != block & 0xFFFF:
            raise errors.CRCMismatch("the CRC of the block is wrong")
        return frame
