"""What a token holds, read back from it: keys with their attributes, officers, the audit key, and its stores."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hsm.ceremony import Ceremony
from hsm.errors import ModuleRefusal
from hsm.self_test import prove_keys
from keyloader import module_access
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
            "keys": [_fields(label) for label in sorted(session.labels)],
            **_officers(ceremony),
        }


def _fields(label: str) -> dict[str, str]:
    """Return a key's record field by field, without its proof."""
    _, *words = label.partition(" proof=")[0].split()
    return dict(word.split("=", 1) for word in words)


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


def _day(minutes: int) -> str:
    try:
        return datetime.fromtimestamp(minutes * 60, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return str(minutes)
