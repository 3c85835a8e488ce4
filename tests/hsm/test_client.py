"""The client of the module process, against a server that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop

from hsm import frames
from hsm.client import ModuleClient
from hsm.errors import FrameInvalid, ModuleBusy, ModuleInterrupted, ModuleTimeout, ModuleUnavailable, RecordInvalid
from hsm.frames import Frame, Kind

Behaviour = Callable[[Frame, asyncio.StreamWriter], Awaitable[None]]


class FakeModule:
    """Reads frames and does what it is told with them."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = self.answer_keys

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = frames.check_length(await reader.readexactly(4))
                await self.behaviour(Frame.unpack(await reader.readexactly(length)), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer_keys(self, frame: Frame, writer: asyncio.StreamWriter) -> None:
        writer.write(Frame(kind=frame.kind, correlation=frame.correlation, body=b"").pack())

    async def hang_up(self, _: Frame, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def say_nothing(self, _: Frame, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0)

    async def answer_another(self, frame: Frame, writer: asyncio.StreamWriter) -> None:
        writer.write(Frame(kind=Kind.STATUS, correlation=frame.correlation, body=b"").pack())

    async def answer_rubbish(self, _: Frame, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\xff" * 64)

    async def answer_a_strange_record(self, frame: Frame, writer: asyncio.StreamWriter) -> None:
        body = frames.pack_labels(["keywatt-vk/9 something"])
        writer.write(Frame(kind=frame.kind, correlation=frame.correlation, body=body).pack())


@pytest_asyncio.fixture
async def module(tmp_path: Path) -> AsyncIterator[FakeModule]:
    fake = FakeModule()
    server = await asyncio.start_unix_server(fake.serve, tmp_path / "socket")
    yield fake
    server.close()


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[ModuleClient]:
    client = ModuleClient(tmp_path / "socket", answer_seconds=0.3, in_flight_max=4)
    yield client
    await client.close()


async def test_nobody_there(client: ModuleClient) -> None:
    with pytest.raises(ModuleUnavailable):
        await client.keys()


async def test_reconnects_after_an_interruption(module: FakeModule, client: ModuleClient) -> None:
    assert await client.keys() == []
    module.behaviour = module.hang_up
    with pytest.raises(ModuleInterrupted):
        await client.keys()
    module.behaviour = module.answer_keys
    assert await client.keys() == []
    assert client.connections == 2
    assert client.is_connected


async def test_silence_is_a_timeout_and_the_connection_stays(module: FakeModule, client: ModuleClient) -> None:
    module.behaviour = module.say_nothing
    with pytest.raises(ModuleTimeout):
        await client.keys()
    module.behaviour = module.answer_keys
    assert await client.keys() == []
    assert client.connections == 1


async def test_back_pressure(module: FakeModule, client: ModuleClient) -> None:
    module.behaviour = module.say_nothing
    results = await asyncio.gather(*(client.keys() for _ in range(6)), return_exceptions=True)
    assert [type(result) for result in results].count(ModuleBusy) == 2
    assert [type(result) for result in results].count(ModuleTimeout) == 4
    module.behaviour = module.answer_keys
    assert await client.keys() == []


async def test_an_answer_to_another_question_is_refused(module: FakeModule, client: ModuleClient) -> None:
    module.behaviour = module.answer_another
    with pytest.raises(FrameInvalid):
        await client.keys()


async def test_rubbish_breaks_the_connection(module: FakeModule, client: ModuleClient) -> None:
    module.behaviour = module.answer_rubbish
    with pytest.raises(ModuleInterrupted):
        await client.keys()


async def test_a_record_of_another_version_is_refused(module: FakeModule, client: ModuleClient) -> None:
    module.behaviour = module.answer_a_strange_record
    with pytest.raises(RecordInvalid):
        await client.keys()


async def _call_while_it_hangs_up(path: Path) -> list[BaseException | object]:
    """Call from many tasks, some in the very turn of the loop in which the connection ends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(16)
        writer.transport.abort()

    server = await asyncio.start_unix_server(serve, path)
    client = ModuleClient(path, answer_seconds=5)
    found: list[BaseException | object] = []

    async def call() -> None:
        for turn in range(20):
            found.extend(await asyncio.gather(client.keys(), return_exceptions=True))
            for _ in range(turn % 3):
                await asyncio.sleep(0)

    await asyncio.gather(*(call() for _ in range(20)))
    await client.close()
    server.close()
    await server.wait_closed()
    return found


def test_a_connection_that_ends_is_never_an_unexpected_error(tmp_path: Path) -> None:
    # The appliance runs on uvloop, whose transports refuse a write after their end with errors of their own.
    found = uvloop.run(_call_while_it_hangs_up(tmp_path / "socket"))
    assert len(found) == 400
    assert {type(error) for error in found} <= {ModuleInterrupted, ModuleUnavailable}
