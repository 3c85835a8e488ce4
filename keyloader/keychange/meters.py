"""The meters of a campaign: a CSV file, read strictly, line by line."""

from __future__ import annotations

import csv
import io
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from keyloader.errors import CampaignInvalid
from sts.errors import StsError
from sts.identifiers import EncryptionAlgorithm, KeyRevisionNumber, MeterPAN, SupplyGroupCode, TariffIndex

_ERRORS_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterChange:
    """One meter: what it holds, and what it is to hold.

    Args:
        meter_pan: 18 digits, or a DRN as the standard allows.
        supply_group_code, key_revision_number, tariff_index, encryption_algorithm: what it holds; 7 or 11.
        new_supply_group_code, new_key_revision_number, new_tariff_index: what it is to hold.
    """

    meter_pan: str
    supply_group_code: str
    key_revision_number: int
    tariff_index: str
    encryption_algorithm: int
    new_supply_group_code: str
    new_key_revision_number: int
    new_tariff_index: str


COLUMNS = tuple(field.name for field in fields(MeterChange))


def _read(row: dict[str, str], before: Container[str]) -> MeterChange:
    """Read a line; raises StsError or ValueError."""
    if None in row or None in row.values():
        raise ValueError("a line has as many fields as the first one")
    pan = MeterPAN.parse(row["meter_pan"])
    if pan.digits in before:
        raise ValueError("this meter stands in a line before")
    return MeterChange(
        meter_pan=pan.digits,
        supply_group_code=SupplyGroupCode(digits=row["supply_group_code"]).digits,
        key_revision_number=KeyRevisionNumber(number=int(row["key_revision_number"])).number,
        tariff_index=TariffIndex(digits=row["tariff_index"]).digits,
        encryption_algorithm=EncryptionAlgorithm.from_number(int(row["encryption_algorithm"])).value,
        new_supply_group_code=SupplyGroupCode(digits=row["new_supply_group_code"]).digits,
        new_key_revision_number=KeyRevisionNumber(number=int(row["new_key_revision_number"])).number,
        new_tariff_index=TariffIndex(digits=row["new_tariff_index"]).digits,
    )


def parse(octets: bytes, name: str) -> list[MeterChange]:
    """Read a CSV file: a head with the columns of :class:`MeterChange`, in that order, then a line a meter.

    Raises:
        CampaignInvalid: with the first lines that are wrong, and what is wrong with each.
    """
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CampaignInvalid(f"{name}: a list of meters is UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise CampaignInvalid(f"{name}: the first line must be {','.join(COLUMNS)}")
        found, problems = _read_all(reader)
    except csv.Error as error:
        raise CampaignInvalid(f"{name}: line {reader.line_num}: {error}") from None
    if problems:
        raise CampaignInvalid(f"{name}: " + "; ".join(problems))
    if not found:
        raise CampaignInvalid(f"{name}: there is no meter in it")
    return found


def of_arguments(fields: Sequence[str]) -> MeterChange:
    """Return the change of one meter from its columns, in their order; raises CampaignInvalid."""
    try:
        return _read(dict(zip(COLUMNS, fields, strict=True)), ())
    except (StsError, ValueError) as error:
        raise CampaignInvalid(str(error)) from None


def _read_all(reader: csv.DictReader[str]) -> tuple[list[MeterChange], list[str]]:
    """Read every line, or until so many were wrong; return meters, and what is wrong."""
    found: dict[str, MeterChange] = {}
    problems: list[str] = []
    for row in reader:
        try:
            change = _read(row, found)
            found[change.meter_pan] = change
        except (StsError, ValueError) as error:
            problems.append(f"line {reader.line_num}: {error}")
        if len(problems) == _ERRORS_MAX:
            break
    return list(found.values()), problems


def read(path: Path) -> bytes:
    """Return the octets of a list; raises CampaignInvalid."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CampaignInvalid(f"{path}: {error.strerror}") from None


def chunks(changes: list[MeterChange], size: int) -> Iterator[list[MeterChange]]:
    """Give them in order, so many at a time."""
    for start in range(0, len(changes), size):
        yield changes[start : start + size]
