"""Going round to witnesses that answer late, wrong, too much, or speak against the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from appliance.audit import witnesses
from appliance.audit.witnesses import WitnessRounds
from appliance.config import WitnessSettings
from appliance.errors import ConfigurationInvalid
from hsm.errors import CosignaturesRefused, ModuleUnavailable
from hsm.log.checkpoints import CHECKPOINT, Checkpoint
from hsm.log.notes import COSIGNATURE, Note
from hsm.log.witnessing import AddCheckpoint, WitnessService, WitnessState
from hsm.log.writer import LogWriter
from tests.log.support import SIGNER, Signer, leaf, publish

Reply = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class PlayedWitness:
    """A witness at a port, that does what it is told to, and for the rest is honest."""

    def __init__(self, name: str, seed: int, folder: Path) -> None:
        folder.mkdir()
        self.signer = Signer.make(name, COSIGNATURE, seed=seed)
        self.service = WitnessService(name, self.signer.private, [SIGNER.key], WitnessState(folder))
        self.reply: Reply | None = None
        self.requests: list[AddCheckpoint] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert head.startswith("post /prefix/add-checkpoint ")
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            body = await reader.readexactly(length)
            self.requests.append(AddCheckpoint.parse(body))
            if self.reply is not None:
                await self.reply(body, writer)
            else:
                answer = self.service.add_checkpoint(body)
                await send(writer, answer.status, answer.body, answer.content_type)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @property
    def policy_line(self) -> str:
        return f"witness {self.signer.key.name} {self.signer.key} http://127.0.0.1:{self.port}/prefix\n"


async def send(
    writer: asyncio.StreamWriter, status: int, body: bytes, kind: str = "text/plain", more: str = ""
) -> None:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


def status(code: int, body: bytes = b"", kind: str = "text/plain", more: str = "") -> Reply:
    async def reply(_: bytes, writer: asyncio.StreamWriter) -> None:
        await send(writer, code, body, kind, more)

    return reply


async def hang(_: bytes, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def drip(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 10000\r\n\r\n")
    for _ in range(300):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.1)


async def close(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def flood(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 100000000\r\n\r\n")
    for _ in range(1000):
        writer.write(bytes(100_000))
        await writer.drain()


async def speak_no_http(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-rubbish\r\n")
    await writer.drain()


def sign_another(signer: Signer) -> Reply:
    async def reply(body: bytes, writer: asyncio.StreamWriter) -> None:
        text = AddCheckpoint.parse(body).checkpoint.text
        await send(writer, 200, str(signer.sign(text + "x\n")).encode())

    return reply


def sign_as_stranger() -> Reply:
    async def reply(body: bytes, writer: asyncio.StreamWriter) -> None:
        signer = Signer.make("stranger", COSIGNATURE, seed=99)
        await send(writer, 200, str(signer.sign(AddCheckpoint.parse(body).checkpoint.text)).encode())

    return reply


class PlayedModule:
    """Takes cosigned checkpoints, or does not."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.error: Exception | None = None

    async def cosignatures(self, octets: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.notes.append(Note.parse(octets))

    def has(self, witness: PlayedWitness, size: int = 0) -> bool:
        return any(
            note.cosigned(witness.signer.key) and Checkpoint.parse(note.text).size >= size for note in self.notes
        )


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer = LogWriter.open(folder / "log")
        self.grow(300)
        self.module = PlayedModule()
        self.witnesses: dict[str, PlayedWitness] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def grow(self, count: int) -> Note:
        self.writer.append([leaf(self.writer.size + place) for place in range(count)])
        return publish(self.writer)

    async def witness(self, name: str, reply: Reply | None = None) -> PlayedWitness:
        made = PlayedWitness(name, 100 + len(self.witnesses), self.folder / name)
        made.reply = reply
        await made.start()
        self.witnesses[name] = made
        return made

    def rounds(self, **more: Any) -> WitnessRounds:
        policy = self.folder / "policy"
        policy.write_text("".join(one.policy_line for one in self.witnesses.values()) + "quorum none\n")
        settings = WitnessSettings(policy=policy, timeout_seconds=1, **more)
        return WitnessRounds(self.folder / "log", self.module, settings)  # type: ignore[arg-type]  # played

    def run(self, rounds: WitnessRounds) -> asyncio.Task[None]:
        self._tasks.append(asyncio.create_task(rounds.run()))
        return self._tasks[-1]

    async def until(self, condition: Callable[[], bool], seconds: float = 15) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - a test
                await asyncio.sleep(0.05)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for witness in self.witnesses.values():
            await witness.stop()
        self.writer.close()


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(witnesses, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(witnesses, "_BACKOFF_FIRST", 0.2)
    monkeypatch.setattr(witnesses, "_BACKOFF_MAX", 1.0)
    made = World(tmp_path)
    yield made
    await made.end()


async def test_every_checkpoint_is_cosigned_as_the_log_grows(world: World) -> None:
    one, other = await world.witness("one"), await world.witness("other")
    world.run(world.rounds())
    for _ in range(3):
        size = Checkpoint.parse(world.grow(250).text).size
        await world.until(lambda size=size: world.module.has(one, size) and world.module.has(other, size))  # type: ignore[misc]
    # It went on from what they knew, without being told.
    assert one.requests[0].old == 0
    assert all(request.proof for request in one.requests[1:])
    assert {signature.name for signature in one.requests[0].checkpoint.signatures} == {SIGNER.key.name}


async def test_a_witness_that_saw_the_log_before_is_asked_from_there(world: World) -> None:
    one = await world.witness("one")
    note = Note.parse((world.folder / "log" / CHECKPOINT).read_bytes())
    assert one.service.add_checkpoint(AddCheckpoint(old=0, proof=(), checkpoint=note).pack()).status == 200
    world.grow(77)
    world.run(world.rounds())
    await world.until(lambda: world.module.has(one, 377))
    assert [request.old for request in one.requests] == [0, 300]


async def test_a_quorum_is_reached_though_checkpoints_change_faster_than_witnesses_answer(world: World) -> None:
    slow, fast = await world.witness("slow"), await world.witness("fast")

    async def reply_late(body: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.4)
        answer = slow.service.add_checkpoint(body)
        await send(writer, answer.status, answer.body, answer.content_type)

    slow.reply = reply_late
    world.run(world.rounds())

    def both() -> set[str]:
        cosigned = {
            name: {note.text for note in world.module.notes if note.cosigned(one.signer.key)}
            for name, one in (("slow", slow), ("fast", fast))
        }
        return cosigned["slow"] & cosigned["fast"]

    end = asyncio.get_running_loop().time() + 15
    while len(both()) < 3:
        assert asyncio.get_running_loop().time() < end
        world.grow(1)
        await asyncio.sleep(0.03)


async def test_an_idle_log_is_cosigned_anew(world: World) -> None:
    one = await world.witness("one")
    world.run(world.rounds(refresh_seconds=1))
    await world.until(lambda: len(world.module.notes) >= 3)
    assert {Checkpoint.parse(note.text).size for note in world.module.notes} == {300}
    assert len(one.requests) == len(world.module.notes)


async def test_bad_witnesses_hold_up_nobody_and_may_come_to_their_senses(world: World) -> None:
    good = await world.witness("good")
    liar = Signer.make("liar", COSIGNATURE, seed=150)
    replies: dict[str, Reply] = {
        "fails": status(500),
        "knows-nobody": status(404),
        "believes-nobody": status(403),
        "sends-elsewhere": status(307, more=f"Location: http://127.0.0.1:{good.port}/prefix/add-checkpoint\r\n"),
        "says-nothing": status(200),
        "says-rubbish": status(200, b"\xff\x00rubbish"),
        "signs-as-stranger": sign_as_stranger(),
        "signs-another": sign_another(liar),
        "hangs": hang,
        "drips": drip,
        "closes": close,
        "floods": flood,
        "no-http": speak_no_http,
        "wrong-size": status(409, b"many\n", "text/x.tlog.size"),
        "endless-size": status(409, b"1" * 5000, "text/x.tlog.size"),
        "conflict-for-ever": status(409, b"17\n", "text/x.tlog.size"),
        "plain-conflict": status(409, b"300\n"),
    }
    for name, reply in replies.items():
        await world.witness(name, reply)
    with capture_logs() as logs:
        world.run(world.rounds())
        await world.until(lambda: world.module.has(good, 300))
        size = Checkpoint.parse(world.grow(10).text).size
        await world.until(lambda: world.module.has(good, size))
        await world.until(
            lambda: {line["witness"] for line in logs if line["event"] == "witness-does-not-cosign"} == set(replies)
        )
        assert all(note.cosigned(good.signer.key) for note in world.module.notes)
        assert not [line for line in logs if line["event"] == "witness-speaks-against-log"]
        for name in replies:
            world.witnesses[name].reply = None
        await world.until(lambda: all(world.module.has(one) for one in world.witnesses.values()), 30)
        assert {line["witness"] for line in logs if line["event"] == "witness-cosigns-again"} == set(replies)
    # What ails one is said once, not at every attempt.
    said = [line["witness"] for line in logs if line["event"] == "witness-does-not-cosign"]
    assert said.count("knows-nobody") == 1


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        (status(409, b"301\n", "text/x.tlog.size"), "it saw this log with 301 entries, now it has 300"),
        (status(422, b"no\n"), "inconsistent"),
        (status(409, b"301\n", "Text/x.tlog.size; charset=utf-8"), "it saw this log with 301 entries"),
        (status(409, b"300\n", "text/x.tlog.size"), "another history"),
    ],
)
async def test_a_witness_that_speaks_against_the_log_is_heard_every_time(world: World, reply: Reply, what: str) -> None:
    await world.witness("one", reply)
    with capture_logs() as logs:
        world.run(world.rounds())
        alarms = lambda: [line for line in logs if line["event"] == "witness-speaks-against-log"]  # noqa: E731
        await world.until(lambda: len(alarms()) >= 2)
    assert all(alarm["log_level"] == "error" and what in alarm["what"] for alarm in alarms())
    assert world.module.notes == []


async def test_a_witness_ahead_of_what_was_read_is_no_alarm(world: World) -> None:
    """Another checkpoint was published and cosigned between reading and asking."""
    one = await world.witness("one")
    rounds = world.rounds()
    older = rounds._newest()
    world.grow(50)
    newer = rounds._newest()
    assert one.service.add_checkpoint(AddCheckpoint(old=0, proof=(), checkpoint=newer).pack()).status == 200
    with pytest.raises(witnesses._NotCosignedError) as refused:
        async with rounds._http() as http:
            await rounds._cosign(http, rounds._states[0], older)
    assert not refused.value.alarming


@pytest.mark.parametrize("error", [CosignaturesRefused("no"), ModuleUnavailable("away")])
async def test_a_module_that_does_not_take_them_is_offered_them_again(world: World, error: Exception) -> None:
    one = await world.witness("one")
    world.module.error = error
    with capture_logs() as logs:
        world.run(world.rounds())
        await world.until(lambda: any(line["event"] == "witness-does-not-cosign" for line in logs))
        world.module.error = None
        await world.until(lambda: world.module.has(one))


async def test_a_log_that_cannot_be_read_now_is_read_later(world: World) -> None:
    one = await world.witness("one")
    path = world.folder / "log" / CHECKPOINT
    octets = path.read_bytes()
    path.write_bytes(b"rubbish")
    with capture_logs() as logs:
        world.run(world.rounds())
        await world.until(lambda: any(line["event"] == "witness-does-not-cosign" for line in logs))
        path.unlink()
        await asyncio.sleep(0.3)
        path.write_bytes(octets)
        await world.until(lambda: world.module.has(one))


async def test_of_several_processes_one_goes_round(world: World) -> None:
    one = await world.witness("one")
    first = world.run(world.rounds(refresh_seconds=1))
    await world.until(lambda: world.module.has(one))
    second = world.rounds(refresh_seconds=1)
    world.run(second)
    await asyncio.sleep(0.5)
    assert second._states[0].size == 0
    first.cancel()
    await world.until(lambda: second._states[0].size == 300)


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    (tmp_path / "policy").write_text("rubbish")
    (tmp_path / "good").write_text("quorum none\n")
    (tmp_path / "ca").write_text("rubbish")
    for settings in (
        WitnessSettings(policy=tmp_path / "missing"),
        WitnessSettings(policy=tmp_path / "policy"),
        WitnessSettings(policy=tmp_path / "good", ca=tmp_path / "missing"),
        WitnessSettings(policy=tmp_path / "good", ca=tmp_path / "ca"),
    ):
        with pytest.raises(ConfigurationInvalid):
            WitnessRounds(tmp_path, PlayedModule(), settings)  # type: ignore[arg-type]  # played
