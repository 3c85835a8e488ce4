"""Class 0, TransferCredit (IEC 62055-41, clauses 6.2.2 and 6.2.3): service in subclass 0-3, currency in 4-7."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar, Self

from sts import errors
from sts.amount import Amount16
from sts.currency import CurrencyAmount
from sts.fields import split_timed_content, timed_content
from sts.frame import Frame


class CreditSubClass(enum.IntEnum):
    """What a credit token is for. Service counts in tenths, currency in 1e-5 base units."""

    ELECTRICITY = 0
    WATER = 1
    GAS = 2
    TIME = 3
    ELECTRICITY_CURRENCY = 4
    WATER_CURRENCY = 5
    GAS_CURRENCY = 6
    TIME_CURRENCY = 7

    @classmethod
    def from_number(cls, number: int) -> CreditSubClass:
        """Return the subclass, or raise ReservedSubClass."""
        try:
            return cls(number)
        except ValueError:
            raise errors.ReservedSubClass(f"class 0 subclass {number} is reserved") from None

    @property
    def is_currency(self) -> bool:
        """True for subclass 4 to 7."""
        return self >= CreditSubClass.ELECTRICITY_CURRENCY


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferCredit:
    """Credit in units of service.

    Args:
        subclass: ELECTRICITY (0.1 kWh), WATER, GAS (0.1 m3) or TIME (0.1 min).
        random_number: RND, 0 to 15.
        token_identifier: TID, 24 bits, under the base date of the key.
        amount: what is granted.
    """

    token_class: ClassVar[int] = 0
    subclass: CreditSubClass
    random_number: int
    token_identifier: int
    amount: Amount16

    def __post_init__(self) -> None:
        if self.subclass.is_currency:
            raise errors.ReservedSubClass("currency credit is a TransferCurrencyCredit")
        _ = self.frame

    @property
    def frame(self) -> Frame:
        """RND4, TID24, Amount16."""
        content = timed_content(self.random_number, self.token_identifier, self.amount.field)
        return Frame(token_class=0, subclass=self.subclass, content=content)

    @classmethod
    def from_frame(cls, frame: Frame) -> Self:
        """Decode; the caller has seen that class and subclass fit."""
        random_number, token_identifier, field = split_timed_content(frame.content)
        return cls(
            subclass=CreditSubClass(frame.subclass),
            random_number=random_number,
            token_identifier=token_identifier,
            amount=Amount16(field=field),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferCurrencyCredit:
    """Credit in currency; the S&E nibble of the amount stands where RND stands elsewhere.

    Args:
        subclass: one of the four currency subclasses.
        token_identifier: TID, 24 bits.
        amount: what is granted, signed.
    """

    token_class: ClassVar[int] = 0
    subclass: CreditSubClass
    token_identifier: int
    amount: CurrencyAmount

    def __post_init__(self) -> None:
        if not self.subclass.is_currency:
            raise errors.ReservedSubClass("service credit is a TransferCredit")
        _ = self.frame

    @property
    def frame(self) -> Frame:
        """S&E4, TID24, Amount16; the frame computes CRC_C."""
        content = timed_content(self.amount.sign_and_exponent, self.token_identifier, self.amount.lower)
        return Frame(token_class=0, subclass=self.subclass, content=content)

    @classmethod
    def from_frame(cls, frame: Frame) -> Self:
        """Decode; the caller has seen that class and subclass fit."""
        sign_and_exponent, token_identifier, lower = split_timed_content(frame.content)
        return cls(
            subclass=CreditSubClass(frame.subclass),
            token_identifier=token_identifier,
            amount=CurrencyAmount.from_parts(sign_and_exponent=sign_and_exponent, lower=lower),
        )
