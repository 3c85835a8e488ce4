"""Any token, from typed value to 20 digits and back, under a decoder key (IEC 62055-41, clauses 6.2 and 6.4).

This is the reference path for the virtual meter, tests and tools; real tokens are made in the module.
"""

from __future__ import annotations

from sts import errors
from sts.ciphers import decrypt_block, encrypt_block
from sts.ciphers.sta_tables import SAMPLE_TABLES, StaTables
from sts.credit import CreditSubClass, TransferCredit, TransferCurrencyCredit
from sts.decoder_key import DecoderKey
from sts.frame import Frame
from sts.identifiers import EncryptionAlgorithm
from sts.key_change import KeyChangeSection, decode_section
from sts.management import KEY_CHANGE_SUBCLASSES, ManagementToken, decode_management
from sts.meter_test import InitiateMeterTest
from sts.token_number import TokenNumber

Token = TransferCredit | TransferCurrencyCredit | InitiateMeterTest | ManagementToken | KeyChangeSection


def encode(token: Token, key: DecoderKey | None, tables: StaTables = SAMPLE_TABLES) -> TokenNumber:
    """Make the token number; class 1 takes no key, every other class needs one.

    Raises:
        DecoderKeyInvalid: no key for a token that is encrypted.
    """
    return encode_frame(token.frame, key, tables)


def encode_frame(frame: Frame, key: DecoderKey | None, tables: StaTables = SAMPLE_TABLES) -> TokenNumber:
    """Make the token number of a bare frame; as :func:`encode`."""
    block = frame.block
    if frame.token_class != 1:
        if key is None:
            raise errors.DecoderKeyInvalid("a token of class 0 or 2 needs a decoder key")
        block = encrypt_block(key, block, tables)
    return TokenNumber.from_block(token_class=frame.token_class, block=block)


def decode_number(number: TokenNumber, key: DecoderKey | None, tables: StaTables = SAMPLE_TABLES) -> Frame:
    """Decrypt and authenticate a token number.

    Raises:
        ReservedTokenClass: class 3.
        CRCMismatch: not for this key, or a digit is wrong.
        DecoderKeyInvalid: no key for a token that is encrypted.
    """
    token_class, block = number.token_class, number.block
    if token_class == 3:
        raise errors.ReservedTokenClass("class 3 is reserved")
    if token_class != 1:
        if key is None:
            raise errors.DecoderKeyInvalid("a token of class 0 or 2 needs a decoder key")
        block = decrypt_block(key, block, tables)
    return Frame.from_block(token_class=token_class, block=block)


def decode_frame(frame: Frame, ea: EncryptionAlgorithm) -> Token:
    """Turn an authentic frame into its typed token.

    Raises:
        ReservedTokenClass, ReservedSubClass: the standard reserves it.
        StsError: a field that the standard does not allow.
    """
    match frame.token_class:
        case 0:
            if CreditSubClass.from_number(frame.subclass).is_currency:
                return TransferCurrencyCredit.from_frame(frame)
            return TransferCredit.from_frame(frame)
        case 1:
            return InitiateMeterTest.from_frame(frame)
        case 2 if frame.subclass in KEY_CHANGE_SUBCLASSES:
            return decode_section(frame, ea)
        case 2:
            return decode_management(frame)
        case _:
            raise errors.ReservedTokenClass("class 3 is reserved")


def decode(number: TokenNumber, key: DecoderKey, tables: StaTables = SAMPLE_TABLES) -> Token:
    """Decrypt, authenticate and type a token. Raises as :func:`decode_number` and :func:`decode_frame`."""
    return decode_frame(decode_number(number, key, tables), key.ea)
