"""How full the limits are: looked at now and then, so that an operator hears before clients do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import datetime

import structlog

from appliance.errors import ApplianceError
from appliance.horizons import Horizon, fills
from appliance.ledger.ledger import Ledger
from appliance.ledger.records import Usage
from appliance.policy import document
from appliance.policy.authority import Authority
from appliance.policy.document import Limit

logger = structlog.get_logger("keywatt.appliance")
_LOOK_SECONDS = 60.0


class LimitFill:
    """Looks at the counters of the ledger; those of single meters are too many.

    Args:
        ledger: has the counters.
        authority: has the limits.
    """

    def __init__(self, ledger: Ledger, authority: Authority) -> None:
        self._ledger = ledger
        self._authority = authority
        self._used: dict[str, float] = {}

    async def refresh(self) -> None:
        """Look now. Raises LedgerUnavailable."""
        policy = self._authority.policy
        limits = {} if policy is None else {one.name: one for one in policy.limit if one.per != "meter"}
        found = await self._ledger.usage_of(list(limits), int(time.time() * 1000)) if limits else {}
        self._used = {name: _share(limits[name], usage) for name, usage in found.items()}

    def horizons(self, _: datetime) -> Iterable[Horizon]:
        """Return how much is used of each limit, by whoever has used most of it."""
        return [fills(name, used) for name, used in self._used.items()]

    async def watch(self) -> None:
        """Look again and again, for ever."""
        while True:
            try:
                await self.refresh()
            except ApplianceError as error:
                logger.warning("limits-unknown", reason=error.reason)
            except Exception as error:  # noqa: BLE001 - whoever watches must go on watching
                logger.warning("limits-unknown", error=type(error).__name__)
            await asyncio.sleep(_LOOK_SECONDS)


def _share(limit: Limit, used: Usage) -> float:
    pairs = (
        (used.count, limit.count),
        (used.units, document.units(limit.units)),
        (used.currency, document.currency(limit.currency)),
    )
    return max(1.0 if not most else found / most for found, most in pairs if most is not None)
