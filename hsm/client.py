"""The asyncio client of the module process: one connection, many requests under way, reconnects by itself.

A request that was sent and not answered fails as ModuleInterrupted and is never sent again by this client: only its
caller knows whether sending twice is safe.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from hsm import frames
from hsm.errors import (
    FrameInvalid,
    HsmError,
    ModuleBusy,
    ModuleInterrupted,
    ModuleRefusal,
    ModuleTimeout,
    ModuleUnavailable,
)
from hsm.frames import Asker, Frame, Kind
from hsm.keys import KeyReference, VendingKey
from hsm.mandate import Mandate, PresentedLease
from hsm.officers import Enrolment
from hsm.reasons import Reason
from hsm.requests import (
    HEADER_LENGTH,
    AuditKey,
    CheckValue,
    Issued,
    IssueItem,
    KeyChanged,
    KeyChangeItem,
    Operation,
    Verified,
    VerifyItem,
    pack_request,
    split_answer,
)
from hsm.status import ModuleStatus

_ANSWER_SECONDS = 5.0
_IN_FLIGHT_MAX = 256


class _Connection(asyncio.Protocol):
    """One connection, with the requests that wait on it; a request of another connection never hears of its end."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self.pending: dict[int, asyncio.Future[Frame]] = {}
        self.peer_user: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        raw = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.peer_user = struct.unpack("=iII", raw)[1]

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            self._take_frames()
        except HsmError:
            self.close()

    def _take_frames(self) -> None:
        start, size = 0, frames.LENGTH.size
        while len(self._received) >= start + size:
            end = start + size + frames.check_length(bytes(self._received[start : start + size]))
            if len(self._received) < end:
                break
            frame = Frame.unpack(bytes(self._received[start + size : end]))
            future = self.pending.get(frame.correlation)
            if future is not None and not future.done():
                future.set_result(frame)
            start = end
        del self._received[:start]

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        for future in self.pending.values():
            if not future.done():
                future.set_exception(ModuleInterrupted("the module process went away"))

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, frame: Frame) -> asyncio.Future[Frame]:
        """Send on an open connection; the future has the answer, or ModuleInterrupted."""
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self.pending[frame.correlation] = future
        cast("asyncio.Transport", self._transport).write(frame.pack())
        return future

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class ModuleClient:
    """A client of one module process.

    Args:
        socket_path: the module's unix socket.
        answer_seconds: how long to wait for an answer; longer than the module's own deadline.
        in_flight_max: requests that may wait at once; one more is refused as ModuleBusy.
    """

    def __init__(
        self, socket_path: Path, *, answer_seconds: float = _ANSWER_SECONDS, in_flight_max: int = _IN_FLIGHT_MAX
    ) -> None:
        """Connect at the first request, not here."""
        self._socket = socket_path
        self._answer_seconds = answer_seconds
        self._in_flight_max = in_flight_max
        self._correlations = itertools.count(1)
        self._connection: _Connection | None = None
        self._in_flight = 0
        self._connecting = asyncio.Lock()
        self.connections = 0
        """How often a connection was made; each one after the first is a reconnect."""
        self.peer_user: int | None = None
        """System user of the module process, once connected."""
        self.generation = 0
        """Changes when the module process takes over another token store."""

    async def issue(
        self, reference: KeyReference | None, items: Sequence[IssueItem], askers: Sequence[Asker] = ()
    ) -> list[Issued]:
        """Issue up to 1,000 tokens under one key (class 1: None); every item has its own reason.

        Args:
            reference: the vending key.
            items: what is asked for.
            askers: for whom each item is, for the module's log; none if nobody is named.

        Raises:
            HsmError: the batch as a whole failed; see its class for whether a retry helps.
        """
        return list(map(Issued.unpack, *await self._batch(Kind.ISSUE, Operation.ISSUE, reference, items, askers)))

    async def verify(
        self, reference: KeyReference | None, items: Sequence[VerifyItem], askers: Sequence[Asker] = ()
    ) -> list[Verified]:
        """Verify up to 1,000 token numbers under one key (class 1: None). Raises as :meth:`issue`."""
        return list(map(Verified.unpack, *await self._batch(Kind.VERIFY, Operation.VERIFY, reference, items, askers)))

    async def key_change(
        self, old: KeyReference, items: Sequence[KeyChangeItem], askers: Sequence[Asker] = ()
    ) -> list[KeyChanged]:
        """Make key-change sets under the old key. Raises as :meth:`issue`."""
        answers = await self._batch(Kind.KEY_CHANGE, Operation.KEY_CHANGE, old, items, askers)
        return list(map(KeyChanged.unpack, *answers))

    async def checkpoint(self) -> bytes:
        """Have the log's present state signed; return the checkpoint, a C2SP signed note. Raises as :meth:`issue`."""
        return await self._ask(Kind.CHECKPOINT, b"")

    async def cosignatures(self, checkpoint: bytes) -> None:
        """Hand over a checkpoint that witnesses have cosigned.

        Raises:
            CosignaturesRefused: it is not of this module's log, or no witness of the module's policy cosigned it.
            HsmError: as :meth:`issue`.
        """
        await self._ask(Kind.COSIGNATURES, checkpoint)

    async def check_value(self, reference: KeyReference) -> CheckValue:
        """Have the module prove a key afresh. Raises as :meth:`issue`."""
        request = pack_request(Operation.CHECK_VALUE)
        answer = await self._ask(Kind.CHECK_VALUE, frames.pack_body(reference, request))
        return CheckValue.unpack(answer[HEADER_LENGTH:])

    async def status(self) -> ModuleStatus:
        """Ask the module what it is. Raises as :meth:`issue`."""
        return ModuleStatus.unpack(await self._ask(Kind.STATUS, b""))

    async def audit_key(self) -> bytes:
        """Return the public half of the key that signs the log, 32 octets; raises as :meth:`issue`."""
        answer = await self._ask(Kind.AUDIT_KEY, frames.pack_body(None, pack_request(Operation.AUDIT_KEY)))
        found = AuditKey.unpack(answer[HEADER_LENGTH:])
        if found.reason is not Reason.OK:
            raise ModuleRefusal(found.reason)
        return found.public

    async def officers(self) -> Enrolment | None:
        """Return the officers of the token; None if it has none. Raises as :meth:`issue`."""
        answer = await self._ask(Kind.OFFICERS, frames.pack_body(None, pack_request(Operation.OFFICERS)))
        reason = Reason(int.from_bytes(answer[HEADER_LENGTH : HEADER_LENGTH + 2], "big"))
        return Enrolment.unpack(answer[HEADER_LENGTH + 8 :]) if reason is Reason.OK else None

    async def mandate(self) -> Mandate:
        """Return the lease and the policy that the module has. Raises as :meth:`issue`."""
        answer = await self._ask(Kind.MANDATE, frames.pack_body(None, pack_request(Operation.MANDATE)))
        return Mandate.unpack(answer[HEADER_LENGTH:])

    async def present_lease(self, item: PresentedLease) -> None:
        """Present a lease that officers have signed.

        Raises:
            ModuleRefusal: the module does not take it.
            HsmError: as :meth:`issue`.
        """
        reason = Reason(int.from_bytes(await self._ask(Kind.LEASE, item.pack()), "big"))
        if reason is not Reason.OK:
            raise ModuleRefusal(reason)

    async def keys(self) -> list[VendingKey]:
        """List the vending keys, ordered by reference. Raises as :meth:`issue`."""
        labels = frames.unpack_labels(await self._ask(Kind.KEYS, b""))
        return sorted((VendingKey.from_label(label) for label in labels), key=lambda key: str(key.reference))

    @property
    def is_connected(self) -> bool:
        """Whether a connection stands at this moment."""
        return self._connection is not None and self._connection.is_open

    async def close(self) -> None:
        """Close the connection; requests under way fail as ModuleInterrupted."""
        if self._connection is not None:
            self._connection.close()
            # The transport tells of its end in the next turn of the loop.
            await asyncio.sleep(0)

    async def _batch(
        self,
        kind: Kind,
        operation: Operation,
        reference: KeyReference | None,
        items: Sequence[IssueItem] | Sequence[VerifyItem] | Sequence[KeyChangeItem],
        askers: Sequence[Asker],
    ) -> tuple[list[bytes], list[int | None]]:
        if askers and len(askers) != len(items):
            raise AssertionError("one asker for each item")
        named = frames.pack_askers(askers) if askers else frames.LENGTH.pack(0)
        body = frames.pack_body(reference, named + pack_request(operation, items))
        answer, indices = frames.part_indices(await self._ask(kind, body), len(items))
        return split_answer(operation, answer, len(items)), indices

    async def _ask(self, kind: Kind, body: bytes) -> bytes:
        if self._in_flight >= self._in_flight_max:
            raise ModuleBusy(f"{self._in_flight_max} requests wait for the module")
        self._in_flight += 1
        try:
            connection = await self._connect()
            answer = await self._exchange(connection, Frame(kind=kind, correlation=next(self._correlations), body=body))
        finally:
            self._in_flight -= 1
        self.generation = answer.generation
        if answer.kind is Kind.ERROR:
            raise frames.unpack_error(answer.body)
        if answer.kind is not kind:
            raise FrameInvalid("the module answered something else than was asked")
        return answer.body

    async def _exchange(self, connection: _Connection, frame: Frame) -> Frame:
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await connection.send(frame)
        except TimeoutError:
            raise ModuleTimeout(f"the module did not answer within {self._answer_seconds} s") from None
        finally:
            connection.pending.pop(frame.correlation, None)

    async def _connect(self) -> _Connection:
        if self._connection is not None and self._connection.is_open:
            return self._connection
        async with self._connecting:
            if self._connection is not None and self._connection.is_open:
                return self._connection
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(self._answer_seconds):
                    _, connection = await loop.create_unix_connection(_Connection, str(self._socket))
            except (OSError, TimeoutError) as error:
                raise ModuleUnavailable(f"no module process at its socket: {type(error).__name__}") from None
            if not connection.is_open:
                raise ModuleUnavailable("the module process closed the connection at once")
            self.peer_user = connection.peer_user
            self._connection = connection
            self.connections += 1
            return connection
