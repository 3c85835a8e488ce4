"""Key blocks of ANSI X9.143 (TR-31), version D, as a centre makes them; FOR TESTS and rehearsals, as ``centre`` is.

The module opens key blocks in C, apart from this; the tests hold both against a third implementation.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

_BLOCK = 16
_ENCRYPTION, _AUTHENTICATION = 0, 1


def _cmac(key: bytes, octets: bytes) -> bytes:
    mac = CMAC(algorithms.AES(key))
    mac.update(octets)
    return mac.finalize()


def _derive(block_key: bytes, usage: int) -> bytes:
    """CMAC in counter mode over usage, AES-256 and 256 bits."""
    return b"".join(_cmac(block_key, bytes([counter, 0, usage, 0, 0, 4, 1, 0])) for counter in (1, 2))


def _optional(attributes: str) -> str:
    """Return the attributes as optional block 41, and padding up to whole blocks of the cipher."""
    block = f"41{len(attributes) + 4:02X}{attributes}"
    padding = -len(block) % _BLOCK
    padding += _BLOCK if 0 < padding < 4 else 0
    return block + (f"PB{padding:02X}{'0' * (padding - 4)}" if padding else "")


def wrap(block_key: bytes, key: bytes, attributes: str, filler: bytes) -> str:
    """Return a key block.

    Args:
        block_key: AES-256.
        key: 20 octets for DKGA04, 8 for DKGA02.
        attributes: text of the key's record from ``sgc=`` to ``kcv=``, without origin.
        filler: random octets, as many as are needed at the most: 16.
    """
    optional = _optional(attributes)
    count = 2 if "PB" in optional[len(attributes) + 4 :] else 1
    clear = (len(key) * 8).to_bytes(2, "big") + key
    clear += filler[: -len(clear) % _BLOCK]
    length = _BLOCK + len(optional) + 2 * (len(clear) + _BLOCK)
    header = f"D{length:04d}41{'H' if len(key) == 20 else 'D'}X00N{count:02d}00{optional}"
    mac = _cmac(_derive(block_key, _AUTHENTICATION), header.encode("ascii") + clear)
    encryptor = Cipher(algorithms.AES(_derive(block_key, _ENCRYPTION)), modes.CBC(mac)).encryptor()
    return f"{header}{(encryptor.update(clear) + encryptor.finalize()).hex().upper()}{mac.hex().upper()}"
