"""Attributes of a vending key as plans state them: everything but the key."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hsm.ceremony_requests import KeySource, LoadKeyItem
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


class KeyAttributes(BaseModel):
    """What a vending key is for.

    Args:
        supply_group_code, key_revision_number, key_type, dkga, base_date, key_expiry_number: as in the standard;
            ``base_date`` is 93, 14, 35 or 55.
        activation, issued_until: naive local times to the minute.
        refresh_until: until when it may be used unless its centre sends it again; as above.
        unit_limit, currency_limit: the most that one token may grant, as decimals: kWh, m3 or minutes to one place,
            base currency to five.
        allowed_classes: such as ``0``, ``2.1`` or ``2.11-15``.
        key_change: whether it may take part in key changes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    supply_group_code: str
    key_revision_number: int
    key_type: int
    dkga: int
    base_date: int
    key_expiry_number: int
    activation: datetime | None = None
    issued_until: datetime | None = None
    refresh_until: datetime | None = None
    unit_limit: Annotated[str, Field(pattern=r"^\d{1,14}(\.\d)?$")] | None = None
    currency_limit: Annotated[str, Field(pattern=r"^\d{1,10}(\.\d{1,5})?$")] | None = None
    allowed_classes: Annotated[list[str], Field(min_length=1)] = ["0", "2"]
    key_change: bool = True

    @field_validator("allowed_classes")
    @classmethod
    def _check_classes(cls, entries: list[str]) -> list[str]:
        class_masks(entries)
        return entries

    @field_validator("activation", "issued_until", "refresh_until")
    @classmethod
    def _check_date(cls, moment: datetime | None) -> datetime | None:
        if moment is not None and (moment.tzinfo is not None or moment.second or moment.microsecond):
            raise ValueError("give a local time to the minute, without a zone")
        return moment

    @model_validator(mode="after")
    def _check_identifiers(self) -> KeyAttributes:
        try:
            self.item(KeySource.GENERATE)
        except StsError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def name(self) -> str:
        """SGC/KRN."""
        return f"{self.supply_group_code}/{self.key_revision_number}"

    @property
    def key_length(self) -> int:
        """Octets of the key: 20 for DKGA04, 8 for DKGA02."""
        return 20 if self.dkga == 4 else 8

    def record_text(self, check_value: str) -> str:
        """Return the record of a key from ``sgc=`` to ``kcv=``, as key blocks and labels have it (without origin)."""
        item = self.item(KeySource.GENERATE)
        return (
            f"sgc={item.supply_group_code} krn={item.key_revision_number} kt={int(item.key_type)} dkga={item.dkga:02d}"
            f" bdt={item.base_date:02d} ken={item.key_expiry_number} act={_moment(self.activation)}"
            f" iut={_moment(self.issued_until)} c0={item.class0:04x} c2={item.class2:04x} kc={item.key_change:d}"
            f" rfr={_moment(self.refresh_until)} ulm={item.unit_limit} clm={item.currency_limit}"
            f" kcv={check_value.lower()}"
        )

    def item(
        self,
        source: KeySource,
        *,
        key: bytes = b"",
        expected: bytes = b"",
        components: int = 0,
        component_values: bytes = b"",
    ) -> LoadKeyItem:
        """Return the request that loads this key.

        Args:
            source: where the key is.
            key: the key, if it is in the item.
            expected: the check value that it must have, or empty.
            components: how many, if they are the source.
            component_values: check values of the components, or empty.

        Raises:
            StsError: an identifier that the standard does not allow.
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
            refresh_until=_minutes(self.refresh_until),
            unit_limit=_scaled(self.unit_limit, 1),
            currency_limit=_scaled(self.currency_limit, 5),
            key=key,
            source=source,
            expected=expected,
            components=components,
            component_values=component_values,
        )


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else moment.isoformat(timespec="minutes")


def _minutes(moment: datetime | None) -> int:
    return 0 if moment is None else (moment - _EPOCH) // timedelta(minutes=1)


def _scaled(limit: str | None, places: int) -> int:
    """Return a decimal in its least significant bits; the pattern of the field leaves no more places than fit."""
    return 0 if limit is None else int(Decimal(limit).scaleb(places))
