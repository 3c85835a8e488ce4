"""Witness policies (c2sp.org/tlog-policy): which witnesses there are, and how many of which must have cosigned.

    log <verifier key> [url]
    witness NAME <verifier key> [url]
    group NAME <k|any|all> MEMBER...
    quorum NAME|none

One file serves all who need it: the module, which demands cosignatures; the appliance, which collects them; and whoever
verifies, offline.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from hsm.log.errors import NoteInvalid, PolicyInvalid
from hsm.log.notes import COSIGNATURE, ED25519, Note, VerifierKey

_COUNT = re.compile(r"[1-9][0-9]{0,3}")
_NONE = "none"
_WITNESSES_MAX = 32
_DEPTH_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A witness: its key, and the address before ``/add-checkpoint``; None if it cannot be asked over a network."""

    key: VerifierKey
    url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """``threshold`` of ``members``, which are names of witnesses and groups."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessPolicy:
    """A policy; names of witnesses are the policy's own, not those of their keys.

    Args:
        logs: keys of the logs that it is for; empty if it does not say.
        witnesses: by name.
        groups: by name; a member stands before its group, so there are no circles.
        quorum: name of a witness or group; None if no cosignature is needed.
    """

    logs: tuple[VerifierKey, ...] = ()
    witnesses: Mapping[str, Witness] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    quorum: str | None = None

    @classmethod
    def of(cls, keys: Sequence[VerifierKey], quorum: int) -> Self:
        """Return the policy that ``quorum`` of some witnesses must have cosigned; raises PolicyInvalid."""
        reader = _Reader()
        for key in keys:
            reader.take(["witness", key.name, str(key)])
        if not quorum:
            return cls(witnesses=reader.witnesses)
        # No witness has a name with a blank in it.
        reader.take(["group", "a quorum", str(quorum), *reader.witnesses])
        return cls(witnesses=reader.witnesses, groups=reader.groups, quorum="a quorum")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a policy file; raises PolicyInvalid with the number of the line."""
        reader = _Reader()
        for number, line in enumerate(text.split("\n"), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            try:
                reader.take(words)
            except (PolicyInvalid, NoteInvalid) as error:
                raise PolicyInvalid(f"line {number}: {error}") from None
        if not reader.has_quorum:
            raise PolicyInvalid("a policy has a line: quorum NAME, or quorum none")
        return cls(logs=tuple(reader.logs), witnesses=reader.witnesses, groups=reader.groups, quorum=reader.quorum)

    def has(self, name: str) -> bool:
        """Tell whether there is a witness or group of this name."""
        return name in self.witnesses or name in self.groups

    def is_met(self, cosigned: Collection[str], name: str | None = None) -> bool:
        """Tell whether those who cosigned are enough for a witness or group, or for the policy's own quorum.

        Args:
            cosigned: names of witnesses.
            name: of a witness or group of this policy; None for the policy's quorum.
        """
        wanted = self.quorum if name is None else name
        return wanted is None or self._is_met(wanted, cosigned)

    def cosigned(self, note: Note) -> dict[str, int]:
        """Return which witnesses cosigned a note, with the POSIX time of each.

        Raises:
            NoteInvalid: a cosignature of a known witness is wrong.
        """
        found = {name: note.cosigned(witness.key) for name, witness in self.witnesses.items()}
        return {name: time for name, time in found.items() if time is not None}

    def _is_met(self, name: str, cosigned: Collection[str]) -> bool:
        group = self.groups.get(name)
        if group is None:
            return name in cosigned
        return sum(self._is_met(member, cosigned) for member in group.members) >= group.threshold


NO_WITNESSES = WitnessPolicy()
"""The policy that asks for none."""


class _Reader:
    """What the lines so far have said."""

    def __init__(self) -> None:
        self.logs: list[VerifierKey] = []
        self.witnesses: dict[str, Witness] = {}
        self.groups: dict[str, Group] = {}
        self._depths: dict[str, int] = {}
        self.quorum: str | None = None
        self.has_quorum = False

    def take(self, words: list[str]) -> None:
        match words:
            case ["log", key]:
                self._log(key)
            case ["log", key, url]:
                _require_url(url)
                self._log(key)
            case ["witness", name, key]:
                self._witness(name, key, None)
            case ["witness", name, key, url]:
                _require_url(url)
                self._witness(name, key, url.rstrip("/"))
            case ["group", name, count, *members]:
                self._group(name, count, members)
            case ["quorum", name]:
                if self.has_quorum:
                    raise PolicyInvalid("there is one quorum")
                self.has_quorum = True
                self.quorum = None if name == _NONE else self._known(name)
            case _:
                raise PolicyInvalid("a line is log, witness, group or quorum, with its words")

    def _log(self, text: str) -> None:
        key = VerifierKey.parse(text)
        if key.kind != ED25519:
            raise PolicyInvalid("the key of a log signs notes, not cosignatures")
        self.logs.append(key)

    def _witness(self, name: str, text: str, url: str | None) -> None:
        key = VerifierKey.parse(text)
        if key.kind != COSIGNATURE:
            raise PolicyInvalid("the key of a witness makes cosignatures")
        if any(key.public == other.key.public for other in self.witnesses.values()):
            raise PolicyInvalid("two witnesses have the same key: one witness must not count twice")
        if len(self.witnesses) == _WITNESSES_MAX:
            raise PolicyInvalid(f"a policy has at most {_WITNESSES_MAX} witnesses")
        self.witnesses[self._fresh(name)] = Witness(key=key, url=url)

    def _group(self, name: str, count: str, members: list[str]) -> None:
        if not members or len(set(members)) != len(members):
            raise PolicyInvalid("a group has members, each once")
        known = tuple(map(self._known, members))
        threshold = {"any": 1, "all": len(members)}.get(count)
        if threshold is None:
            if _COUNT.fullmatch(count) is None:
                raise PolicyInvalid("the threshold of a group is a number, any or all")
            threshold = int(count)
        if threshold > len(members):
            raise PolicyInvalid("a group demands more than it has members")
        self._depths[name] = 1 + max(self._depths.get(member, 0) for member in known)
        if self._depths[name] > _DEPTH_MAX:
            raise PolicyInvalid(f"groups stand in groups at most {_DEPTH_MAX} deep")
        self.groups[self._fresh(name)] = Group(threshold=threshold, members=known)

    def _fresh(self, name: str) -> str:
        if name == _NONE or name in self.witnesses or name in self.groups:
            raise PolicyInvalid("a name is taken once, and none is not a name")
        return name

    def _known(self, name: str) -> str:
        if name not in self.witnesses and name not in self.groups:
            raise PolicyInvalid("a member or quorum is a witness or group of a line before")
        return name


def _require_url(url: str) -> None:
    if not url.startswith(("https://", "http://")):
        raise PolicyInvalid("an address begins with https:// or http://")
