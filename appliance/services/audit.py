"""keywatt.audit.v1.AuditService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from keywatt.audit.v1 import audit_pb2, audit_pb2_grpc

from appliance.audit.identify import Identifier
from appliance.audit.log_reader import LogReader
from appliance.audit.receipts import Receipts
from appliance.errors import AuditorRequired, FieldInvalid, FieldMissing
from appliance.interceptors.peer import peer_name
from appliance.policy.authority import Authority
from appliance.services import from_proto, request_ids
from sts.token_number import TokenNumber

_FOLLOW_SECONDS = 1.0


class AuditService(audit_pb2_grpc.AuditServiceServicer):
    """Converts, and says who may see what.

    Args:
        log: the module's log.
        receipts: makes receipts.
        identifier: says where a token came from.
        auditors: names of the clients that see entries of others, where there is no policy.
        authority: the policy, which names them else.
    """

    def __init__(
        self,
        log: LogReader,
        receipts: Receipts,
        identifier: Identifier,
        auditors: frozenset[str],
        authority: Authority,
    ) -> None:
        self._authority = authority
        self._log = log
        self._receipts = receipts
        self._identifier = identifier
        self._auditors = auditors

    def _require_auditor(self, context: Any) -> str:
        name = peer_name(context)
        if not self._authority.is_auditor(name, otherwise=name in self._auditors):
            raise AuditorRequired("this shows what others were issued; this client is no auditor")
        return name

    async def GetCheckpoint(
        self, request: audit_pb2.GetCheckpointRequest, context: Any
    ) -> audit_pb2.GetCheckpointResponse:
        """Return the newest checkpoint."""
        self._authority.require_reading(peer_name(context))
        if request.fresh and request.witnessed:
            raise FieldInvalid("a fresh checkpoint has not been to witnesses yet", field="witnessed")
        snapshot = await (self._log.witnessed() if request.witnessed else self._log.newest(fresh=request.fresh))
        return audit_pb2.GetCheckpointResponse(
            checkpoint=snapshot.note.pack(),
            origin=snapshot.checkpoint.origin,
            tree_size=snapshot.size,
            root_hash=snapshot.checkpoint.root,
        )

    async def GetInclusionProof(
        self, request: audit_pb2.GetInclusionProofRequest, context: Any
    ) -> audit_pb2.GetInclusionProofResponse:
        """Prove that an entry is in the log."""
        self._authority.require_reading(peer_name(context))
        snapshot = await self._log.covering(max(request.index, request.tree_size - 1))
        size = request.tree_size or snapshot.size
        leaf, hashes = await asyncio.to_thread(snapshot.inclusion, request.index, size)
        return audit_pb2.GetInclusionProofResponse(leaf_hash=leaf, hashes=hashes, tree_size=size)

    async def GetConsistencyProof(
        self, request: audit_pb2.GetConsistencyProofRequest, context: Any
    ) -> audit_pb2.GetConsistencyProofResponse:
        """Prove that the log only grew."""
        self._authority.require_reading(peer_name(context))
        snapshot = await self._log.covering(max(request.old_size, request.new_size) - 1)
        size = request.new_size or snapshot.size
        hashes = await asyncio.to_thread(snapshot.consistency, request.old_size, size)
        return audit_pb2.GetConsistencyProofResponse(hashes=hashes, new_size=size)

    async def ListLeaves(
        self, request: audit_pb2.ListLeavesRequest, context: Any
    ) -> AsyncIterator[audit_pb2.ListLeavesResponse]:
        """Send entries in order."""
        self._require_auditor(context)
        index = request.start_index
        end = index + request.count if request.count else None
        snapshot = await self._log.newest(fresh=True)
        while end is None or index < end:
            entries = await asyncio.to_thread(snapshot.run, index)
            if end is not None:
                entries = entries[: end - index]
            if entries:
                yield _leaves(index, entries)
                index += len(entries)
            elif request.follow:
                await asyncio.sleep(_FOLLOW_SECONDS)
                snapshot = await self._log.newest()
            else:
                return

    async def GetReceipt(self, request: audit_pb2.GetReceiptRequest, context: Any) -> audit_pb2.GetReceiptResponse:
        """Return receipts."""
        match request.WhichOneof("of"):
            case "index":
                self._require_auditor(context)
                receipts = await self._receipts.of_entry(request.index, witnessed=request.witnessed)
            case "request_id":
                self._authority.require_reading(peer_name(context))
                request_id = request_ids.parse(request.request_id)
                receipts = await self._receipts.of_request(peer_name(context), request_id, witnessed=request.witnessed)
            case _:
                raise FieldMissing("of is missing: an index or a request id", field="of")
        return audit_pb2.GetReceiptResponse(receipts=receipts)

    async def IdentifyToken(
        self, request: audit_pb2.IdentifyTokenRequest, context: Any
    ) -> audit_pb2.IdentifyTokenResponse:
        """Say where a token came from."""
        name = self._require_auditor(context)
        if not request.token:
            raise FieldMissing("token is missing", field="token")
        meter = from_proto.meter(request.meter) if request.HasField("meter") else None
        found = await self._identifier.identify(TokenNumber.parse(request.token), meter, name)
        return audit_pb2.IdentifyTokenResponse(
            origin=audit_pb2.TokenOrigin.ValueType(found.origin.value),
            log_origin=found.log_origin,
            log_index=found.log_index,
            entry=found.entry,
        )


def _leaves(start: int, entries: list[bytes]) -> audit_pb2.ListLeavesResponse:
    return audit_pb2.ListLeavesResponse(
        leaves=[audit_pb2.Leaf(index=start + place, entry=entry) for place, entry in enumerate(entries)]
    )
