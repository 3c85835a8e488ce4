"""Encryption of stored answers: whoever reads the database, a backup or a disk learns no token digits.

AES-256-GCM. The key file is a credential of the appliance, not of the database: several appliances on one ledger hold
the same file, so that each can repeat the answers of the others. Each answer is bound to its client, request id and
fingerprint: moved to another row, it does not open.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.errors import AnswerUnreadable, ConfigurationInvalid

_NONCE_LENGTH = 12
_LINE = re.compile(r"([1-9][0-9]{0,3}) ([0-9a-f]{64})")


def _context(client: str, request_id: bytes, fingerprint: bytes) -> bytes:
    return b"keywatt-answer/1" + request_id + fingerprint + client.encode()


class AnswerCipher:
    """Seals with the last key of its file, opens with any.

    Args:
        keys: by number, 32 octets each; the last one seals.
        path: the file, which is read again when an answer names a key that was not in it at the start.
    """

    def __init__(self, keys: dict[int, bytes], path: Path | None = None) -> None:
        self._ciphers = {number: AESGCM(key) for number, key in keys.items()}
        self._current = list(keys)[-1]
        self._path = path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a key file: lines of a number and 64 hexadecimal digits; raises ConfigurationInvalid.

        Refused if others than its owner and group may touch it.
        """
        try:
            if path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP):
                raise ConfigurationInvalid(f"{path}: the ledger key must be closed to others: mode 0600 or 0640")
            lines = path.read_text("ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationInvalid(f"{path}: {type(error).__name__}: no ledger key can be read") from None
        keys: dict[int, bytes] = {}
        for line in lines:
            match = _LINE.fullmatch(line.strip())
            if match is None or int(match[1]) in keys:
                raise ConfigurationInvalid(f"{path}: each line is a new number, a blank and 64 hexadecimal digits")
            keys[int(match[1])] = bytes.fromhex(match[2])
        if not keys:
            raise ConfigurationInvalid(f"{path}: no ledger key in it")
        return cls(keys, path)

    @staticmethod
    def add_key(path: Path) -> int:
        """Append a new key, which seals from the next start on; make the file if there is none. Return its number."""
        text = path.read_text("ascii") if path.exists() else ""
        number = max((int(line.split()[0]) for line in text.splitlines()), default=0) + 1
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a") as file:
            file.write(f"{number} {secrets.token_hex(32)}\n")
            file.flush()
            os.fsync(file.fileno())
        return number

    @property
    def current(self) -> int:
        """Number of the key that seals."""
        return self._current

    @staticmethod
    def nonces(count: int) -> list[bytes]:
        """Draw nonces for a batch: asking the kernel once for each takes longer than the cipher."""
        octets = os.urandom(_NONCE_LENGTH * count)
        return [octets[start : start + _NONCE_LENGTH] for start in range(0, len(octets), _NONCE_LENGTH)]

    def seal(self, nonce: bytes, answer: bytes, client: str, request_id: bytes, fingerprint: bytes) -> bytes:
        """Return nonce and ciphertext; a nonce is used once."""
        context = _context(client, request_id, fingerprint)
        return nonce + self._ciphers[self._current].encrypt(nonce, answer, context)

    def open(self, number: int, sealed: bytes, client: str, request_id: bytes, fingerprint: bytes) -> bytes:
        """Return the answer; raises AnswerUnreadable if its key is not here, or if it was altered."""
        if number not in self._ciphers and self._path is not None:
            # An appliance of the same ledger has started with a newer file.
            self._ciphers = self.read(self._path)._ciphers | self._ciphers  # noqa: SLF001 - one of ours
        cipher = self._ciphers.get(number)
        if cipher is None:
            raise AnswerUnreadable(f"the answer is sealed with ledger key {number}, which is not in the key file")
        try:
            context = _context(client, request_id, fingerprint)
            return cipher.decrypt(sealed[:_NONCE_LENGTH], sealed[_NONCE_LENGTH:], context)
        except InvalidTag:
            raise AnswerUnreadable("a stored answer does not open: it, or the row it stands in, was altered") from None
