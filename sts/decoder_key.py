"""The decoder key of a meter: 64 bits for EA07, 128 bits for EA11. Its repr shows no octet."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from sts import errors
from sts.identifiers import EncryptionAlgorithm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecoderKey:
    """A decoder key with the algorithm it is for.

    Args:
        octets: most significant first; 8 for EA07, 16 for EA11.
        ea: the encryption algorithm.

    Raises:
        DecoderKeyInvalid: the length does not fit.
    """

    octets: bytes
    ea: EncryptionAlgorithm

    def __post_init__(self) -> None:
        if len(self.octets) * 8 != self.ea.decoder_key_bits:
            raise errors.DecoderKeyInvalid(f"EA{self.ea.code} takes a key of {self.ea.decoder_key_bits} bits")

    def __repr__(self) -> str:
        return f"DecoderKey(octets=<redacted>, ea={self.ea!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DecoderKey):
            return NotImplemented
        return self.ea is other.ea and hmac.compare_digest(self.octets, other.octets)

    def __hash__(self) -> int:
        return hash((self.octets, self.ea))
