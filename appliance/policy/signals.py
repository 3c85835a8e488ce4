"""Signals of misuse: counted, told of, and refused where the policy says so.

They are counted in the memory of one appliance process, over the last minutes, and begin anew with it and with a new
policy: they are there to be looked at. What must hold through everything is a limit.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import structlog

from appliance.errors import SignalRefused
from appliance.policy import document
from appliance.policy.document import Policy, Signal
from appliance.policy.judge import Asked

logger = structlog.get_logger("keywatt.appliance")
KINDS = ("velocity", "round-amounts", "off-hours", "free-ratio", "engineering-ratio", "after-denial")
"""Every kind of signal."""
_TOLD_SECONDS = 60.0
_SUBJECTS_MAX = 200_000
_SLOTS = 60


class _Recent:
    """How often something happened, for each subject, within the last seconds; to a sixtieth of them.

    Of so many subjects as there is room for, those that were heard of longest ago are forgotten.
    """

    def __init__(self, seconds: float) -> None:
        self._slot = seconds / _SLOTS
        self._counts: OrderedDict[str, deque[list[int]]] = OrderedDict()

    def add(self, subject: str, now: float) -> None:
        slot = int(now / self._slot)
        found = self._counts.setdefault(subject, deque())
        self._counts.move_to_end(subject)
        if found and found[-1][0] == slot:
            found[-1][1] += 1
        else:
            self._drop(found, slot)
            found.append([slot, 1])
        if len(self._counts) > _SUBJECTS_MAX:
            self._counts.popitem(last=False)

    def take_back(self, subject: str) -> None:
        """Unmake the last addition of a subject."""
        found = self._counts.get(subject)
        if found:
            found[-1][1] -= 1
            if not found[-1][1]:
                found.pop()
            if not found:
                # Else what was refused would push out what was issued.
                del self._counts[subject]

    def count(self, subject: str, now: float) -> int:
        found = self._counts.get(subject)
        if found is None:
            return 0
        self._drop(found, int(now / self._slot))
        if not found:
            del self._counts[subject]
        return sum(count for _, count in found)

    @staticmethod
    def _drop(found: deque[list[int]], slot: int) -> None:
        while found and found[0][0] <= slot - _SLOTS:
            found.popleft()


class _Rule:
    """One signal of the policy, with what it has seen."""

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self._clients = frozenset(signal.clients)
        self._multiple = document.units(signal.multiple) or 1
        seconds = 60.0 * (signal.minutes or 1)
        self._all, self._some = _Recent(seconds), _Recent(seconds)

    def is_for(self, client: str) -> bool:
        return not self._clients or client in self._clients

    def raised(self, asked: Asked, local: datetime, now: float) -> bool:
        """Tell whether issuing this would be a signal."""
        signal = self.signal
        if signal.kind == "off-hours":
            return signal.hours is not None and not signal.hours.contain(local.time())
        if signal.kind == "after-denial":
            return self._some.count(asked.client, now) > (signal.most or 0)
        if not self._is_such(asked):
            return False
        some = self._some.count(self._subject(asked), now) + 1
        if signal.percent is None:
            return some > (signal.most or 0)
        whole = self._all.count(asked.client, now) + 1
        return whole >= (signal.least or 1) and 100 * some > signal.percent * whole

    def seen(self, asked: Asked, now: float) -> None:
        """Take note of a token that is to be issued."""
        for recent, subject in self._noted(asked):
            recent.add(subject, now)

    def unseen(self, asked: Asked) -> None:
        """Forget it again: it was not issued."""
        for recent, subject in self._noted(asked):
            recent.take_back(subject)

    def _noted(self, asked: Asked) -> Iterator[tuple[_Recent, str]]:
        if self.signal.kind in ("off-hours", "after-denial"):
            return
        if self.signal.percent is not None:
            yield self._all, asked.client
        if self._is_such(asked):
            yield self._some, self._subject(asked)

    def denied(self, client: str, now: float) -> None:
        """Take note of a refusal by the policy."""
        if self.signal.kind == "after-denial":
            self._some.add(client, now)

    def _is_such(self, asked: Asked) -> bool:
        match self.signal.kind:
            case "velocity":
                return asked.meter is not None
            case "round-amounts":
                return asked.units > 0 and asked.units % self._multiple == 0
            case "free-ratio":
                return asked.is_free
            case _:
                return asked.token_class == 2

    def _subject(self, asked: Asked) -> str:
        return str(asked.meter) if self.signal.kind == "velocity" else asked.client


class Signals:
    """Watches what is issued, by the signals of the policy in force.

    Args:
        steady: a clock that nobody sets, in seconds.
    """

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._rules: list[_Rule] = []
        self._told: dict[tuple[str, str], float] = {}
        self.counts: Counter[tuple[str, bool]] = Counter()
        """How often each kind was raised, and whether the request was refused."""

    def put(self, policy: Policy) -> None:
        """Watch by a policy's signals, from nothing."""
        self._rules = [_Rule(signal) for signal in policy.signal]

    @property
    def are_watched(self) -> bool:
        """Whether there is anything to watch."""
        return bool(self._rules)

    def see(self, asked: Sequence[Asked], local: datetime) -> None:
        """See whether a request looks like misuse; count it, tell of it, and take note of it.

        Raises:
            SignalRefused: the policy refuses what looks so.
        """
        now = self._steady()
        refused = ""
        for one in asked:
            for rule in self._rules:
                if rule.is_for(one.client) and rule.raised(one, local, now):
                    signal = rule.signal
                    self.counts[signal.kind, signal.refuse] += 1
                    self._tell(signal, one.client, now)
                    refused = refused or (signal.kind if signal.refuse else "")
        if refused:
            raise SignalRefused(f"this looks like misuse: {refused}", signal=refused)
        for one in asked:
            for rule in self._rules:
                if rule.is_for(one.client):
                    rule.seen(one, now)

    def unsee(self, asked: Sequence[Asked]) -> None:
        """Forget what was seen and then not issued: what is refused counts neither for nor against anybody."""
        for one in asked:
            for rule in self._rules:
                if rule.is_for(one.client):
                    rule.unseen(one)

    def denied(self, client: str) -> None:
        """Take note that the policy refused a client something."""
        now = self._steady()
        for rule in self._rules:
            if rule.is_for(client):
                rule.denied(client, now)

    def _tell(self, signal: Signal, client: str, now: float) -> None:
        # Of the same client and kind once a minute: who misuses must not fill the log as well. Counters have them all.
        if now - self._told.get((signal.kind, client), -_TOLD_SECONDS) < _TOLD_SECONDS:
            return
        if len(self._told) >= _SUBJECTS_MAX:
            self._told.clear()
        self._told[signal.kind, client] = now
        logger.warning("signal", signal=signal.kind, client=client, refused=signal.refuse)
