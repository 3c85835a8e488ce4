"""keywatt.vending.v1.VendingService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from keywatt.vending.v1 import vending_pb2, vending_pb2_grpc

from appliance.audit.receipts import Receipts
from appliance.errors import FieldInvalid, FieldMissing, IssuanceUnknown
from appliance.interceptors.peer import peer_name
from appliance.interceptors.reading import read_request
from appliance.interceptors.status import to_status
from appliance.issuing.issuer import Outcome
from appliance.issuing.orders import Submission
from appliance.issuing.pipeline import Pipeline
from appliance.issuing.quantities import to_decimal
from appliance.issuing.verifier import Verifier
from appliance.ledger.ledger import Ledger
from appliance.policy.authority import Authority
from appliance.services import from_proto, issuances, request_ids, to_proto
from appliance.services.submissions import IssueRequest, inner_request, submission
from sts.token_number import TokenNumber

_BATCH_MAX = 1000
_STREAM_OUTSTANDING = 2000
_ID_SHOWN = 64


def _deadline(context: Any) -> float | None:
    remaining = context.time_remaining()
    return None if remaining is None else asyncio.get_running_loop().time() + remaining


def _read(message: type[IssueRequest], octets: bytes, context: Any) -> Submission:
    read: Callable[[bytes], IssueRequest] = message.FromString
    return submission(read_request(read, octets), peer_name(context), _deadline(context))


class VendingService(vending_pb2_grpc.VendingServiceServicer):
    """Converts, and lets the pipeline work. Errors are raised as they are; an interceptor maps them."""

    UNREAD = frozenset({"IssueCreditToken", "IssueManagementToken", "IssueMeterTestToken", "IssueKeyChangeTokens"})
    """Calls that take the octets of their request."""

    def __init__(
        self,
        pipeline: Pipeline,
        verifier: Verifier,
        ledger: Ledger,
        authority: Authority,
        receipts: Receipts | None = None,
    ) -> None:
        self._authority = authority
        self._pipeline = pipeline
        self._verifier = verifier
        self._ledger = ledger
        self._receipts = receipts

    # The four single calls take and give octets (UNREAD): what is asked is read together with others of its batch, and
    # an answer goes out as it lies in the ledger.
    def IssueCreditToken(  # type: ignore[override]  # octets, see UNREAD
        self, request: bytes, context: Any
    ) -> Awaitable[bytes]:
        """Issue a credit token."""
        return self._pipeline.ask(partial(_read, vending_pb2.IssueCreditTokenRequest, request, context))

    def IssueManagementToken(  # type: ignore[override]  # octets, see UNREAD
        self, request: bytes, context: Any
    ) -> Awaitable[bytes]:
        """Issue a management token."""
        return self._pipeline.ask(partial(_read, vending_pb2.IssueManagementTokenRequest, request, context))

    def IssueMeterTestToken(  # type: ignore[override]  # octets, see UNREAD
        self, request: bytes, context: Any
    ) -> Awaitable[bytes]:
        """Issue a meter test token."""
        return self._pipeline.ask(partial(_read, vending_pb2.IssueMeterTestTokenRequest, request, context))

    def IssueKeyChangeTokens(  # type: ignore[override]  # octets, see UNREAD
        self, request: bytes, context: Any
    ) -> Awaitable[bytes]:
        """Make a key-change set."""
        return self._pipeline.ask(partial(_read, vending_pb2.IssueKeyChangeTokensRequest, request, context))

    async def BatchIssueTokens(
        self, request: vending_pb2.BatchIssueTokensRequest, context: Any
    ) -> vending_pb2.BatchIssueTokensResponse:
        """Issue many at once."""
        if not request.requests:
            raise FieldMissing("requests is empty", field="requests")
        _require_size(request.requests)
        response = vending_pb2.BatchIssueTokensResponse()
        await self._issue_many(request.requests, peer_name(context), _deadline(context), 0, response)
        return response

    async def StreamIssueTokens(
        self, request_iterator: AsyncIterator[vending_pb2.StreamIssueTokensRequest], context: Any
    ) -> AsyncIterator[vending_pb2.StreamIssueTokensResponse]:
        """Issue without end; what comes in faster than it can be worked on is not read."""
        client, deadline = peer_name(context), _deadline(context)
        room = asyncio.Semaphore(_STREAM_OUTSTANDING)
        ready: asyncio.Queue[vending_pb2.StreamIssueTokensResponse | Exception | None] = asyncio.Queue()

        async def work(requests: Sequence[vending_pb2.TokenRequest], start: int) -> None:
            response = vending_pb2.StreamIssueTokensResponse()
            try:
                await self._issue_many(requests, client, deadline, start, response)
                ready.put_nowait(response)
            except Exception as error:  # noqa: BLE001 - the stream ends with it
                ready.put_nowait(error)

        async def read() -> None:
            index = 0
            async with asyncio.TaskGroup() as tasks:
                async for message in request_iterator:
                    _require_size(message.requests)
                    for _ in message.requests:
                        await room.acquire()
                    tasks.create_task(work(message.requests, index))
                    index += len(message.requests)

        reader = asyncio.create_task(read())
        reader.add_done_callback(lambda _: ready.put_nowait(None))
        try:
            while (response := await ready.get()) is not None:
                if isinstance(response, Exception):
                    raise response
                for _ in response.results:
                    room.release()
                if response.results:
                    yield response
            await _finish(reader)
        finally:
            reader.cancel()

    async def GetIssuance(
        self, request: vending_pb2.GetIssuanceRequest, context: Any
    ) -> vending_pb2.GetIssuanceResponse:
        """Return an issuance of this client."""
        self._authority.require_reading(peer_name(context))
        found = await self._ledger.find(peer_name(context), request_ids.parse(request.request_id))
        if found is None:
            raise IssuanceUnknown("nothing was issued to this client under this request id")
        response = issuances.with_answer(found)
        if self._receipts is not None:
            response.receipts.extend(await self._receipts.at_hand(found))
        return response

    async def ListIssuances(
        self, request: vending_pb2.ListIssuancesRequest, context: Any
    ) -> vending_pb2.ListIssuancesResponse:
        """List issuances of this client."""
        self._authority.require_reading(peer_name(context))
        wanted, size = issuances.read_filter(request, peer_name(context))
        found = await self._ledger.list(wanted, size + 1)
        return vending_pb2.ListIssuancesResponse(
            issuances=[issuances.issuance(one) for one in found[:size]],
            next_page_token=issuances.page_token(request, found[size - 1]) if len(found) > size else "",
        )

    async def VerifyToken(
        self, request: vending_pb2.VerifyTokenRequest, context: Any
    ) -> vending_pb2.VerifyTokenResponse:
        """Verify a token."""
        self._authority.require_reading(peer_name(context))
        if not request.token:
            raise FieldMissing("token is missing", field="token")
        number = TokenNumber.parse(request.token)
        if number.token_class in {0, 2} and not request.HasField("meter"):
            raise FieldMissing("a token of class 0 or 2 is verified for a meter: meter is missing", field="meter")
        meter = from_proto.meter(request.meter) if request.HasField("meter") else None
        found = await self._verifier.verify(number, meter, peer_name(context))
        if not found.genuine or found.origin is None:
            return vending_pb2.VerifyTokenResponse(result=vending_pb2.VERIFICATION_RESULT_CRC_ERROR)
        response = vending_pb2.VerifyTokenResponse(
            result=vending_pb2.VERIFICATION_RESULT_GENUINE,
            key_change=found.key_change,
            key_expired=found.key_expired,
            provenance=to_proto.provenance(found.origin),
        )
        response.token.token_class, response.token.subclass = found.token_class, found.subclass
        if found.identifier is not None:
            response.token.token_identifier = found.identifier.minutes
            response.token.token_time = found.identifier.local_time.isoformat(timespec="minutes")
        if found.random_number is not None:
            response.random_number = found.random_number
        if found.token_class == 1:
            response.control, response.manufacturer_code = found.value >> 16, found.value & 0xFFFF
        elif not found.key_change:
            response.effective_amount = to_decimal(found.value, found.unit)
            response.unit = to_proto.unit(found.unit)
        return response

    async def _issue_many(
        self,
        requests: Sequence[vending_pb2.TokenRequest],
        client: str,
        deadline: float | None,
        start: int,
        response: vending_pb2.BatchIssueTokensResponse | vending_pb2.StreamIssueTokensResponse,
    ) -> None:
        """Fill ``response`` with one result for each request, in place: copying a thousand costs as much as a batch."""
        good: list[tuple[vending_pb2.TokenResult, str]] = []
        submissions: list[Submission] = []
        for index, request in enumerate(requests, start):
            result = response.results.add(index=index)
            try:
                inner = inner_request(request)
                result.request_id = inner.request_id[:_ID_SHOWN]
                submissions.append(submission(inner, client, deadline))
                good.append((result, str(request.WhichOneof("request"))))
            except Exception as error:  # noqa: BLE001 - one bad request does not stop the others
                result.error.CopyFrom(to_status(error)[1])
        outcomes = await self._pipeline.submit(submissions)
        for (result, kind), outcome in zip(good, outcomes, strict=True):
            _fill(result, kind, outcome)


def _fill(result: vending_pb2.TokenResult, kind: str, outcome: Outcome) -> None:
    if isinstance(outcome, Exception):
        result.error.CopyFrom(to_status(outcome)[1])
    else:
        getattr(result, kind).MergeFromString(outcome)


def _require_size(requests: Sequence[vending_pb2.TokenRequest]) -> None:
    if len(requests) > _BATCH_MAX:
        raise FieldInvalid(f"at most {_BATCH_MAX} requests go together", field="requests")


async def _finish(reader: asyncio.Task[None]) -> None:
    try:
        await reader
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
