"""Keeps the policy in force: reads it, proves it, and takes a new one over while calls go on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import structlog

from appliance.errors import ApplianceError, PolicyInvalid, PolicyOutdated, PolicyUnsigned
from appliance.ledger.ledger import Ledger
from appliance.policy import signatures
from appliance.policy.authority import Authority
from appliance.policy.difference import difference
from appliance.policy.document import Policy
from hsm.client import ModuleClient
from hsm.errors import HsmError
from hsm.status import ModuleStatus, Profile

logger = structlog.get_logger("keywatt.appliance")
FILE = "policy.toml"
_MARK = "policy"
_LOOK_SECONDS = 1.0
_State = tuple[tuple[int, int], tuple[tuple[str, int, int], ...]]


class PolicyKeeper:
    """Reads ``policy.toml`` and the signatures beside it (``*.sig``).

    Args:
        folder: where they are.
        client: the module, which names the officers.
        ledger: remembers the greatest number that was ever in force, for every appliance that shares it.
        authority: gets the policy.
    """

    def __init__(self, folder: Path, client: ModuleClient, ledger: Ledger, authority: Authority) -> None:
        self._folder = folder
        self._client = client
        self._ledger = ledger
        self._authority = authority
        self._seen: _State | None = None
        self._told: tuple[_State, str] | None = None
        self._found = b""

    async def load(self) -> None:
        """Put the policy of the folder in force.

        Raises:
            PolicyInvalid, PolicyUnsigned, PolicyOutdated: the one in force stays in force.
            HsmError: the module does not say who its officers are.
            LedgerUnavailable: nobody can say whether it is outdated.
        """
        policy = Policy.read(self._folder / FILE)
        status = await self._client.status()
        if policy.module != status.module_id:
            raise PolicyInvalid(f"policy {policy.number} is for module {policy.module}, this is {status.module_id}")
        before = self._authority.policy
        changes = [] if before is None else difference(before, policy)
        if before is not None and policy.digest not in (before.digest, self._found):
            self._found = policy.digest
            # Said before anything of it is in force, and also if it never is.
            logger.warning("policy-found", number=policy.number, digest=policy.digest.hex(), changes=changes)
        names = await self._signers(policy, status)
        latest = await self._ledger.raise_mark(_MARK, policy.number)
        if latest > policy.number:
            raise PolicyOutdated(f"policy {policy.number} is older than {latest}, which was in force")
        if before is not None and before.number == policy.number and before.digest != policy.digest:
            raise PolicyOutdated(f"another policy with number {policy.number} is in force")
        if before is not None and before.digest == policy.digest:
            # Looked at again, because something beside it has changed.
            return
        self._authority.put(policy, names)
        logger.warning(
            "policy-in-force",
            number=policy.number,
            digest=policy.digest.hex(),
            signed_by=names,
            changes=changes,
        )

    async def _signers(self, policy: Policy, status: ModuleStatus) -> list[str]:
        officers = await self._client.officers()
        if officers is None:
            # A token without officers is one of development, where nobody approves anything yet.
            if status.profile is Profile.DEVELOPMENT:
                return []
            raise PolicyUnsigned("the token has no officers who could have signed a policy")
        mandate = await self._client.mandate()
        if policy.number < mandate.policy_number:
            raise PolicyOutdated(f"policy {policy.number} is older than {mandate.policy_number}, of a ceremony")
        if policy.number == mandate.policy_number:
            # A ceremony has put a policy of this number in force: it is this one, or none.
            if policy.digest != mandate.policy_digest:
                raise PolicyOutdated(f"a ceremony put another policy with number {policy.number} in force")
            return []
        return signatures.require(policy, signatures.read_all(self._folder), officers, int(time.time() // 60))

    def _state(self) -> _State:
        # A ceremony gives the module another token store, and may have put a policy in force with it; so may a restart.
        generation = (self._client.connections, self._client.generation)
        try:
            entries = [(path.name, path.stat()) for path in sorted(self._folder.iterdir())]
        except OSError:
            return generation, ()
        return generation, tuple((name, status.st_mtime_ns, status.st_size) for name, status in entries)

    async def watch(self) -> None:
        """Look for another policy, for ever; what is wrong with it is in the log, and changes nothing."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Look once; what may pass by itself is tried again at the next look, and told of once."""
        state = self._state()
        if state == self._seen:
            return
        try:
            await self.load()
            self._seen = state
        except (PolicyInvalid, PolicyUnsigned, PolicyOutdated) as error:
            self._seen = state
            self._refuse(state, error.reason, str(error))
        except (ApplianceError, HsmError) as error:
            self._refuse(state, error.reason, str(error))
        except Exception as error:  # noqa: BLE001 - whoever watches must go on watching
            self._refuse(state, "UNKNOWN", type(error).__name__)

    def _refuse(self, state: _State, reason: str, detail: str) -> None:
        # A sentence, no traceback: it is the operator who reads it.
        if self._told != (state, reason):
            logger.warning("policy-refused", reason=reason, detail=detail)
        self._told = (state, reason)
