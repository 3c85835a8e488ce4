"""Errors of the STS codecs: one class per reason, none of which a retry can help.

Every class carries a stable ``reason`` code (which reaches an API client unchanged) and a ``hint`` that
tells the operator what to do. Messages name fields and bounds, never token digits or key octets.
"""

from __future__ import annotations

from typing import ClassVar


class StsError(ValueError):
    """A value that the standard does not allow. Base of every error raised by :mod:`sts`."""

    reason: ClassVar[str] = "STS_INVALID"
    retryable: ClassVar[bool] = False
    hint: ClassVar[str] = "Correct the request; the same request will be refused again."


class InvalidIssuerIdentificationNumber(StsError):
    """The IIN is neither 600727 nor 0000."""

    reason = "IIN_INVALID"
    hint = "Use 600727 with an 11-digit DRN, or 0000 with a 13-digit DRN."


class InvalidDecoderReferenceNumber(StsError):
    """The DRN is not 11 or 13 decimal digits, or does not fit its IIN."""

    reason = "DRN_INVALID"
    hint = "Copy the meter number again; it has 11 or 13 digits."


class DecoderReferenceNumberCheckDigit(StsError):
    """The last digit of the DRN is not the Luhn digit of the others."""

    reason = "DRN_CHECK_DIGIT"
    hint = "A digit of the meter number was mistyped or two were swapped; copy it again."


class InvalidMeterPAN(StsError):
    """The meter PAN is not 18 decimal digits."""

    reason = "PAN_INVALID"
    hint = "Give the number on the meter (11 or 13 digits) or its PAN (18 digits), digits only."


class MeterPANCheckDigit(StsError):
    """The last digit of the meter PAN is not the Luhn digit of the 17 before it."""

    reason = "PAN_CHECK_DIGIT"
    hint = "A digit of the meter PAN was mistyped or two were swapped; copy it again."


class InvalidSupplyGroupCode(StsError):
    """The SGC is not six decimal digits."""

    reason = "SGC_INVALID"
    hint = "A supply group code has exactly six digits, leading zeros included."


class InvalidTariffIndex(StsError):
    """The TI is not two decimal digits."""

    reason = "TARIFF_INDEX_INVALID"
    hint = "A tariff index has exactly two digits, 00 to 99."


class InvalidKeyRevisionNumber(StsError):
    """The KRN is not 1 to 9."""

    reason = "KEY_REVISION_INVALID"
    hint = "A key revision number is 1 to 9."


class InvalidKeyType(StsError):
    """The KT is not 0 to 3."""

    reason = "KEY_TYPE_INVALID"
    hint = "Key types are 0 (initialisation), 1 (default), 2 (unique) and 3 (common)."


class InvalidKeyExpiryNumber(StsError):
    """The KEN is not 0 to 255."""

    reason = "KEY_EXPIRY_INVALID"
    hint = "A key expiry number is 0 to 255; 255 never expires."


class UnknownEncryptionAlgorithm(StsError):
    """The EA is none that the standard names."""

    reason = "EA_UNKNOWN"
    hint = "Use 7 (STA) or 11 (MISTY1)."


class WithdrawnEncryptionAlgorithm(StsError):
    """EA09 (DES), withdrawn in 2018 and not supported."""

    reason = "EA09_WITHDRAWN"
    hint = "EA09 was withdrawn in 2018; the meter needs EA07 or EA11."


class UnknownDecoderKeyGenerationAlgorithm(StsError):
    """The DKGA is none that the standard names."""

    reason = "DKGA_UNKNOWN"
    hint = "Use 2 (DES) or 4 (HMAC-SHA-256)."


class WithdrawnDecoderKeyGenerationAlgorithm(StsError):
    """DKGA01 (legacy) or DKGA03 (withdrawn in 2018), not supported."""

    reason = "DKGA_WITHDRAWN"
    hint = "DKGA01 and DKGA03 are not supported; use a vending key for DKGA02 or DKGA04."


class AlgorithmMismatch(StsError):
    """The EA and the DKGA do not go together (EA11 needs DKGA04)."""

    reason = "EA_DKGA_MISMATCH"
    hint = "EA07 goes with DKGA02 or DKGA04, EA11 with DKGA04 only."


class InvalidTokenCarrierType(StsError):
    """The TCT is not 01 to 07."""

    reason = "TCT_INVALID"
    hint = "Use 01 (magnetic card), 02 (keypad) or 07 (virtual token carrier)."


class InvalidBaseDate(StsError):
    """The base date is not 1993, 2014 or 2035."""

    reason = "BASE_DATE_INVALID"
    hint = "Base dates are 93, 14 and 35."


class TimeZoneMissing(StsError):
    """A time without a zone where one is demanded, or with one where a naive time is."""

    reason = "TIME_ZONE_MISSING"
    hint = "Give the time zone; the standard has none of its own."


class TimeOutOfRange(StsError):
    """The time is before the base date or beyond its last minute."""

    reason = "TIME_OUT_OF_RANGE"
    hint = "Use a vending key whose base date covers the time; see the message for why this one does not."


class InvalidTokenIdentifier(StsError):
    """The TID is not a 24-bit number."""

    reason = "TID_INVALID"
    hint = "A token identifier is 0 to 16777215 minutes."


class ReservedTokenIdentifier(StsError):
    """The TID falls on 00:01 of a day, which is reserved, and was not asked for as such."""

    reason = "TID_RESERVED"
    hint = "An ordinary token due at 00:01 takes 00:02; ask for the reserved identifier explicitly."


class AmountInvalid(StsError):
    """The amount is not an exact finite decimal number."""

    reason = "AMOUNT_INVALID"
    hint = "Give digits with at most one decimal point, as in 25.6."


class AmountZero(StsError):
    """A credit of zero."""

    reason = "AMOUNT_ZERO"
    hint = "A credit token must carry an amount."


class AmountNegative(StsError):
    """A negative amount where only currency credit may be negative."""

    reason = "AMOUNT_NEGATIVE"
    hint = "Only currency credit may be negative."


class AmountTooLarge(StsError):
    """The amount is above what the field can hold."""

    reason = "AMOUNT_TOO_LARGE"
    hint = "Split the amount over several tokens."


class AmountTooFine(StsError):
    """The amount has digits below the least significant bit of its field."""

    reason = "AMOUNT_TOO_FINE"
    hint = "Round to the unit of the field, or ask for rounding up."


class FieldOutOfRange(StsError):
    """A numeric field of a token is outside of its bits or its table."""

    reason = "FIELD_OUT_OF_RANGE"
    hint = "See the message for the field and its range."


class CRCMismatch(StsError):
    """The CRC of a block is wrong: another key, another meter, or mistyped digits."""

    reason = "CRC_MISMATCH"
    hint = "The token is not for this meter and key, or a digit is wrong."


class TokenNumberFormat(StsError):
    """The token number is not exactly 20 decimal digits."""

    reason = "TOKEN_NUMBER_FORMAT"
    hint = "A token number has exactly 20 digits; spaces and hyphens between groups of four are allowed."


class TokenNumberRange(StsError):
    """The token number is 2^66 or more."""

    reason = "TOKEN_NUMBER_RANGE"
    hint = "No token can have this number; a digit is wrong."


class ReservedTokenClass(StsError):
    """Class 3, reserved."""

    reason = "TOKEN_CLASS_RESERVED"
    hint = "Class 3 is reserved by the standard."


class ReservedSubClass(StsError):
    """A subclass that the standard reserves."""

    reason = "SUBCLASS_RESERVED"
    hint = "The subclass is reserved by the standard."


class KeyTypeTransition(StsError):
    """A key change between key types that the standard does not allow."""

    reason = "KEY_TYPE_TRANSITION"
    hint = "A unique key changes to a unique or default key, a default key likewise."


class KeyChangeSetInvalid(StsError):
    """A key-change set of a size that the EA does not know, or of tokens that do not belong together."""

    reason = "KEY_CHANGE_SET_INVALID"
    hint = "EA07 takes two or three key-change tokens, EA11 four."


class CommonKeyUnsettled(StsError):
    """A common decoder key (KT 3) for which public sources do not agree on the PAN."""

    reason = "COMMON_KEY_UNSETTLED"
    hint = "Common keys are supported for IIN 600727 under DKGA02 only."


class DecoderKeyInvalid(StsError):
    """A decoder key of a length that does not fit its EA."""

    reason = "DECODER_KEY_INVALID"
    hint = "EA07 takes 64 bits, EA11 128 bits."


class SubstitutionTablesInvalid(StsError):
    """STA tables that are not permutations of their ranges."""

    reason = "STA_TABLES_INVALID"
    hint = "Both substitutions must permute 0..15, the permutation 0..63."
