"""Key-load files: what a key management centre sends; format ``keywatt-key-load/1`` (docs/key-files.md).

Each key is wrapped for one transport key of one token, its attributes are bound to it, and the centre signs each key
and the whole file. The key loader reads and shows the file; it can open nothing of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hsm.ceremony_requests import KEY_LOAD_NAMESPACE, KeySource, LoadKeyItem, LoadWrappedItem, key_load_text
from hsm.errors import SignatureUnreadable
from hsm.ssh_signatures import OfficerKey, OfficerSignature
from keyloader.errors import KeyLoadFileInvalid
from keyloader.exchange.centre_key import CentreKey
from keyloader.exchange.json_file import Hex, canonical, canonical_of, dump, load
from keyloader.key_attributes import KeyAttributes

FILE_NAMESPACE = "key-file@keywatt.dev"
KEYS_MAX = 31
"""As many as one ceremony can load: it does 32 things, and ends the transport key."""


class WrappedKey(BaseModel):
    """One key.

    Args:
        attributes: what it is for; bound to the key.
        check_value: six hexadecimal digits, that the key must have.
        point: the centre's ephemeral point on P-384, uncompressed.
        wrapped: the key under AES key wrap with padding.
        signature: of the centre, over :func:`hsm.ceremony_requests.key_load_text`; Ed25519, 64 octets.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    attributes: KeyAttributes
    check_value: Annotated[str, Field(pattern=r"^[0-9A-F]{6}$")]
    point: Annotated[Hex, Field(min_length=194, max_length=194)]
    wrapped: Annotated[Hex, Field(min_length=32, max_length=64)]
    signature: Annotated[Hex, Field(min_length=128, max_length=128)]

    @property
    def load(self) -> LoadKeyItem:
        """The attributes as the module takes them."""
        return self.attributes.item(KeySource.WRAPPED, expected=bytes.fromhex(self.check_value))


class KeyLoadFile(BaseModel):
    """A file.

    Args:
        module, serial, transport: what it is for, as in the request.
        created: when, UTC; for people, and for the order of files.
        centre: name of the centre.
        centre_key: as in ``id_ed25519.pub``.
        keys: of different names.
        signature: of the centre over all of the above (``ssh-keygen -Y sign``, namespace ``key-file@keywatt.dev``).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    format: Literal["keywatt-key-load/1"] = "keywatt-key-load/1"
    module: Annotated[str, Field(pattern=r"^[!-~]{1,64}$")]
    serial: Annotated[str, Field(pattern=r"^[ -~]{1,16}$")]
    transport: Annotated[Hex, Field(min_length=194, max_length=194)]
    created: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    centre: Annotated[str, Field(pattern=r"^[!-~]([ -~]{0,30}[!-~])?$")]
    centre_key: CentreKey
    keys: Annotated[list[WrappedKey], Field(min_length=1, max_length=KEYS_MAX)]
    signature: str

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [key.attributes.name for key in self.keys]
        if len(set(names)) != len(names):
            raise ValueError("keys: a name stands twice")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file, and see that the centre it names has signed it; raises KeyLoadFileInvalid.

        Whether that centre may send keys is for the module to say, which knows those that were enrolled.
        """
        found = load(cls, path, KeyLoadFileInvalid)
        try:
            # As it stands in the file: what a centre leaves out, or writes otherwise than we do, is signed so.
            signed = canonical_of(path.read_bytes(), exclude="signature")
            is_signed = OfficerSignature.parse(found.signature).proves(found.key, FILE_NAMESPACE, signed)
        except (SignatureUnreadable, ValueError, TypeError, OSError):
            is_signed = False
        if not is_signed:
            raise KeyLoadFileInvalid(f"{path}: this is not as {found.centre} has signed it")
        return found

    @property
    def signed(self) -> bytes:
        """What the centre signs."""
        return canonical(self, exclude={"signature"})

    @property
    def key(self) -> OfficerKey:
        """Key of the centre."""
        return OfficerKey.parse(self.centre_key)

    @property
    def public(self) -> bytes:
        """The same, 32 octets."""
        return self.key.public

    def pack(self) -> bytes:
        """Return the file."""
        return dump(self)

    def item(self, key: WrappedKey) -> LoadWrappedItem:
        """Return what the module is asked to load."""
        return LoadWrappedItem(
            load=key.load,
            point=bytes.fromhex(key.point),
            wrapped=bytes.fromhex(key.wrapped),
            centre=self.public,
            signature=bytes.fromhex(key.signature),
        )

    def text_of(self, key: WrappedKey) -> bytes:
        """Return what the centre has signed of one key."""
        point, wrapped = bytes.fromhex(key.point), bytes.fromhex(key.wrapped)
        return key_load_text(self.module, self.serial, bytes.fromhex(self.transport), key.load, point, wrapped).encode()

    def require_signed(self) -> None:
        """See that each key is signed too, as the module will; raises KeyLoadFileInvalid."""
        for key in self.keys:
            signature = OfficerSignature(
                key=OfficerKey(public=self.public),
                namespace=KEY_LOAD_NAMESPACE,
                signature=bytes.fromhex(key.signature),
            )
            if not signature.proves(self.key, KEY_LOAD_NAMESPACE, self.text_of(key)):
                raise KeyLoadFileInvalid(f"key {key.attributes.name} is not as {self.centre} has signed it")
