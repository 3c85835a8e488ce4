"""The lease to vend, as the worker keeps it: presented at every login, written into the log, never an older one.

The functionality module judges signatures and time; it forgets a lease that no ceremony put into the token when it is
logged out, and the time that it knew. What is here makes it hear again of the lease that was presented last, and keeps
a time that does not go back: not behind the clock, nor by setting it back, nor by starting anew. Before anything is
issued some seconds of that time are spent on the disk; a start begins with what was spent.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from hsm.errors import FrameInvalid, LogUnavailable, ModuleFault
from hsm.log import leaves
from hsm.log.durable import replace_file
from hsm.log.errors import LeafInvalid, LogDamaged
from hsm.log.tiles import read_regular
from hsm.mandate import Lease, Mandate, PresentedLease
from hsm.reasons import Reason
from hsm.requests import HEADER_LENGTH, CheckValue, Operation, pack_request
from hsm.session import ModuleSession

FILE = "lease"
"""Beside the log: the item that was presented last."""
SPENT = "lease-time"
"""Beside the log: the greatest number, and how late it is (``LeaseTime``)."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MILLISECONDS = 60_000
_FILE_MAX = 64 * 1024
_BACKWARD_SECONDS = 600
_AHEAD_SECONDS = 10
_IDLE_SECONDS = 60
_AGAIN_SECONDS = 5.0
_ISSUING = frozenset({Operation.ISSUE, Operation.KEY_CHANGE})


def _uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTime:
    """What is durable of a lease: written as one, before anything is issued under it.

    Args:
        number: the greatest that was ever in force.
        now: seconds since 1970 UTC when it was written.
        uptime: of the machine, at that moment.
        boot: which start of the machine it was.
    """

    number: int
    now: float
    uptime: float
    boot: str

    def pack(self) -> bytes:
        """Return its line."""
        return f"{self.number} {self.now:.3f} {self.uptime:.3f} {self.boot}\n".encode()

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the file; None if there is none. Raises OSError or ValueError."""
        try:
            words = read_regular(folder / SPENT, 256).decode("ascii").split()
        except FileNotFoundError:
            return None
        if len(words) != 4 or not all(math.isfinite(float(word)) for word in words[:3]):
            raise ValueError("lease-time is not what a worker writes")
        return cls(number=int(words[0]), now=float(words[1]), uptime=float(words[2]), boot=words[3])

    def floor(self, uptime: float, boot: str) -> float:
        """Return how late it is at the least: to the second while the machine runs, else what may have been used."""
        return self.now + uptime - self.uptime if boot == self.boot else self.now + _AHEAD_SECONDS


def boot_id() -> str:
    """Return which start of the machine this is."""
    return _BOOT_ID.read_text("ascii").strip()


class LeaseClock:
    """A clock that never goes back: the later of the wall's and of one that nobody sets.

    Args:
        floor: seconds since 1970 UTC that are known to have passed.
        wall: the clock on the wall.
        uptime: seconds since the machine started.
    """

    def __init__(
        self, floor: float, *, wall: Callable[[], float] = time.time, uptime: Callable[[], float] = _uptime
    ) -> None:
        self._wall = wall
        self._uptime = uptime
        self.put(floor)

    def put(self, seconds: float) -> None:
        """Begin anew at a time."""
        self._anchor, self._anchor_uptime = seconds, self._uptime()

    @property
    def uptime(self) -> float:
        """Seconds since the machine started."""
        return self._uptime()

    @property
    def now(self) -> float:
        """Seconds since 1970 UTC."""
        wall, uptime = self._wall(), self._uptime()
        ahead = self._anchor + uptime - self._anchor_uptime
        if wall < ahead:
            return ahead
        self._anchor, self._anchor_uptime = wall, uptime
        return wall

    @property
    def is_behind(self) -> bool:
        """Whether the clock on the wall is so far behind that nothing may be issued by it."""
        return self._wall() + _BACKWARD_SECONDS < self.now


class LeaseMemory:
    """What the worker knows of leases.

    Args:
        folder: of the log.
        facts: what the log's writer keeps durable.
        last: the last entry of the log when it was opened.
        log: writes a line of the worker's own log.
        clock: makes a clock from what is known to have passed.
        boot: tells which start of the machine this is.
    """

    def __init__(
        self,
        folder: Path,
        facts: Mapping[str, Any],
        last: bytes | None,
        log: Callable[..., None],
        clock: Callable[[float], LeaseClock] = LeaseClock,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        """Begin with what was durable; raises LogDamaged."""
        self._folder = folder
        self._log = log
        self._refusal = ""
        self._again_at = 0.0
        kept = facts.get("lease", {})
        try:
            self._boot = boot()
            self._clock = clock(60.0 * int(kept.get("latest", 0)))
            durable = LeaseTime.read(folder)
            self.number = max(int(kept.get("number", 0)), 0 if durable is None else durable.number)
            floors = [] if durable is None else [durable.floor(self._clock.uptime, self._boot)]
            if last is not None:
                floors.append(leaves.decode(last)["time"] / 1000)
        except OSError as error:
            raise LogDamaged(f"{SPENT}: {error.strerror}") from None
        except (TypeError, ValueError, AttributeError, LeafInvalid):
            raise LogDamaged("state.json, lease-time or the last entry is not what a writer leaves") from None
        self._clock.put(max([self._clock.now, *floors]))
        self._spent = 0.0
        self._lease: Lease | None = None

    def facts(self) -> dict[str, int]:
        """Return what is to be kept: the greatest number, and the latest minute, since 1970 UTC."""
        return {"number": self.number, "latest": int(self._clock.now // 60)}

    def present(self, session: ModuleSession, octets: bytes) -> tuple[Reason, PresentedLease]:
        """Present a lease to the module; a new one begins the count of time anew. Raises HsmError."""
        item = PresentedLease.unpack(octets)
        if item.lease.number < self.number:
            return Reason.LEASE_OUTDATED, item
        # What the caller says of the time is not believed: it is known here.
        item = replace(item, latest=int(self._clock.now // 60), is_new=item.lease.number > self.number)
        answer = session.operate(Operation.PRESENT_LEASE, pack_request(Operation.PRESENT_LEASE, [item]))
        reason = CheckValue.unpack(answer[HEADER_LENGTH:]).reason
        if reason is Reason.OK:
            self.look(session)
        return reason, item

    def recall(self, session: ModuleSession) -> None:
        """Present at a login what was presented before, from beside the log; what goes wrong is told of once.

        Raises:
            HsmError: the module failed, or the time cannot be written down.
        """
        refusal = ""
        kept = self.look(session).lease
        try:
            octets = read_regular(self._folder / FILE, _FILE_MAX)
            # One that a ceremony put into the token since has taken its place.
            if kept is None or PresentedLease.unpack(octets).lease.number >= kept.number:
                reason, _ = self.present(session, octets)
                refusal = "" if reason is Reason.OK else reason.name
        except FileNotFoundError:
            pass
        except FrameInvalid as error:
            refusal = error.reason
        except OSError as error:
            refusal = str(error.strerror)
        self.look(session)
        if refusal and refusal != self._refusal:
            self._log("lease-not-recalled", reason=refusal)
        self._refusal = refusal

    def tick(self, session: ModuleSession) -> None:
        """Keep the time, and present again what was not taken: a clock that was wrong at the start may be right now.

        Raises:
            HsmError: the module failed.
        """
        now = time.monotonic()
        if now < self._again_at:
            return
        self._again_at = now + _AGAIN_SECONDS
        try:
            self._keep()
            if self._is_behind:
                self.recall(session)
        except LogUnavailable as error:
            self._log("lease-time-not-kept", detail=error)

    @property
    def _is_behind(self) -> bool:
        return self.number > (0 if self._lease is None else self._lease.number)

    def look(self, session: ModuleSession) -> Mandate:
        """Learn what the module has now; a lease with a greater number says anew what time it is.

        Raises:
            ModuleFault: the module failed, or what is new cannot be written down: this worker must end.
        """
        mandate = mandate_of(session)
        self._lease = mandate.lease
        if mandate.lease is not None and mandate.lease.number > self.number:
            self.number = mandate.lease.number
            self._clock.put(60.0 * mandate.lease.valid_from)
            try:
                self._spend()
            except LogUnavailable as error:
                # Else it would count as new once more, and its time begin anew, whenever a worker starts.
                raise ModuleFault(str(error)) from error
        return mandate

    def refuses(self, operation: Operation) -> Reason | None:
        """Tell why nothing of this kind may be done; None if the module is to judge. Spends time.

        Raises:
            LogUnavailable: the time that this takes cannot be written down.
        """
        if operation not in _ISSUING:
            return None
        lease = self._lease
        if self._is_behind:
            return Reason.LEASE_OUTDATED
        if lease is None:
            return None
        now = self._clock.now
        if now >= 60 * lease.valid_until:
            # That it is over is known from now on, also to whoever starts after this.
            self._keep()
            return Reason.LEASE_OVER
        if self._clock.is_behind:
            return Reason.LEASE_CLOCK
        if now >= self._spent:
            self._spend()
        return None

    def _keep(self) -> None:
        """Write down, once in a while, how late it is, though nothing is issued. Raises LogUnavailable."""
        if self._lease is not None and self._clock.now >= self._spent + _IDLE_SECONDS:
            self._spend()

    def _spend(self) -> None:
        now = self._clock.now
        durable = LeaseTime(number=self.number, now=now, uptime=self._clock.uptime, boot=self._boot)
        try:
            replace_file(self._folder / SPENT, durable.pack())
        except OSError as error:
            raise LogUnavailable(f"the time of the lease cannot be written: {error.strerror}") from error
        self._spent = now + _AHEAD_SECONDS


def mandate_of(session: ModuleSession) -> Mandate:
    """Ask the module for its mandate. Raises HsmError."""
    return Mandate.unpack(session.operate(Operation.MANDATE, pack_request(Operation.MANDATE))[HEADER_LENGTH:])


def said_of(item: PresentedLease) -> dict[str, object]:
    """Return what the log says of a lease that was accepted."""
    lease = item.lease
    return {
        "number": lease.number,
        "from": lease.valid_from * _MILLISECONDS,
        "until": lease.valid_until * _MILLISECONDS,
        "keys": [one.key.hex() for one in item.signatures],
        "presented": hashlib.sha256(replace(item, latest=0, is_new=False).pack()).hexdigest(),
    }
