"""What is looked at again and again while the appliance serves: health, and the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from grpc_health.v1 import health, health_pb2

from appliance.errors import ApplianceError, ClockStopped
from appliance.horizons import Horizons
from appliance.issuing.time_guard import TimeGuard
from appliance.ledger.ledger import Ledger
from appliance.policy.lease import LeaseKeeper
from hsm.client import ModuleClient
from hsm.errors import HsmError

logger = structlog.get_logger("keywatt.appliance")
_HEALTH_SECONDS = 0.5
_PATIENCE_SECONDS = 3.0
_CLOCK_SECONDS = 1.0
_ALARM_SECONDS = 60.0
_HORIZON_SECONDS = 60.0


class HealthWatch:
    """Says NOT_SERVING while module, ledger, clock or lease do not allow a token: a load balancer looks elsewhere.

    Args:
        client, ledger, guard, lease: what must be well.
        servicer: is told.
        services: names that it knows.
    """

    def __init__(
        self,
        *,
        client: ModuleClient,
        ledger: Ledger,
        guard: TimeGuard,
        lease: LeaseKeeper,
        servicer: health.aio.HealthServicer,
        services: Sequence[str],
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._guard = guard
        self._lease = lease
        self._servicer = servicer
        self._services = services
        self.serves = False
        """Whether tokens could be had when it looked last."""

    async def look(self) -> None:
        """Look now, and say so."""
        self.serves = await self._is_well()
        state = health_pb2.HealthCheckResponse.SERVING if self.serves else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._services:
            await self._servicer.set(name, state)

    async def _is_well(self) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._client.status()
                await self._ledger.ping()
            self._guard.now()
            self._lease.require()
        except (HsmError, ApplianceError, TimeoutError):
            return False
        except Exception as error:  # noqa: BLE001 - whoever watches must go on watching
            logger.warning("health-unknown", error=type(error).__name__)
            return False
        return True

    async def watch(self) -> None:
        """Look again and again, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(_HEALTH_SECONDS)


async def watch_clock(ledger: Ledger, guard: TimeGuard) -> None:
    """Raise the alarm when the clock steps, and take in what an operator confirms; for ever."""
    alarmed = 0.0
    while True:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                guard.learn(await ledger.clock_mark())
        except (ApplianceError, TimeoutError):
            pass
        except Exception as error:  # noqa: BLE001 - whoever watches must go on watching
            logger.warning("clock-mark-unknown", error=type(error).__name__)
        step = guard.step()
        now = asyncio.get_running_loop().time()
        if step and now - alarmed > _ALARM_SECONDS:
            alarmed = now
            logger.error("clock-stopped", stepped_seconds=round(step, 1), hint=ClockStopped.hint)
        elif not step and alarmed:
            alarmed = 0.0
            logger.warning("clock-agrees-again")
        await asyncio.sleep(_CLOCK_SECONDS)


async def watch_horizons(horizons: Horizons) -> None:
    """Tell the operator what will end; for ever."""
    # What others look at must have been looked at once.
    await asyncio.sleep(_HEALTH_SECONDS)
    while True:
        try:
            horizons.tell()
        except Exception as error:  # noqa: BLE001 - whoever watches must go on watching
            logger.warning("horizons-unknown", error=type(error).__name__)
        await asyncio.sleep(_HORIZON_SECONDS)
