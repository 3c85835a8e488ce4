"""When a vending key stops: the last minute of each bound that its record sets, so that nobody is taken by surprise."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from hsm.keys import VendingKey
from sts.token_identifier import TID_MAX

_NEVER = 255


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Horizon:
    """A bound of a key.

    Args:
        moment: the last minute in which it still issues, naive, in the system's zone.
        bound: ``key-expiry-number``, ``base-date``, ``issued-until`` or ``refresh-until``.
    """

    moment: datetime
    bound: str


def horizons(key: VendingKey) -> list[Horizon]:
    """Return the bounds of a key, the next one first (IEC 62055-41: KEN, TID; key load: IUT, refresh)."""
    base = key.base_date.midnight
    found = [Horizon(moment=base + timedelta(minutes=TID_MAX), bound="base-date")]
    if key.key_expiry_number.number != _NEVER:
        # Expired when TID >> 16 is above the KEN: its last identifier is the last with that number on top.
        last = (key.key_expiry_number.number << 16) + 0xFFFF
        found.append(Horizon(moment=base + timedelta(minutes=last), bound="key-expiry-number"))
    if key.issued_until is not None:
        found.append(Horizon(moment=key.issued_until, bound="issued-until"))
    if key.refresh_until is not None:
        found.append(Horizon(moment=key.refresh_until, bound="refresh-until"))
    return sorted(found)
