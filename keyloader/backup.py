"""Backups of a token store: the files of the token and its PIN, under a key that is shared among custodians.

An archive is a line of JSON, the head, and then AES-256-GCM over a tar of the files, with the head as its additional
data. The key comes from 128 bits by HKDF-SHA-256; Shamir's scheme (``Crypto.Protocol.SecretSharing``) makes the shares.
Only so many custodians as the plan says can open it, and whoever opens it has the token as whoever runs the module has.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from Crypto.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hsm.log.durable import flush_folder
from keyloader.errors import BackupInvalid
from keyloader.exchange.json_file import Hex

SHARE_LENGTH = 16
DRAFT = ".draft-"
"""What the name of an archive begins with until its record is written."""
_PIN_NAME = "pin"
_TOKENS = "tokens/"
_SIZE_MAX = 256 * 1024 * 1024
_HEAD_MAX = 16 * 1024


class BackupHead(BaseModel):
    """What anybody can read of a backup.

    Args:
        module, serial, audit_key: of the module and its token.
        store: name of the token store that was backed up.
        created: UTC.
        needed: how many shares open it.
        check_values: of the shares, in order, by :func:`share_check_value`.
        salt, nonce: of the encryption.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    format: Literal["keywatt-backup/1"] = "keywatt-backup/1"
    module: str
    serial: str
    audit_key: Hex
    store: str
    created: str
    needed: Annotated[int, Field(ge=2, le=16)]
    check_values: Annotated[list[str], Field(min_length=2, max_length=16)]
    salt: Annotated[Hex, Field(min_length=32, max_length=32)]
    nonce: Annotated[Hex, Field(min_length=24, max_length=24)]

    @property
    def line(self) -> bytes:
        """The head as it stands in the archive."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":")).encode() + b"\n"


def share_check_value(number: int, share: bytes) -> str:
    """Return six hexadecimal digits by which a share is known: SHA-256 over a label, its number and the share."""
    return hashlib.sha256(b"keywatt-backup-share/1" + bytes([number]) + share).hexdigest()[:6].upper()


def split(secret: bytes, needed: int, total: int) -> list[bytes]:
    """Share a secret of 16 octets: any ``needed`` of the shares give it, fewer say nothing of it."""
    return [bytes(share) for _, share in Shamir.split(needed, total, secret)]


def combine(shares: Mapping[int, bytes]) -> bytes:
    """Return the secret from shares by their numbers, from 1."""
    return bytes(Shamir.combine(list(shares.items())))


def _cipher(secret: bytes, head: BackupHead) -> AESGCM:
    kdf = HKDF(algorithm=SHA256(), length=32, salt=bytes.fromhex(head.salt), info=b"keywatt-backup/1")
    return AESGCM(kdf.derive(secret))


def seal(secret: bytes, head: BackupHead, tokens: Path, pin: str) -> bytes:
    """Return an archive of the files below ``tokens``."""
    octets = io.BytesIO()
    with tarfile.open(fileobj=octets, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(tokens.rglob("*")):
            if path.is_file():
                _add(archive, f"{_TOKENS}{path.relative_to(tokens)}", path.read_bytes())
        _add(archive, _PIN_NAME, pin.encode("ascii"))
    sealed = _cipher(secret, head).encrypt(bytes.fromhex(head.nonce), octets.getvalue(), head.line)
    return head.line + sealed


def _add(archive: tarfile.TarFile, name: str, octets: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(octets)
    archive.addfile(member, io.BytesIO(octets))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """An archive as it was read; ``sealed`` is everything after the head."""

    head: BackupHead
    sealed: bytes
    digest: bytes

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an archive; raises BackupInvalid. Nothing of it is proven before it is opened."""
        try:
            if path.stat().st_size > _SIZE_MAX:
                raise BackupInvalid(f"{path}: too large")
            octets = path.read_bytes()
        except OSError as error:
            raise BackupInvalid(f"{path}: {error.strerror}") from None
        line, _, sealed = octets.partition(b"\n")
        try:
            head = BackupHead.model_validate_json(line[:_HEAD_MAX])
        except ValidationError:
            raise BackupInvalid(f"{path}: this is no keywatt-backup/1") from None
        if head.line != line + b"\n" or head.needed > len(head.check_values):
            raise BackupInvalid(f"{path}: the head is not as a backup's is")
        return cls(head=head, sealed=sealed, digest=hashlib.sha256(octets).digest())

    def open(self, secret: bytes) -> tuple[dict[str, bytes], str]:
        """Return the files of the token, by their path in it, and the PIN; nothing of it is on the disk.

        Raises:
            BackupInvalid: the shares do not open it, or it holds what no backup holds.
        """
        try:
            octets = _cipher(secret, self.head).decrypt(bytes.fromhex(self.head.nonce), self.sealed, self.head.line)
        except InvalidTag:
            raise BackupInvalid("these shares do not open this backup") from None
        files: dict[str, bytes] = {}
        pin = ""
        with tarfile.open(fileobj=io.BytesIO(octets)) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is None:
                    raise BackupInvalid("the backup holds something that is no file")
                if member.name == _PIN_NAME:
                    pin = content.read().decode("ascii")
                    continue
                files[_inside(member.name)] = content.read()
        return files, pin

    def open_into(self, secret: bytes, tokens: Path) -> str:
        """Write the files below an empty folder; return the PIN. Raises as :meth:`open`."""
        files, pin = self.open(secret)
        for name, octets in files.items():
            path = tokens / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(octets)
        return pin


def _inside(name: str) -> str:
    """Return the path of a file within the token; raises BackupInvalid for one that leads out of it."""
    parts: Sequence[str] = name.removeprefix(_TOKENS).split("/")
    if not name.startswith(_TOKENS) or any(part in {"", ".", ".."} for part in parts):
        raise BackupInvalid("the backup holds a file outside the token")
    return "/".join(parts)


def give_name(draft: Path, path: Path) -> None:
    """Give an archive its name, durable; raises OSError, also if there is one of that name."""
    os.link(draft, path)
    draft.unlink()
    flush_folder(path.parent)


def recover(folder: Path, pending: Sequence[Mapping[str, Any]]) -> None:
    """Settle what a kill left: name archives whose record waits, remove those of ceremonies that came not so far.

    Args:
        folder: of the backups.
        pending: fields of the records that wait.

    Raises:
        OSError: of the folder.
    """
    written = {
        str(step["facts"].get("file")): str(step["facts"].get("sha256"))
        for fields in pending
        for step in fields["steps"]
    }
    for draft in folder.glob(f"{DRAFT}*.keywatt"):
        path = draft.with_name(draft.name.removeprefix(DRAFT))
        is_whole = path.name in written and hashlib.sha256(draft.read_bytes()).hexdigest() == written[path.name]
        if is_whole and not path.exists():
            give_name(draft, path)
        else:
            draft.unlink()
    for left in folder.glob(f"{DRAFT}*.new"):
        left.unlink()
