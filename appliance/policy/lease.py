"""The lease to vend, as the appliance sees it: asked of the module, compared with the ledger, renewed online.

The module judges it before every token. Here it is looked at so that nothing is asked of a module in vain, that health
says so, and that a module whose disk was put back does not go on with a lease that officers have replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import structlog

from appliance.errors import ApplianceError
from appliance.horizons import Horizon, ends
from appliance.ledger.ledger import Ledger
from hsm.client import ModuleClient
from hsm.errors import HsmError, LeaseUnreadable, ModuleRefusal
from hsm.mandate import Lease, Mandate, PresentedLease, parse_lease, utc_minutes
from hsm.officers import OFFICERS_MAX, Approval
from hsm.reasons import Reason
from hsm.ssh_signatures import OfficerSignature

logger = structlog.get_logger("keywatt.appliance")
_LOOK_SECONDS = 2.0


def _now() -> datetime:
    return datetime.now(UTC)


class LeaseKeeper:
    """Watches the lease of one module.

    Args:
        client: the module.
        module_id: its name.
        ledger: remembers the greatest number that was ever in force, for every appliance that shares it.
        now: the clock, aware.
    """

    def __init__(
        self, client: ModuleClient, module_id: str, ledger: Ledger, *, now: Callable[[], datetime] = _now
    ) -> None:
        self._client = client
        self._module_id = module_id
        self._ledger = ledger
        self._now = now
        self._latest = 0
        self.mandate: Mandate | None = None
        """What the module said last."""

    async def refresh(self) -> Mandate:
        """Ask the module, and keep the number of its lease. Raises HsmError or LedgerUnavailable."""
        mandate = await self._client.mandate()
        number = 0 if mandate.lease is None else mandate.lease.number
        if self.mandate is None or number > self._latest:
            self._latest = await self._ledger.raise_mark(f"lease {self._module_id}", number)
        self.mandate = mandate
        return mandate

    def require(self) -> None:
        """See that there is a lease; raises ModuleRefusal as the module would."""
        mandate = self.mandate
        if mandate is None:
            return
        number = 0 if mandate.lease is None else mandate.lease.number
        if number < self._latest:
            raise ModuleRefusal(Reason.LEASE_OUTDATED)
        if mandate.lease is None:
            if mandate.lease_required:
                raise ModuleRefusal(Reason.LEASE_MISSING)
        elif utc_minutes(self._now()) >= mandate.lease.valid_until:
            raise ModuleRefusal(Reason.LEASE_OVER)

    async def renew(self, text: str, signatures: Sequence[str]) -> Lease:
        """Present a lease that officers have signed.

        Args:
            text: the lines that they signed.
            signatures: as ssh-keygen writes them.

        Raises:
            LeaseUnreadable, SignatureUnreadable: these are none.
            ModuleRefusal: the module does not take it.
            HsmError, LedgerUnavailable: it is not known whether it is in force; presenting it again tells.
        """
        module_id, lease = parse_lease(text)
        if module_id != self._module_id:
            raise LeaseUnreadable(f"this lease is for module {module_id}, this is {self._module_id}")
        if len(signatures) > OFFICERS_MAX:
            raise LeaseUnreadable(f"a lease has at most {OFFICERS_MAX} signatures")
        found = [OfficerSignature.parse(one) for one in signatures]
        approvals = [
            Approval(key=one.key.public, signature=one.signature, flags=one.flags, counter=one.counter) for one in found
        ]
        await self._client.present_lease(PresentedLease(lease=lease, signatures=approvals))
        await self.refresh()
        logger.warning("lease-renewed", number=lease.number, until=lease.until.isoformat(timespec="minutes"))
        return lease

    def horizons(self, now: datetime) -> Iterable[Horizon]:
        """Return when the lease ends."""
        if self.mandate is not None and self.mandate.lease is not None:
            yield ends("lease", self._module_id, self.mandate.lease.until, now)

    async def watch(self) -> None:
        """Ask again and again, for ever; what the module says meanwhile decides all the same."""
        is_known = True
        while True:
            try:
                await self.refresh()
                is_known = True
            except (ApplianceError, HsmError) as error:
                if is_known:
                    logger.warning("lease-unknown", reason=error.reason)
                is_known = False
            except Exception as error:  # noqa: BLE001 - whoever watches must go on watching
                logger.warning("lease-unknown", error=type(error).__name__)
            await asyncio.sleep(_LOOK_SECONDS)
