"""Vending keys as the module shows them: the record on the key, never the key."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from hsm.errors import RecordInvalid
from hsm.requests import CheckValueAlgorithm
from sts.errors import StsError
from sts.identifiers import (
    DecoderKeyGenerationAlgorithm,
    KeyExpiryNumber,
    KeyRevisionNumber,
    KeyType,
    SupplyGroupCode,
)
from sts.token_identifier import BaseDate

_DATE = r"(?:-|\d{4}-\d\d-\d\dT\d\d:\d\d)"
_RECORD = re.compile(
    rf"keywatt-vk/[12] sgc=(?P<sgc>\d{{6}}) krn=(?P<krn>\d) kt=(?P<kt>\d) dkga=(?P<dkga>\d\d) bdt=(?P<bdt>\d\d)"
    rf" ken=(?P<ken>\d{{1,3}}) act=(?P<act>{_DATE}) iut=(?P<iut>{_DATE}) c0=(?P<c0>[0-9a-f]{{4}})"
    rf" c2=(?P<c2>[0-9a-f]{{4}}) kc=(?P<kc>[01])"
    rf"(?: rfr=(?P<rfr>{_DATE}) ulm=(?P<ulm>\d{{1,15}}) clm=(?P<clm>\d{{1,15}}))?"
    rf" origin=(?P<origin>ceremony|development|public)"
    rf" kcv=(?P<kcv>[0-9a-f]{{6}})(?P<retired> state=retired)?"
)


class Origin(enum.Enum):
    """Where a key comes from; all but CEREMONY are test keys, and say so for ever."""

    CEREMONY = "ceremony"
    DEVELOPMENT = "development"
    PUBLIC = "public"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReference:
    """How a caller names a vending key: supply group and revision."""

    supply_group_code: SupplyGroupCode
    key_revision_number: KeyRevisionNumber

    def __hash__(self) -> int:
        # Asked for every token; the generated one asks each part in turn.
        return hash((self.supply_group_code.digits, self.key_revision_number.number))

    def __str__(self) -> str:
        return f"{self.supply_group_code.digits}/{self.key_revision_number.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VendingKey:
    """The record of a vending key.

    Args:
        activation, issued_until, refresh_until: naive times in the system's zone, or None.
        unit_limit, currency_limit: the most that a token may grant, in least significant bits; 0 for no limit.
        is_retired: it issues nothing any more, and no meter is changed to it.
        class0, class2: allowed subclasses, bit n for subclass n.
        key_change: whether the key may take part in key changes.
        check_value: three octets, computed as ``check_value_algorithm`` says.
    """

    reference: KeyReference
    key_type: KeyType
    dkga: DecoderKeyGenerationAlgorithm
    base_date: BaseDate
    key_expiry_number: KeyExpiryNumber
    activation: datetime | None
    issued_until: datetime | None
    class0: int
    class2: int
    key_change: bool
    origin: Origin
    check_value: bytes
    check_value_algorithm: CheckValueAlgorithm
    refresh_until: datetime | None = None
    unit_limit: int = 0
    currency_limit: int = 0
    is_retired: bool = False

    @property
    def is_test_key(self) -> bool:
        """True for every key that no production ceremony loaded."""
        return self.origin is not Origin.CEREMONY

    def allows(self, token_class: int, subclass: int) -> bool:
        """Tell whether the record allows a class and subclass; the module decides, this only informs."""
        mask = {0: self.class0, 2: self.class2}.get(token_class, 0)
        return bool(mask >> subclass & 1)

    @classmethod
    def from_label(cls, label: str) -> Self:
        """Parse the label of a key as the module shows it; raises RecordInvalid."""
        match = _RECORD.fullmatch(label)
        if match is None:
            raise RecordInvalid("the module shows a key record that this version does not know")
        dkga = int(match["dkga"])
        try:
            return cls(
                reference=KeyReference(
                    supply_group_code=SupplyGroupCode(digits=match["sgc"]),
                    key_revision_number=KeyRevisionNumber(number=int(match["krn"])),
                ),
                key_type=KeyType.from_number(int(match["kt"])),
                dkga=DecoderKeyGenerationAlgorithm.from_number(dkga),
                base_date=BaseDate.from_number(int(match["bdt"])),
                key_expiry_number=KeyExpiryNumber(number=int(match["ken"])),
                activation=_date(match["act"]),
                issued_until=_date(match["iut"]),
                class0=int(match["c0"], 16),
                class2=int(match["c2"], 16),
                key_change=match["kc"] == "1",
                origin=Origin(match["origin"]),
                check_value=bytes.fromhex(match["kcv"]),
                check_value_algorithm=(
                    CheckValueAlgorithm.SHA256_01_KEY if dkga == 4 else CheckValueAlgorithm.DES_ENCRYPT_ZEROS
                ),
                refresh_until=_date(match["rfr"] or "-"),
                unit_limit=int(match["ulm"] or 0),
                currency_limit=int(match["clm"] or 0),
                is_retired=match["retired"] is not None,
            )
        except (StsError, ValueError) as error:
            raise RecordInvalid("the module shows a key record with a value that does not exist") from error


def _date(text: str) -> datetime | None:
    return None if text == "-" else datetime.fromisoformat(text)
