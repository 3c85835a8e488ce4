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

from hsm import frames
from hsm.errors import FrameInvalid, HsmError, ModuleBusy, ModuleInterrupted, ModuleTimeout, ModuleUnavailable
from hsm.frames import Frame, Kind
from hsm.keys import KeyReference, VendingKey
from hsm.requests import (
    HEADER_LENGTH,
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
        self._pending: dict[int, asyncio.Future[Frame]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reader_task: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self.connections = 0
        """How often a connection was made; each one after the first is a reconnect."""
        self.peer_user: int | None = None
        """System user of the module process, once connected."""

    async def issue(self, reference: KeyReference | None, items: Sequence[IssueItem]) -> list[Issued]:
        """Issue up to 1,000 tokens under one key (class 1: None); every item has its own reason.

        Raises:
            HsmError: the batch as a whole failed; see its class for whether a retry helps.
        """
        answers = await self._batch(Kind.ISSUE, Operation.ISSUE, reference, items)
        return [Issued.unpack(answer) for answer in answers]

    async def verify(self, reference: KeyReference | None, items: Sequence[VerifyItem]) -> list[Verified]:
        """Verify up to 1,000 token numbers under one key (class 1: None). Raises as :meth:`issue`."""
        answers = await self._batch(Kind.VERIFY, Operation.VERIFY, reference, items)
        return [Verified.unpack(answer) for answer in answers]

    async def key_change(self, old: KeyReference, items: Sequence[KeyChangeItem]) -> list[KeyChanged]:
        """Make key-change sets under the old key. Raises as :meth:`issue`."""
        answers = await self._batch(Kind.KEY_CHANGE, Operation.KEY_CHANGE, old, items)
        return [KeyChanged.unpack(answer) for answer in answers]

    async def check_value(self, reference: KeyReference) -> CheckValue:
        """Have the module prove a key afresh. Raises as :meth:`issue`."""
        request = pack_request(Operation.CHECK_VALUE)
        answer = await self._ask(Kind.CHECK_VALUE, frames.pack_body(reference, request))
        return CheckValue.unpack(answer[HEADER_LENGTH:])

    async def status(self) -> ModuleStatus:
        """Ask the module what it is. Raises as :meth:`issue`."""
        return ModuleStatus.unpack(await self._ask(Kind.STATUS, b""))

    async def keys(self) -> list[VendingKey]:
        """List the vending keys, ordered by reference. Raises as :meth:`issue`."""
        labels = frames.unpack_labels(await self._ask(Kind.KEYS, b""))
        return sorted((VendingKey.from_label(label) for label in labels), key=lambda key: str(key.reference))

    @property
    def is_connected(self) -> bool:
        """Whether a connection stands at this moment."""
        return self._writer is not None

    async def close(self) -> None:
        """Close the connection; requests under way fail as ModuleInterrupted."""
        if self._reader_task is not None:
            self._reader_task.cancel()
            await asyncio.gather(self._reader_task, return_exceptions=True)
        self._disconnect(self._writer)

    async def _batch(
        self,
        kind: Kind,
        operation: Operation,
        reference: KeyReference | None,
        items: Sequence[IssueItem] | Sequence[VerifyItem] | Sequence[KeyChangeItem],
    ) -> list[bytes]:
        body = frames.pack_body(reference, pack_request(operation, items))
        return split_answer(operation, await self._ask(kind, body), len(items))

    async def _ask(self, kind: Kind, body: bytes) -> bytes:
        if len(self._pending) >= self._in_flight_max:
            raise ModuleBusy(f"{self._in_flight_max} requests wait for the module")
        correlation = next(self._correlations)
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._pending[correlation] = future
        writer: asyncio.StreamWriter | None = None
        try:
            writer = await self._connect()
            writer.write(Frame(kind=kind, correlation=correlation, body=body).pack())
            async with asyncio.timeout(self._answer_seconds):
                await writer.drain()
                answer = await future
        except TimeoutError:
            raise ModuleTimeout(f"the module did not answer within {self._answer_seconds} s") from None
        except OSError:
            self._disconnect(writer)
            raise ModuleInterrupted("the connection to the module broke") from None
        finally:
            self._pending.pop(correlation, None)
        if answer.kind is Kind.ERROR:
            raise frames.unpack_error(answer.body)
        if answer.kind is not kind:
            raise FrameInvalid("the module answered something else than was asked")
        return answer.body

    async def _connect(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is not None:
                return self._writer
            try:
                async with asyncio.timeout(self._answer_seconds):
                    reader, writer = await asyncio.open_unix_connection(self._socket)
            except (OSError, TimeoutError) as error:
                raise ModuleUnavailable(f"no module process at its socket: {type(error).__name__}") from None
            raw = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            self.peer_user = struct.unpack("=iII", raw)[1]
            self._writer = writer
            self.connections += 1
            self._reader_task = asyncio.create_task(self._read(reader, writer))
            return writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = frames.check_length(await reader.readexactly(frames.LENGTH.size))
                frame = Frame.unpack(await reader.readexactly(length))
                future = self._pending.get(frame.correlation)
                if future is not None and not future.done():
                    future.set_result(frame)
        except (asyncio.IncompleteReadError, OSError, HsmError):
            pass
        finally:
            self._disconnect(writer)

    def _disconnect(self, writer: asyncio.StreamWriter | None) -> None:
        """Give up a connection and what waits on it; one that was given up before is left alone."""
        if writer is None or self._writer is not writer:
            return
        self._writer = None
        writer.close()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(ModuleInterrupted("the module process went away"))
