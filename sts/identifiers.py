"""Identifiers of a meter and of a vending key (IEC 62055-41, clause 6.1: MeterPAN, TCT, SGC, TI, KRN, KT, KEN …).

Each type refuses what the standard does not allow, so that a value which exists is valid.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Self

from sts import errors, luhn
from sts.digits import is_decimal

IIN_TWO_DIGIT_MANUFACTURER = "600727"
IIN_FOUR_DIGIT_MANUFACTURER = "0000"
_DRN_LENGTH = {IIN_TWO_DIGIT_MANUFACTURER: 11, IIN_FOUR_DIGIT_MANUFACTURER: 13}


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerIdentificationNumber:
    """IIN: 600727 for meters with a 2-digit manufacturer code, 0000 for those with a 4-digit one.

    Raises:
        InvalidIssuerIdentificationNumber: for anything else.
    """

    digits: str

    def __post_init__(self) -> None:
        if self.digits not in _DRN_LENGTH:
            raise errors.InvalidIssuerIdentificationNumber("the IIN must be 600727 or 0000")

    @property
    def decoder_reference_number_length(self) -> int:
        """Digits of the DRN that goes with this IIN: 11 or 13."""
        return _DRN_LENGTH[self.digits]


def _require_drn_check_digit(digits: str) -> None:
    if not luhn.is_valid(digits):
        raise errors.DecoderReferenceNumberCheckDigit("the check digit of the DRN is wrong")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderReferenceNumber:
    """DRN, the meter number: manufacturer (2 or 4 digits), serial number (8), Luhn digit.

    Raises:
        InvalidDecoderReferenceNumber: not 11 or 13 digits.
        DecoderReferenceNumberCheckDigit: the Luhn digit is wrong.
    """

    digits: str

    def __post_init__(self) -> None:
        if not (is_decimal(self.digits, 11) or is_decimal(self.digits, 13)):
            raise errors.InvalidDecoderReferenceNumber("a DRN has 11 or 13 decimal digits")
        _require_drn_check_digit(self.digits)

    @property
    def manufacturer_code(self) -> str:
        """Two or four digits."""
        return self.digits[:-9]

    @property
    def serial_number(self) -> str:
        """Eight digits."""
        return self.digits[-9:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterPAN:
    """MeterPAN: 18 digits, IIN || DRN || Luhn digit over the 17 before it.

    Raises:
        InvalidMeterPAN: not 18 digits.
        InvalidIssuerIdentificationNumber: begins with neither 600727 nor 0000.
        DecoderReferenceNumberCheckDigit: the check digit of the DRN inside is wrong.
        MeterPANCheckDigit: the last digit is wrong.
    """

    digits: str

    def __post_init__(self) -> None:
        if not is_decimal(self.digits, 18):
            raise errors.InvalidMeterPAN("a meter PAN has 18 decimal digits")
        _ = self.decoder_reference_number
        if not luhn.is_valid(self.digits):
            raise errors.MeterPANCheckDigit("the check digit of the meter PAN is wrong")

    @classmethod
    def from_decoder_reference_number(cls, drn: DecoderReferenceNumber) -> Self:
        """Build the PAN of a meter from the number printed on it; the length of the DRN decides the IIN."""
        return cls._from_checked(drn.digits)

    @classmethod
    def _from_checked(cls, drn: str) -> Self:
        payload = (IIN_TWO_DIGIT_MANUFACTURER if len(drn) == 11 else IIN_FOUR_DIGIT_MANUFACTURER) + drn
        # What was checked as a DRN and given its check digit here need not be checked again.
        pan = object.__new__(cls)
        object.__setattr__(pan, "digits", payload + luhn.check_digit(payload))
        return pan

    @classmethod
    def parse(cls, text: str) -> Self:
        """Accept a meter PAN (18 digits) or a DRN (11 or 13 digits)."""
        if is_decimal(text, 11) or is_decimal(text, 13):
            _require_drn_check_digit(text)
            return cls._from_checked(text)
        if not is_decimal(text, 18):
            raise errors.InvalidMeterPAN("a meter number has 11 or 13 decimal digits, a meter PAN 18")
        return cls(digits=text)

    @property
    def issuer_identification_number(self) -> IssuerIdentificationNumber:
        """The IIN; a PAN that begins with 0000 has the short one."""
        length = 4 if self.digits.startswith(IIN_FOUR_DIGIT_MANUFACTURER) else 6
        return IssuerIdentificationNumber(digits=self.digits[:length])

    @property
    def decoder_reference_number(self) -> DecoderReferenceNumber:
        """The DRN, between the IIN and the last digit."""
        return DecoderReferenceNumber(digits=self.digits[len(self.issuer_identification_number.digits) : -1])


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplyGroupCode:
    """SGC: six decimal digits; names a group of meters that share a vending key."""

    digits: str

    def __post_init__(self) -> None:
        if not is_decimal(self.digits, 6):
            raise errors.InvalidSupplyGroupCode("an SGC has six decimal digits")

    def __int__(self) -> int:
        return int(self.digits)


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffIndex:
    """TI: two decimal digits. Digits enter the key derivation, the 8-bit number enters key-change tokens."""

    digits: str

    def __post_init__(self) -> None:
        if not is_decimal(self.digits, 2):
            raise errors.InvalidTariffIndex("a TI has two decimal digits")

    def __int__(self) -> int:
        return int(self.digits)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRevisionNumber:
    """KRN: 1 to 9, cyclic; names the vending key within a supply group."""

    number: int

    def __post_init__(self) -> None:
        if isinstance(self.number, bool) or not isinstance(self.number, int) or not 1 <= self.number <= 9:
            raise errors.InvalidKeyRevisionNumber("a KRN is 1 to 9")

    def __int__(self) -> int:
        return self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyExpiryNumber:
    """KEN: 0 to 255, in steps of 65536 minutes of the token identifier; 255 never expires."""

    number: int

    def __post_init__(self) -> None:
        if isinstance(self.number, bool) or not isinstance(self.number, int) or not 0 <= self.number <= 255:
            raise errors.InvalidKeyExpiryNumber("a KEN is 0 to 255")

    def __int__(self) -> int:
        return self.number

    def is_expired_at(self, token_identifier: int) -> bool:
        """Tell whether a token with this TID (0 to 2^24 - 1) comes after the key's expiry (clause 6.1.10)."""
        return self.number != 255 and token_identifier >> 16 > self.number


class KeyType(enum.IntEnum):
    """KT: what a decoder key is for (clause 6.5.2)."""

    INITIALISATION = 0
    DEFAULT = 1
    UNIQUE = 2
    COMMON = 3

    @classmethod
    def from_number(cls, number: int) -> KeyType:
        """Return the key type, or raise InvalidKeyType."""
        try:
            return cls(number)
        except ValueError:
            raise errors.InvalidKeyType("a KT is 0 to 3") from None


class EncryptionAlgorithm(enum.IntEnum):
    """EA: the cipher of the token. EA09 (DES) is refused by name."""

    STA = 7
    MISTY1 = 11

    @classmethod
    def from_number(cls, number: int) -> EncryptionAlgorithm:
        """Return the algorithm; raise WithdrawnEncryptionAlgorithm for 9, UnknownEncryptionAlgorithm otherwise."""
        if number == 9:
            raise errors.WithdrawnEncryptionAlgorithm("EA09 (DES) was withdrawn in 2018 and is not supported")
        try:
            return cls(number)
        except ValueError:
            raise errors.UnknownEncryptionAlgorithm("an EA is 7 or 11") from None

    @property
    def decoder_key_bits(self) -> int:
        """64 or 128."""
        return 64 if self is EncryptionAlgorithm.STA else 128

    @property
    def code(self) -> str:
        """Two digits, as in the derivation block."""
        return f"{self.value:02d}"


class DecoderKeyGenerationAlgorithm(enum.IntEnum):
    """DKGA: how a decoder key comes from a vending key. DKGA01 and DKGA03 are refused by name."""

    DKGA02 = 2
    DKGA04 = 4

    @classmethod
    def from_number(cls, number: int) -> DecoderKeyGenerationAlgorithm:
        """Return the algorithm; raise WithdrawnDecoderKeyGenerationAlgorithm for 1 and 3, Unknown… otherwise."""
        if number in (1, 3):
            raise errors.WithdrawnDecoderKeyGenerationAlgorithm(f"DKGA{number:02d} is not supported")
        try:
            return cls(number)
        except ValueError:
            raise errors.UnknownDecoderKeyGenerationAlgorithm("a DKGA is 2 or 4") from None

    @property
    def code(self) -> str:
        """Two digits, as in the derivation block."""
        return f"{self.value:02d}"

    @property
    def vending_key_octets(self) -> int:
        """Length of the vending key: 8 (DES) or 20 (160 bits)."""
        return 8 if self is DecoderKeyGenerationAlgorithm.DKGA02 else 20

    def require_goes_with(self, ea: EncryptionAlgorithm) -> None:
        """Raise AlgorithmMismatch unless this DKGA can make a decoder key for ``ea``."""
        if ea is EncryptionAlgorithm.MISTY1 and self is not DecoderKeyGenerationAlgorithm.DKGA04:
            raise errors.AlgorithmMismatch("EA11 needs DKGA04")


class TokenCarrierType(enum.IntEnum):
    """TCT: how a token reaches the meter (clause 6.1.3)."""

    MAGNETIC_CARD = 1
    NUMERIC = 2
    LEGACY_3 = 3
    LEGACY_4 = 4
    LEGACY_5 = 5
    LEGACY_6 = 6
    VIRTUAL = 7

    @classmethod
    def from_number(cls, number: int) -> TokenCarrierType:
        """Return the carrier type, or raise InvalidTokenCarrierType."""
        try:
            return cls(number)
        except ValueError:
            raise errors.InvalidTokenCarrierType("a TCT is 01 to 07") from None
