"""When vending keys end, as the appliance last read them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from appliance.horizons import Horizon, ends
from appliance.issuing.module import ModuleCatalogue
from hsm.horizons import horizons


class KeyHorizons:
    """The horizons of every vending key that still issues.

    Args:
        catalogue: the module.
    """

    def __init__(self, catalogue: ModuleCatalogue) -> None:
        self._catalogue = catalogue

    def horizons(self, now: datetime) -> Iterable[Horizon]:
        """Return the bounds of each key's record; its local times are told in UTC."""
        view = self._catalogue.last
        if view is None:
            return
        offset = timedelta(minutes=view.status.utc_offset_minutes)
        for reference, key in view.keys.items():
            if key.is_retired:
                continue
            for horizon in horizons(key):
                yield ends(horizon.bound, str(reference), (horizon.moment - offset).replace(tzinfo=UTC), now)
