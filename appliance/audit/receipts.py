"""Receipts of what was issued: to its client by request, to auditors by entry."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from appliance.audit.log_reader import LogReader, Snapshot
from appliance.errors import IssuanceUnknown, LogEntryUnknown, LogUnreadable
from appliance.ledger.ledger import Ledger
from appliance.ledger.records import Issuance
from hsm.errors import HsmError
from hsm.log import leaves


class Receipts:
    """Makes receipts; one that witnesses have cosigned wherever there is one.

    Args:
        log: the module's log.
        ledger: knows which entries a request made.
    """

    def __init__(self, log: LogReader, ledger: Ledger) -> None:
        self._log = log
        self._ledger = ledger

    async def of_entry(self, index: int, *, witnessed: bool) -> list[bytes]:
        """Return the receipt of an entry.

        Args:
            index: of the entry.
            witnessed: only with a checkpoint that enough witnesses have cosigned.

        Raises:
            LogEntryUnknown: the log has no such entry.
            LogEntryUnwitnessed: no such checkpoint covers it yet.
            LogUnreadable, HsmError: the log or the module is away.
        """
        snapshot = await self._log.covering(index, witnessed=witnessed)
        return await asyncio.to_thread(_receipts, snapshot, [index])

    async def of_request(self, client: str, request_id: bytes, *, witnessed: bool) -> list[bytes]:
        """Return the receipts of what a client's request made, one for each entry.

        Raises:
            IssuanceUnknown: nothing was issued to this client so, or before there was a log, or on another log.
            LogEntryUnwitnessed, LogUnreadable, HsmError: as :meth:`of_entry`.
        """
        found = await self._ledger.find(client, request_id)
        if found is None:
            raise IssuanceUnknown("nothing was issued to this client under this request id")
        indices = _indices(found)
        if not indices:
            raise IssuanceUnknown("what was issued under this request id is older than the log")
        snapshot = await self._log.covering(max(indices), witnessed=witnessed)
        if found.log != snapshot.checkpoint.origin:
            raise IssuanceUnknown(f"what was issued under this request id is in the log of {found.log}")
        return await asyncio.to_thread(_own_receipts, snapshot, indices, client, request_id)

    async def at_hand(self, found: Issuance) -> list[bytes]:
        """Return the receipts of an issuance if a checkpoint covers it already; else none, and no error."""
        indices = _indices(found)
        try:
            snapshot = await self._log.at_hand(max(indices)) if indices else None
            if snapshot is None or found.log != snapshot.checkpoint.origin:
                return []
            return await asyncio.to_thread(_own_receipts, snapshot, indices, found.client, found.request_id)
        except (IssuanceUnknown, LogEntryUnknown, LogUnreadable, HsmError):
            # Whoever asks what was issued gets an answer, even if the log is away.
            return []


def _indices(found: Issuance) -> list[int]:
    return sorted({token.log_index for token in found.tokens if token.log_index is not None})


def _own_receipts(snapshot: Snapshot, indices: Sequence[int], client: str, request_id: bytes) -> list[bytes]:
    """Raise IssuanceUnknown unless each entry says that it was made for this request: the ledger alone could err."""
    for index in indices:
        leaf = leaves.decode(snapshot.proven_entry(index))
        if (leaf.get("client"), leaf.get("request")) != (client, request_id.hex()):
            raise IssuanceUnknown("the log has another request where the ledger says that this one is")
    return _receipts(snapshot, indices)


def _receipts(snapshot: Snapshot, indices: Sequence[int]) -> list[bytes]:
    return [snapshot.receipt(index) for index in indices]
