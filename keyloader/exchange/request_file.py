"""Request files: a module asks a key management centre for keys; format ``keywatt-key-request/1``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field

from hsm.ceremony_requests import transport_text
from hsm.status import Profile
from keyloader.errors import RequestFileInvalid
from keyloader.exchange.json_file import Hex, dump, load


class KeyRequest(BaseModel):
    """A request: the public half of the transport key, and the audit key's word that the module made it.

    Args:
        module, serial: of the module and its token.
        profile: production or development; a centre must not send real keys to the second.
        transport: uncompressed point on P-384.
        audit_key: public; a centre compares it with the one in the record of the initialisation.
        signature: Ed25519, over :func:`hsm.ceremony_requests.transport_text`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    format: Literal["keywatt-key-request/1"] = "keywatt-key-request/1"
    module: Annotated[str, Field(pattern=r"^[!-~]{1,64}$")]
    serial: Annotated[str, Field(pattern=r"^[ -~]{1,16}$")]
    profile: Literal["development", "production"]
    transport: Annotated[Hex, Field(min_length=194, max_length=194)]
    audit_key: Annotated[Hex, Field(min_length=64, max_length=64)]
    signature: Annotated[Hex, Field(min_length=128, max_length=128)]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a request; raises RequestFileInvalid. Nothing of it is proven yet."""
        return load(cls, path, RequestFileInvalid)

    def pack(self) -> bytes:
        """Return the file."""
        return dump(self)

    def verify(self, audit_key: bytes) -> None:
        """See that the module whose audit key is trusted has made the transport key; raises RequestFileInvalid."""
        if bytes.fromhex(self.audit_key) != audit_key:
            raise RequestFileInvalid("the request names another audit key than the one that is trusted")
        profile = Profile[self.profile.upper()]
        text = transport_text(self.module, self.serial, profile, bytes.fromhex(self.transport))
        try:
            Ed25519PublicKey.from_public_bytes(audit_key).verify(bytes.fromhex(self.signature), text.encode())
        except InvalidSignature:
            raise RequestFileInvalid("the audit key has not signed this transport key") from None
