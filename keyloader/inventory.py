"""What a token holds, read back from it: keys with their attributes, officers, the audit key, and its stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from hsm.ceremony import Ceremony
from hsm.errors import ModuleRefusal
from hsm.horizons import horizons
from hsm.keys import VendingKey
from hsm.self_test import prove_keys
from hsm.status import ModuleStatus
from keyloader import custody, module_access
from keyloader.custody import Custody
from keyloader.errors import SiteFault
from keyloader.officer_list import kind_name
from keyloader.site import Site
from keyloader.token_store import TokenStore


def take(site: Site) -> dict[str, Any]:
    """Read the token in force; every key proves itself first.

    Raises:
        SiteFault: there is no token, or no PIN.
        HsmError: the module does not start, or a key does not prove its record.
    """
    site.require()
    store = TokenStore(site.token_folder)
    if store.current is None:
        raise SiteFault(f"{store.link}: there is no token")
    pin = site.read_pin()
    with store.copy() as tokens, module_access.ceremony_on(tokens, site.ceremony_config, pin) as ceremony:
        session = ceremony.session
        proved = prove_keys(session)
        status = session.status()
        try:
            audit_key = session.audit_key().hex()
        except ModuleRefusal:
            audit_key = ""
        return {
            "module": status.module_id,
            "token_serial": status.token_serial,
            "store": store.current.name,
            "stores": store.names,
            "tables": {"name": status.tables_name, "sha256": status.tables_digest.hex()},
            "audit_key": audit_key,
            "keys_proved": proved,
            "keys": _keys(session.labels, custody.of_keys(site.records, bytes.fromhex(audit_key)), _now(status)),
            "centres": [{"name": one.name, "key": one.key.hex()} for one in ceremony.centres().centres],
            **_officers(ceremony),
            **_mandate(ceremony),
        }


def _now(status: ModuleStatus) -> datetime:
    """Return the module's clock, naive, in the system's zone."""
    return datetime(1970, 1, 1) + timedelta(minutes=status.clock_minutes)  # noqa: DTZ001 - as records have times


def _keys(labels: Sequence[str], custodies: Mapping[tuple[str, str], Custody], now: datetime) -> list[dict[str, Any]]:
    """Return each key: its record field by field, how it came, and its next horizon."""
    found = []
    for label in sorted(labels):
        key = VendingKey.from_label(label)
        _, *words = label.split()
        fields: dict[str, Any] = {"state": "active"} | dict(word.split("=", 1) for word in words)
        fields["algorithm"] = key.check_value_algorithm.label
        nearest = horizons(key)[0]
        fields["horizon"] = {
            "bound": nearest.bound,
            "until": nearest.moment.isoformat(timespec="minutes"),
            "days": (nearest.moment - now).days,
        }
        custody_of = custodies.get((str(key.reference), key.check_value.hex().upper()))
        fields["custody"] = None if custody_of is None else asdict(custody_of)
        found.append(fields)
    return found


def _officers(ceremony: Ceremony) -> dict[str, Any]:
    enrolled = ceremony.officers()
    if enrolled is None:
        return {"officers": [], "needed": {}}
    return {
        "officers": [
            {
                "name": officer.name,
                "key": officer.key.hex(),
                "fido2": any(officer.application_digest),
                "valid_from": _day(officer.valid_from),
                "valid_until": _day(officer.valid_until),
            }
            for officer in enrolled.officers
        ],
        "needed": {kind_name(kind): count for kind, count in enrolled.thresholds.items()},
    }


def _mandate(ceremony: Ceremony) -> dict[str, Any]:
    """Return lease and policy that ceremonies have put into the token; leases that came online are not there."""
    mandate = ceremony.mandate()
    lease = mandate.lease
    return {
        "lease": None
        if lease is None
        else {"number": lease.number, "from": _day(lease.valid_from), "until": _day(lease.valid_until)},
        "policy": {"number": mandate.policy_number, "sha256": mandate.policy_digest.hex()}
        if mandate.policy_number
        else None,
    }


def _day(minutes: int) -> str:
    try:
        return datetime.fromtimestamp(minutes * 60, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return str(minutes)
