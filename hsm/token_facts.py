"""What the log says of a token: which keys it has, its mode and its tables, and what of that is new."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from hsm.batch_leaves import now_milliseconds
from hsm.log import leaves
from hsm.log.errors import LogDamaged
from hsm.log.leaves import LeafType
from hsm.session import ModuleSession
from hsm.status import ModuleStatus

_KEYS_IN_A_LEAF = 1000


def check_values(session: ModuleSession) -> dict[str, str]:
    """Return the check value of each vending key by its name."""
    return {str(key.reference): key.check_value.hex() for key in session.keys}


def state_of(session: ModuleSession, status: ModuleStatus) -> dict[str, object]:
    """Return what an entry says of the token."""
    keys = check_values(session)
    return {
        "mode": status.mode.name.lower(),
        "tables": status.tables_digest.hex(),
        "tables_name": status.tables_name,
        "token_serial": status.token_serial,
        "keys": len(keys),
        "keys_digest": hashlib.sha256(leaves.encode(keys)).hexdigest(),
    }


def changes(session: ModuleSession, status: ModuleStatus, known: Mapping[str, Any]) -> list[bytes]:
    """Return entries for what differs from what the log knows: the mode, and keys. Raises LogDamaged."""
    keys, now = check_values(session), now_milliseconds()
    before, mode_before = known.get("keys", {}), known.get("mode")
    if not isinstance(before, dict):
        raise LogDamaged("state.json is not what a writer leaves")
    entries = []
    if mode_before not in (None, status.mode.name.lower()):
        entries.append(leaves.make(LeafType.MODE, now, before=mode_before, after=status.mode.name.lower()))
    added = sorted(f"{name} {value}" for name, value in keys.items() if before.get(name) != value)
    removed = sorted(f"{name} {value}" for name, value in before.items() if keys.get(name) != value)
    for start in range(0, max(len(added), len(removed)), _KEYS_IN_A_LEAF):
        end = start + _KEYS_IN_A_LEAF
        entries.append(leaves.make(LeafType.KEYS, now, added=added[start:end], removed=removed[start:end]))
    return entries
