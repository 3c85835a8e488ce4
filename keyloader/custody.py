"""Who brought each key into the token: from the sealed records of its ceremonies, as far as they are here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keyloader import record
from keyloader.errors import RecordInvalid

_LOADED = frozenset({"vending key loaded", "vending key generated"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Custody:
    """How a key came.

    Args:
        record: name of the record.
        time: UTC.
        approved_by: officers who approved.
        custodians: officers who entered a component, in order; empty if it came otherwise.
    """

    record: str
    time: str
    approved_by: tuple[str, ...]
    custodians: tuple[str, ...]


def of_keys(folder: Path, audit_key: bytes) -> dict[tuple[str, str], Custody]:
    """Return the last loading of each key, by SGC/KRN and check value (upper case).

    Another key may have had the name. Records that this audit key has not sealed are left out.
    """
    found: dict[tuple[str, str], Custody] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            verified = record.verify(record.read(path), audit_key)
        except RecordInvalid:
            continue
        if not verified.is_done or verified.fields["rehearsal"]:
            continue
        steps = verified.fields["steps"]
        entered = tuple(step["facts"]["officer"] for step in steps if step["what"] == "component entered")
        for step in steps:
            if step["what"] in _LOADED and "key" in step["facts"]:
                found[step["facts"]["key"], step["facts"]["check_value"]] = Custody(
                    record=path.name, time=step["time"], approved_by=verified.officers, custodians=entered
                )
    return found
