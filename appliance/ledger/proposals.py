"""Proposals as the use cases see them: what was proposed, by whom, and who has approved it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from appliance.ledger.ledger import Ledger, milliseconds_now
from appliance.ledger.records import Method
from appliance.ledger.storage import proposals as queries


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """Who approved, and when in milliseconds since 1970."""

    client: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A request that others must approve.

    Args:
        id: 16 octets, a UUID of version 7.
        client: who proposed it.
        request_id: 16 octets.
        method: which call it is a request of.
        request: its octets.
        digest: SHA-256 of client and request, 32 octets.
        created, expires: milliseconds since 1970.
        approvals: each client once.
        rejected_by: who rejected it; empty if nobody has.
    """

    id: bytes
    client: str
    request_id: bytes
    method: Method
    request: bytes
    digest: bytes
    created: int
    expires: int
    approvals: tuple[Approved, ...] = ()
    rejected_by: str = ""


class Proposals:
    """Keeps proposals in the ledger, for every appliance that shares it.

    Args:
        ledger: where.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def add(self, proposal: Proposal, *, most: int) -> Proposal | None:
        """Keep a proposal; return it, or the one that its client has under its request id.

        Args:
            proposal: what is proposed.
            most: how many of a client there may be whose time is not over and that were not executed; one more is not
                kept, and nothing is returned.

        Raises:
            LedgerUnavailable: nothing was kept, or nobody knows.
        """
        row = {
            "id": proposal.id,
            "client_id": await self._ledger.client_number(proposal.client),
            "request_id": proposal.request_id,
            "method": int(proposal.method),
            "request": proposal.request,
            "digest": proposal.digest,
            "created_at": proposal.created,
            "expires_at": proposal.expires,
            "rejected_by": None,
            "claims": 0,
        }
        found = await self._ledger.storage.write(partial(queries.add, row=row, now=milliseconds_now(), most=most))
        return None if found is None else await self.get(bytes(found.id))

    async def get(self, proposal: bytes) -> Proposal | None:
        """Return a proposal; None if there is none. Raises LedgerUnavailable."""
        found = await self._ledger.storage.read(partial(queries.get, proposal=proposal))
        return None if found is None else await self._show(*found)

    async def approve(self, proposal: bytes, client: str) -> bool:
        """Note an approval; tell whether the proposal was open. Raises LedgerUnavailable."""
        number = await self._ledger.client_number(client)
        wanted = partial(queries.approve, proposal=proposal, client=number, now=milliseconds_now())
        return await self._ledger.storage.write(wanted)

    async def reject(self, proposal: bytes, client: str) -> bool:
        """Reject a proposal for good, unless it is being executed; tell whether it is rejected now."""
        number = await self._ledger.client_number(client)
        return await self._ledger.storage.write(partial(queries.reject, proposal=proposal, client=number))

    async def claim(self, proposal: bytes) -> bool:
        """Begin an execution, after which nobody rejects it; tell whether the proposal was open."""
        return await self._ledger.storage.write(partial(queries.claim, proposal=proposal, now=milliseconds_now()))

    async def give_back(self, proposal: bytes) -> None:
        """End an execution that issued nothing."""
        await self._ledger.storage.write(partial(queries.give_back, proposal=proposal))

    async def list_open(self, after: bytes, limit: int) -> list[Proposal]:
        """Return up to ``limit`` proposals that are open, the oldest first. Raises LedgerUnavailable."""
        wanted = partial(queries.list_open, after=after, now=milliseconds_now(), limit=limit)
        return [await self._show(*found) for found in await self._ledger.storage.read(wanted)]

    async def _show(self, row: Any, approvals: Sequence[tuple[int, int]]) -> Proposal:
        name = self._ledger.client_name
        return Proposal(
            id=bytes(row.id),
            client=await name(row.client_id),
            request_id=bytes(row.request_id),
            method=Method(row.method),
            request=bytes(row.request),
            digest=bytes(row.digest),
            created=row.created_at,
            expires=row.expires_at,
            approvals=tuple([Approved(client=await name(client), at=at) for client, at in approvals]),
            rejected_by="" if row.rejected_by is None else await name(row.rejected_by),
        )
