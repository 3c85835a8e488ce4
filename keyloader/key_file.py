"""Development key files: vending keys in clear, in TOML. The module takes them in the development profile only.

Each ``[[key]]`` has supply_group_code, key_revision_number, key_type, dkga, base_date, key_expiry_number, key (hex),
and optionally activation and issued_until (naive local times), allowed_classes and key_change.
"""

from __future__ import annotations

import re
import tomllib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from hsm.requests import LoadKeyItem
from keyloader.errors import KeyFileInvalid
from sts.errors import StsError
from sts.identifiers import (
    DecoderKeyGenerationAlgorithm,
    KeyExpiryNumber,
    KeyRevisionNumber,
    KeyType,
    SupplyGroupCode,
)
from sts.token_identifier import BaseDate

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - times of a record are naive, in the system's zone
_SUBCLASSES = {0: range(8), 2: (0, 1, 2, 5, 6, 7, 10, 11, 12, 13, 14, 15)}
_CLASS = re.compile(r"(?P<cls>[02])(?:\.(?P<first>\d{1,2})(?:-(?P<last>\d{1,2}))?)?")


def class_masks(entries: list[str]) -> tuple[int, int]:
    """Turn entries like ``"0"``, ``"2.1"`` or ``"2.11-15"`` into the masks of class 0 and class 2.

    Raises:
        ValueError: an entry that names no class, or a subclass that cannot be issued.
    """
    masks = {0: 0, 2: 0}
    for entry in entries:
        match = _CLASS.fullmatch(entry)
        if match is None:
            raise ValueError(f"{entry!r} is none of the form 0, 2.1 or 2.11-15")
        token_class = int(match["cls"])
        allowed = _SUBCLASSES[token_class]
        if match["first"] is None:
            wanted = list(allowed)
        else:
            first = int(match["first"])
            wanted = list(range(first, int(match["last"] or first) + 1))
        if not wanted or not set(wanted) <= set(allowed):
            raise ValueError(f"{entry!r} names a subclass that cannot be issued")
        for subclass in wanted:
            masks[token_class] |= 1 << subclass
    return masks[0], masks[2]


class KeyEntry(BaseModel):
    """One vending key in clear. Its repr shows no key."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    supply_group_code: str
    key_revision_number: int
    key_type: int
    dkga: int
    base_date: int
    key_expiry_number: int
    key: SecretStr
    activation: datetime | None = None
    issued_until: datetime | None = None
    allowed_classes: Annotated[list[str], Field(min_length=1)] = ["0", "2"]
    key_change: bool = True

    @field_validator("allowed_classes")
    @classmethod
    def _check_classes(cls, entries: list[str]) -> list[str]:
        class_masks(entries)
        return entries

    @field_validator("activation", "issued_until")
    @classmethod
    def _check_date(cls, moment: datetime | None) -> datetime | None:
        if moment is not None and (moment.tzinfo is not None or moment.second or moment.microsecond):
            raise ValueError("give a local time to the minute, without a zone")
        return moment

    def item(self) -> LoadKeyItem:
        """Return the request that loads this key.

        Raises:
            StsError: an identifier that the standard does not allow.
            ValueError: the key is no hexadecimal.
        """
        class0, class2 = class_masks(self.allowed_classes)
        key_type = KeyType.from_number(self.key_type)
        return LoadKeyItem(
            supply_group_code=SupplyGroupCode(digits=self.supply_group_code).digits,
            key_revision_number=KeyRevisionNumber(number=self.key_revision_number).number,
            key_type=key_type,
            dkga=DecoderKeyGenerationAlgorithm.from_number(self.dkga),
            base_date=BaseDate.from_number(self.base_date),
            key_expiry_number=KeyExpiryNumber(number=self.key_expiry_number).number,
            key_change=self.key_change,
            # A default key never carries credit: what the default of the field says must not stop its loading.
            class0=0 if key_type is KeyType.DEFAULT else class0,
            class2=class2,
            activation=_minutes(self.activation),
            issued_until=_minutes(self.issued_until),
            key=bytes.fromhex(self.key.get_secret_value()),
        )


def _minutes(moment: datetime | None) -> int:
    return 0 if moment is None else (moment - _EPOCH) // timedelta(minutes=1)


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    key: Annotated[list[KeyEntry], Field(min_length=1)]


def read(path: Path) -> list[LoadKeyItem]:
    """Read a development key file. Raises as :func:`parse`."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileInvalid(f"{path}: {error}") from None
    return parse(text, str(path))


def parse(text: str, path: str) -> list[LoadKeyItem]:
    """Read the text of a development key file; ``path`` is how messages call it.

    Raises:
        KeyFileInvalid: with the number of the entry and the field, never with its value.
    """
    try:
        document: dict[str, Any] = tomllib.loads(text)
        entries = _KeyFile.model_validate(document).key
    except tomllib.TOMLDecodeError as error:
        raise KeyFileInvalid(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"])
        raise KeyFileInvalid(f"{path}: {field}: {first['msg']}") from None
    items = []
    for number, entry in enumerate(entries, 1):
        try:
            items.append(entry.item())
        except StsError as error:
            raise KeyFileInvalid(f"{path}: key {number}: {error}") from None
        except ValueError:
            raise KeyFileInvalid(f"{path}: key {number}: the key must be hexadecimal digits") from None
    return items
