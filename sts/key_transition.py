"""Which key type may follow which (IEC 62055-41, clause 6.5.2.3), and when a key change is a rollover.

A common key (KT 3) belongs to magnetic cards; public sources do not settle its changes, so a change between
common keys, or from an initialisation key to one, is allowed with TCT 01, and every other one that touches a common key
is refused.
"""

from __future__ import annotations

from sts import errors
from sts.identifiers import KeyType, TokenCarrierType
from sts.token_identifier import BaseDate

_ALLOWED = {
    KeyType.INITIALISATION: frozenset(KeyType),
    KeyType.DEFAULT: frozenset({KeyType.DEFAULT, KeyType.UNIQUE}),
    KeyType.UNIQUE: frozenset({KeyType.UNIQUE, KeyType.DEFAULT}),
    KeyType.COMMON: frozenset({KeyType.COMMON}),
}


def require_transition(old: KeyType, new: KeyType, carrier: TokenCarrierType = TokenCarrierType.NUMERIC) -> None:
    """Raise KeyTypeTransition unless a key of type ``new`` may replace one of type ``old`` on this carrier."""
    if new not in _ALLOWED[old]:
        raise errors.KeyTypeTransition(f"key type {int(old)} does not change to key type {int(new)}")
    if KeyType.COMMON in (old, new) and carrier is not TokenCarrierType.MAGNETIC_CARD:
        raise errors.KeyTypeTransition("a common key is for magnetic cards (TCT 01) only")


def is_rollover(old: BaseDate, new: BaseDate) -> bool:
    """Tell whether a change is a rollover (new base date later); meter then forgets its token identifiers."""
    return new.midnight > old.midnight
