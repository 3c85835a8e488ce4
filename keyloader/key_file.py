"""Development key files: vending keys in clear, in TOML. The module takes them in the development profile only.

Each ``[[key]]`` has supply_group_code, key_revision_number, key_type, dkga, base_date, key_expiry_number, key (hex),
and optionally activation and issued_until (naive local times), allowed_classes and key_change.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from hsm.ceremony_requests import KeySource, LoadKeyItem
from keyloader.errors import KeyFileInvalid
from keyloader.key_attributes import KeyAttributes

T = TypeVar("T")


class KeyEntry(KeyAttributes):
    """One vending key in clear. Its repr shows no key."""

    key: SecretStr

    @property
    def attributes(self) -> KeyAttributes:
        """Everything but the key."""
        return KeyAttributes(**{name: getattr(self, name) for name in KeyAttributes.model_fields})

    @property
    def octets(self) -> bytes:
        """The key; raises ValueError if it is no hexadecimal."""
        return bytes.fromhex(self.key.get_secret_value())

    def with_key(self) -> LoadKeyItem:
        """Return the request that loads this key; raises ValueError if it is no hexadecimal."""
        return self.item(KeySource.ITEM, key=self.octets)


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    key: Annotated[list[KeyEntry], Field(min_length=1)]


def read(path: Path) -> list[LoadKeyItem]:
    """Read a development key file. Raises as :func:`parse`."""
    return parse(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileInvalid(f"{path}: {error}") from None


def entries(path: Path) -> list[KeyEntry]:
    """Read the entries of a development key file, each with a key that is hexadecimal. Raises as :func:`parse`."""
    found = _entries(_text(path), str(path))
    for number, entry in enumerate(found, 1):
        _guarded(entry, str(path), number, lambda entry: entry.octets)
    return found


def parse(text: str, path: str) -> list[LoadKeyItem]:
    """Read the text of a development key file; ``path`` is how messages call it.

    Raises:
        KeyFileInvalid: with the number of the entry and the field, never with its value.
    """
    return [_guarded(entry, path, number, KeyEntry.with_key) for number, entry in enumerate(_entries(text, path), 1)]


def _guarded(entry: KeyEntry, path: str, number: int, work: Callable[[KeyEntry], T]) -> T:
    try:
        return work(entry)
    except ValueError:
        raise KeyFileInvalid(f"{path}: key {number}: the key must be hexadecimal digits") from None


def _entries(text: str, path: str) -> list[KeyEntry]:
    try:
        document: dict[str, Any] = tomllib.loads(text)
        return _KeyFile.model_validate(document).key
    except tomllib.TOMLDecodeError as error:
        raise KeyFileInvalid(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"])
        raise KeyFileInvalid(f"{path}: {field}: {first['msg']}") from None
