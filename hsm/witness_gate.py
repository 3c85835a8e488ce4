"""No token of a given class without cosignatures of witnesses on a recent checkpoint.

A log that was put back finds no witness that cosigns it; with rules here it makes no tokens either. The appliance
brings the cosignatures; they are checked here, in the module process, against a policy that the appliance cannot
change.
"""

from __future__ import annotations

import json
import re
import struct
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from hsm.errors import CosignaturesRefused
from hsm.log.errors import LogError, PolicyInvalid
from hsm.log.notes import Note, VerifierKey
from hsm.log.policy import WitnessPolicy
from hsm.requests import HEADER_LENGTH, Operation

TOKENS = re.compile(r"\*|[0-2](\.([0-9]|1[0-5]))?")
_KEY_CHANGE = frozenset({(2, 3), (2, 4), (2, 8), (2, 9)})
_CLASSES = struct.Struct(">BB62x")
_CANDIDATES_MAX = 8
_AHEAD_SECONDS = 300


def _boot_time() -> float:
    """Seconds since the machine started, also those that it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessRule:
    """A demand on tokens.

    Args:
        tokens: ``*``, a class such as ``2``, or class and subclass such as ``0.4``; key-change tokens are 2.3 and on.
        quorum: name of a witness or group of the policy; None for the policy's own quorum.
        max_age_seconds: how old cosignatures may be.
        max_entries: how many entries may follow the cosigned checkpoint.
        after_start: the checkpoint must cover this worker's own start, so that a log that was put back is found first.
    """

    tokens: tuple[str, ...]
    quorum: str | None
    max_age_seconds: float
    max_entries: int
    after_start: bool

    def covers(self, token_class: int, subclass: int) -> bool:
        """Tell whether a token falls under this rule."""
        return not {"*", f"{token_class}", f"{token_class}.{subclass}"}.isdisjoint(self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessDemands:
    """What the module process is set up to demand.

    Args:
        policy: file with the witnesses.
        rules: all of them must be met by a token that falls under several.
    """

    policy: Path
    rules: tuple[WitnessRule, ...]

    def pack(self) -> str:
        """Return it as one argument of a command line."""
        rules = [
            {
                "tokens": rule.tokens,
                "quorum": rule.quorum,
                "max_age_seconds": rule.max_age_seconds,
                "max_entries": rule.max_entries,
                "after_start": rule.after_start,
            }
            for rule in self.rules
        ]
        return json.dumps({"policy": str(self.policy), "rules": rules})

    @classmethod
    def unpack(cls, text: str) -> Self:
        """Read what :meth:`pack` gave."""
        fields: dict[str, Any] = json.loads(text)
        rules = [WitnessRule(**rule | {"tokens": tuple(rule["tokens"])}) for rule in fields["rules"]]
        return cls(policy=Path(fields["policy"]), rules=tuple(rules))

    def read_policy(self) -> WitnessPolicy:
        """Read the policy; raises PolicyInvalid, also for a rule that names nobody of it."""
        try:
            policy = WitnessPolicy.parse(self.policy.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyInvalid(f"the witness policy {self.policy} cannot be read: {type(error).__name__}") from error
        for rule in self.rules:
            if rule.quorum is not None and not policy.has(rule.quorum):
                raise PolicyInvalid(f"a rule demands {rule.quorum}, which the policy does not have")
            if rule.quorum is None and policy.quorum is None:
                raise PolicyInvalid("a rule demands the quorum of a policy that has none")
        return policy


@dataclass(slots=True)
class _Cosigned:
    """A checkpoint that is ours, and when each witness cosigned it and was heard of first."""

    note: Note
    times: dict[str, int] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)


class WitnessGate:
    """What the worker knows of witnesses.

    Args:
        log: key of the log that they cosign.
        policy: who they are.
        rules: what is demanded of them.
        now: POSIX time, seconds.
        steady: a clock that nobody can set.
    """

    def __init__(
        self,
        log: VerifierKey,
        policy: WitnessPolicy,
        rules: Sequence[WitnessRule],
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = _boot_time,
    ) -> None:
        self._log = log
        self._policy = policy
        self._rules = tuple(rules)
        self._now = now
        self._steady = steady
        self._candidates: dict[int, _Cosigned] = {}
        self._begun = now(), steady()
        self._newest_time = 0

    def take(self, size: int, note: Note) -> Note:
        """Take in cosignatures of a checkpoint that was proven to be this log's; return it with all that are known.

        Args:
            size: of the checkpoint.
            note: the checkpoint, signed by the log.

        Raises:
            CosignaturesRefused: no witness of the policy has cosigned it, or one has not signed what it should have.
        """
        latest = self._time() + _AHEAD_SECONDS
        try:
            times = {name: seconds for name, seconds in self._policy.cosigned(note).items() if seconds <= latest}
        except LogError as error:
            raise CosignaturesRefused(str(error)) from error
        if not times:
            raise CosignaturesRefused("no witness of the policy has cosigned this, or in the future only")
        known = {witness.key.key_id: witness.key.name for witness in self._policy.witnesses.values()}
        cosignatures = [one for one in note.signatures if known.get(one.key_id) == one.name]
        held = self._candidates.get(size)
        if held is None:
            # What strangers signed, or the appliance says they did, is left out.
            own = [one for one in note.signatures if (one.name, one.key_id) == (self._log.name, self._log.key_id)][:1]
            held = _Cosigned(note=Note(text=note.text, signatures=tuple(own)))
        steady = self._steady()
        for name, seconds in times.items():
            if seconds > held.times.get(name, -1):
                held.times[name], held.heard[name] = seconds, steady
                key = self._policy.witnesses[name].key
                held.note = held.note.merged(
                    [one for one in cosignatures if (one.name, one.key_id) == (key.name, key.key_id)][-1:]
                )
        self._candidates[size] = held
        self._newest_time = max(self._newest_time, *held.times.values())
        self._forget()
        return held.note

    @property
    def entries_max(self) -> int | None:
        """The smallest number of entries that a rule lets follow a cosigned checkpoint; None without rules."""
        return min((rule.max_entries for rule in self._rules), default=None)

    def newest(self) -> tuple[int, Note] | None:
        """Return the largest checkpoint that the policy's quorum has cosigned, with its size."""
        met = [size for size, held in self._candidates.items() if self._policy.is_met(held.times)]
        return (max(met), self._candidates[max(met)].note) if met else None

    def blocked(self, operation: Operation, request: bytes, size: int, start: int) -> frozenset[int]:
        """Return the places of the items of a batch that no rule allows at present.

        Args:
            operation: issuing or key change; nothing else is held up.
            request: the batch.
            size: entries of the log; those of the batch are added.
            start: how many of them there were when this worker had begun.
        """
        if not self._rules or operation not in (Operation.ISSUE, Operation.KEY_CHANGE):
            return frozenset()
        after = size + (len(request) - HEADER_LENGTH) // _CLASSES.size
        unmet = [rule for rule in self._rules if not self._is_met(rule, after, start)]
        if not unmet:
            return frozenset()
        items = [request[at : at + _CLASSES.size] for at in range(HEADER_LENGTH, len(request), _CLASSES.size)]
        return frozenset(
            place
            for place, item in enumerate(items)
            if any(rule.covers(*kind) for kind in _kinds(operation, item) for rule in unmet)
        )

    def _time(self) -> float:
        """POSIX time that does not go back, however the clock is set while this worker runs."""
        wall, steady = self._begun
        return max(self._now(), wall + self._steady() - steady, self._newest_time)

    def _forget(self) -> None:
        """Keep the newest few, and of each quorum the newest that has it."""
        kept = set(sorted(self._candidates)[-_CANDIDATES_MAX:])
        for quorum in {None, *(rule.quorum for rule in self._rules)}:
            met = [size for size, held in self._candidates.items() if self._policy.is_met(held.times, quorum)]
            kept.update(sorted(met)[-1:])
        self._candidates = {size: held for size, held in self._candidates.items() if size in kept}

    def _is_met(self, rule: WitnessRule, size: int, start: int) -> bool:
        now, steady = self._time(), self._steady()
        for covered, held in self._candidates.items():
            if size - covered > rule.max_entries or (rule.after_start and covered < start):
                continue
            recent = {
                name
                for name, seconds in held.times.items()
                if now - seconds <= rule.max_age_seconds and steady - held.heard[name] <= rule.max_age_seconds
            }
            if self._policy.is_met(recent, rule.quorum):
                return True
        return False


def _kinds(operation: Operation, item: bytes) -> Collection[tuple[int, int]]:
    return _KEY_CHANGE if operation is Operation.KEY_CHANGE else (_CLASSES.unpack(item),)
