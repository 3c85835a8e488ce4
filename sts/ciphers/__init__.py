"""Reference ciphers in Python: EA07 (STA) and EA11 (MISTY1).

Lives here: what the virtual meter decrypts with and what the C code is checked against.
Does not live here: anything that issues tokens; real tokens are made inside the functionality module.
"""

from __future__ import annotations

from sts.ciphers import misty1, sta
from sts.ciphers.sta_tables import SAMPLE_TABLES, StaTables
from sts.decoder_key import DecoderKey
from sts.identifiers import EncryptionAlgorithm

__all__ = ["decrypt_block", "encrypt_block"]


def encrypt_block(key: DecoderKey, block: int, tables: StaTables = SAMPLE_TABLES) -> int:
    """Encrypt a 64-bit block with the algorithm of the key."""
    if key.ea is EncryptionAlgorithm.STA:
        return sta.encrypt(int.from_bytes(key.octets, "big"), block, tables)
    return misty1.encrypt(key.octets, block)


def decrypt_block(key: DecoderKey, block: int, tables: StaTables = SAMPLE_TABLES) -> int:
    """Decrypt a 64-bit block with the algorithm of the key."""
    if key.ea is EncryptionAlgorithm.STA:
        return sta.decrypt(int.from_bytes(key.octets, "big"), block, tables)
    return misty1.decrypt(key.octets, block)
