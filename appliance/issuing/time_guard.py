"""The guard of the clock: token identifiers are time, so a wrong clock burns meters or repeats identifiers.

The wall clock is compared with the steady one that the kernel counts since boot, and at the start with the ledger's
high-water mark. Beyond policy, issuing stops: until the clock agrees again, or until an operator confirms it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from appliance.config import ClockSettings
from appliance.errors import ClockStopped
from appliance.ledger.records import ClockMark

# Clocks are slewed by up to 500 ppm; within an hour that is less than any tolerance.
_REBASE_SECONDS = 3600.0


def steady() -> float:
    """Return seconds since boot, suspended time included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class TimeGuard:
    """Says what time it is, or refuses to.

    Args:
        policy: how far the clock may step.
        wall: the wall clock, seconds since 1970.
        steady: a clock that nobody sets.
    """

    def __init__(
        self,
        policy: ClockSettings,
        *,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = steady,
    ) -> None:
        self._policy = policy
        self._wall = wall
        self._steady = steady
        self._base_wall, self._base_steady = wall(), steady()
        self._epoch: int | None = None
        self._floor = 0

    @property
    def epoch(self) -> int:
        """How often the clock was confirmed, as far as this process knows."""
        return self._epoch or 0

    @property
    def floor(self) -> datetime | None:
        """No identifier may lie before this instant (aware), or None."""
        return datetime.fromtimestamp(self._floor / 1000, UTC) if self._floor else None

    def learn(self, mark: ClockMark) -> None:
        """Take in the ledger's mark: at the start, and again after an operator has confirmed the clock."""
        self._floor = mark.floor
        if mark.epoch == self._epoch:
            return
        # A long pause explains a clock far ahead at a start only: a confirmation speaks of now.
        starts = self._epoch is None
        ahead_max = self._policy.restart_forward_hours * 3600 if starts else self._policy.forward_seconds
        self._epoch = mark.epoch
        self._base_wall, self._base_steady = self._wall(), self._steady()
        if mark.milliseconds is None:
            return
        ahead = self._base_wall - mark.milliseconds / 1000
        if ahead < -self._policy.backward_seconds or ahead > ahead_max:
            # What the mark says counts as the right time from here on.
            self._base_wall = mark.milliseconds / 1000

    def wall(self) -> datetime:
        """Return what the wall clock says, aware, right or wrong."""
        return datetime.fromtimestamp(self._wall(), UTC)

    def step(self) -> float:
        """Return by how many seconds the clock has stepped: 0 within policy, else less or more than 0."""
        return self._step(self._wall())

    def _step(self, wall: float) -> float:
        now = self._steady()
        elapsed = now - self._base_steady
        deviation = (wall - self._base_wall) - elapsed
        if not -self._policy.backward_seconds <= deviation <= self._policy.forward_seconds:
            return deviation
        if elapsed > _REBASE_SECONDS:
            self._base_wall, self._base_steady = wall, now
        return 0.0

    def now(self) -> datetime:
        """Return the present instant, aware; raises ClockStopped."""
        wall = self._wall()
        deviation = self._step(wall)
        if deviation:
            way = "back" if deviation < 0 else "forward"
            raise ClockStopped(f"the clock stepped {way} by {abs(deviation):.0f} s; nothing is issued")
        return datetime.fromtimestamp(wall, UTC)
