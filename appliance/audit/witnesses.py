"""Brings the module's checkpoints to witnesses, and their cosignatures to the module.

The module process has no network; this appliance has. It can withhold cosignatures, which stops what waits for them,
but it can neither make one nor pass off an old one: the module process checks them against a policy of its own.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog

from appliance.config import WitnessSettings
from appliance.errors import ConfigurationInvalid
from hsm.client import ModuleClient
from hsm.errors import HsmError
from hsm.log.checkpoints import CHECKPOINT, Checkpoint
from hsm.log.errors import LogError, PolicyInvalid
from hsm.log.merkle import consistency_proof
from hsm.log.notes import NOTE_MAX, Note
from hsm.log.policy import Witness, WitnessPolicy
from hsm.log.tiles import TileReader, read_regular
from hsm.log.witnessing import PATH, SIZE_TYPE, AddCheckpoint, parse_cosignatures

logger = structlog.get_logger("keywatt.witnesses")
_POLL_SECONDS = 0.5
_BACKOFF_FIRST = 1.0
_BACKOFF_MAX = 60.0
_ALARM_HINT = "Stop the module and call the auditors: the log was put back, or there are two of it."


class _NotCosignedError(Exception):
    """What was the matter with a witness; ``alarming`` if it speaks against the log."""

    def __init__(self, what: str, *, alarming: bool = False) -> None:
        super().__init__(what)
        self.alarming = alarming


@dataclass(slots=True)
class _State:
    """What is known of one witness: the size that it saw last, what it cosigned last and when, what ails it."""

    name: str
    witness: Witness
    size: int = 0
    cosigned: str = ""
    cosigned_at: float = 0.0
    trouble: str = ""
    backoff: float = 0.0


class WitnessRounds:
    """Takes every new checkpoint to all witnesses that have an address, and an old one again before it is stale.

    Args:
        folder: the module's log, readable.
        client: the way to the module.
        settings: see WitnessSettings.
    """

    def __init__(self, folder: Path, client: ModuleClient, settings: WitnessSettings) -> None:
        """Read the policy; raises ConfigurationInvalid."""
        self._folder = folder
        self._client = client
        self._settings = settings
        try:
            policy = WitnessPolicy.parse(settings.policy.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, PolicyInvalid) as error:
            raise ConfigurationInvalid(f"audit.witnesses.policy: {settings.policy}: {error}") from error
        try:
            self._tls = ssl.create_default_context(cafile=settings.ca)
        except OSError as error:
            raise ConfigurationInvalid(f"audit.witnesses.ca: {settings.ca}: {error}") from error
        self._pinned: tuple[Note, float] | None = None
        self._states = [_State(name, one) for name, one in policy.witnesses.items() if one.url is not None]

    async def run(self) -> None:
        """Go round until cancelled. Of several appliance processes on one log, one does it at a time."""
        async with self._alone(), self._http() as http, asyncio.TaskGroup() as tasks:
            logger.info("witnesses", names=[state.name for state in self._states])
            for state in self._states:
                tasks.create_task(self._attend(http, state))

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        # The folder itself is the lock: this user can write nothing in it.
        while (descriptor := self._take_lock()) is None:  # noqa: ASYNC110 - another process tells no event of ours
            await asyncio.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            os.close(descriptor)

    def _take_lock(self) -> int | None:
        try:
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            # The audit service says so to whoever asks.
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    def _http(self) -> httpx.AsyncClient:
        # No proxy of the environment, no redirect: the policy alone says where checkpoints go.
        return httpx.AsyncClient(
            verify=self._tls, trust_env=False, follow_redirects=False, timeout=self._settings.timeout_seconds
        )

    async def _attend(self, http: httpx.AsyncClient, state: _State) -> None:
        """Keep one witness up to date, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                note = await self._target()
                is_stale = loop.time() - state.cosigned_at > self._settings.refresh_seconds
                if note.text != state.cosigned or is_stale:
                    async with asyncio.timeout(self._settings.timeout_seconds):
                        await self._cosign(http, state, note)
                    state.cosigned, state.cosigned_at = note.text, loop.time()
                    _well(state)
                await asyncio.sleep(_POLL_SECONDS)
            except (_NotCosignedError, httpx.HTTPError, httpx.InvalidURL, HsmError, LogError, OSError) as error:
                _ail(state, error)
                state.backoff = min(max(state.backoff * 2, _BACKOFF_FIRST), _BACKOFF_MAX)
                await asyncio.sleep(state.backoff)
            except Exception as error:  # noqa: BLE001 - one witness that surprises must not end the others
                _ail(state, _NotCosignedError(f"unexpected: {type(error).__name__}"))
                await asyncio.sleep(_BACKOFF_MAX)

    async def _target(self) -> Note:
        """Return the checkpoint that all witnesses are to cosign now: a quorum counts on one and the same.

        The next one is taken when all who can be reached have cosigned this one, or have had their time.
        """
        newest = await asyncio.to_thread(self._newest)
        now = asyncio.get_running_loop().time()
        pinned, since = self._pinned or (newest, now)
        is_done = all(state.cosigned == pinned.text or state.trouble for state in self._states)
        if self._pinned is None or (
            newest.text != pinned.text and (is_done or now - since > self._settings.timeout_seconds)
        ):
            pinned, since = newest, now
            self._pinned = pinned, since
        return pinned

    def _newest(self) -> Note:
        """Return the newest checkpoint with the log's own signature alone. Blocking."""
        note = Note.parse(read_regular(self._folder / CHECKPOINT, NOTE_MAX))
        origin = Checkpoint.parse(note.text).origin
        return Note(text=note.text, signatures=tuple(one for one in note.signatures if one.name == origin))

    async def _cosign(self, http: httpx.AsyncClient, state: _State, note: Note) -> None:
        """Have one witness cosign a checkpoint, and hand that to the module."""
        checkpoint = Checkpoint.parse(note.text)
        status, kind, body = await self._submit(http, state, checkpoint, note)
        if status == httpx.codes.CONFLICT and kind == SIZE_TYPE:
            state.size = await self._size_of(body, checkpoint)
            status, kind, body = await self._submit(http, state, checkpoint, note)
            if status == httpx.codes.CONFLICT and state.size == checkpoint.size:
                raise _NotCosignedError("it saw another history of this size", alarming=True)
        if status == httpx.codes.UNPROCESSABLE_ENTITY:
            raise _NotCosignedError("it finds the log inconsistent with what it saw before", alarming=True)
        if status != httpx.codes.OK:
            raise _NotCosignedError(f"it answers {status}")
        cosignature = parse_cosignatures(body, note.text, state.witness.key)
        state.size = checkpoint.size
        await self._client.cosignatures(note.merged([cosignature]).pack())

    async def _size_of(self, body: bytes, checkpoint: Checkpoint) -> int:
        text = body.decode("ascii", "replace").strip()
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise _NotCosignedError("it does not say which size it saw")
        size = int(text)
        if size > checkpoint.size:
            newest = Checkpoint.parse((await asyncio.to_thread(self._newest)).text)
            if size > newest.size:
                what = f"it saw this log with {size} entries, now it has {newest.size}"
                raise _NotCosignedError(what, alarming=True)
            raise _NotCosignedError("it saw a newer checkpoint already")
        return size

    async def _submit(
        self, http: httpx.AsyncClient, state: _State, checkpoint: Checkpoint, note: Note
    ) -> tuple[int, str, bytes]:
        """Return status, content type and body of a witness's answer."""
        old = min(state.size, checkpoint.size)
        proof = await asyncio.to_thread(self._proof, old, checkpoint.size)
        request = AddCheckpoint(old=old, proof=tuple(proof), checkpoint=note)
        body = bytearray()
        async with http.stream("POST", f"{state.witness.url}{PATH}", content=request.pack()) as response:
            async for part in response.aiter_bytes():
                body += part
                if len(body) > NOTE_MAX:
                    raise _NotCosignedError("its answer is too long")
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            return response.status_code, kind, bytes(body)

    def _proof(self, old: int, size: int) -> list[bytes]:
        return consistency_proof(old, size, TileReader(self._folder, size).node) if 0 < old < size else []


def _ail(state: _State, error: Exception) -> None:
    what = str(error) or type(error).__name__
    alarming = isinstance(error, _NotCosignedError) and error.alarming
    if alarming:
        # At every attempt: this is what witnesses are for.
        logger.error("witness-speaks-against-log", witness=state.name, what=what, hint=_ALARM_HINT)
    elif what != state.trouble:
        logger.warning("witness-does-not-cosign", witness=state.name, what=what)
    state.trouble = what


def _well(state: _State) -> None:
    if state.trouble:
        logger.info("witness-cosigns-again", witness=state.name)
    state.trouble, state.backoff = "", 0.0
