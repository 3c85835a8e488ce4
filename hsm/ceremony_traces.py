"""What ceremonies leave for the running module process: another token store in force, and records of what was held."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from hsm.log import leaves
from hsm.log.errors import LeafInvalid
from hsm.log.tiles import read_regular

_NAME = re.compile(r"[0-9]{4,8}(-refused)?\.json")
_RECORD_MAX = 1024 * 1024
_TEXT_MAX = 200
_OFFICERS_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CeremonyTraces:
    """Where to look.

    Args:
        token_link: the link to the token store in force, which a ceremony moves.
        records: folder of the records.
    """

    token_link: Path
    records: Path

    def store(self) -> str:
        """Return the name of the store in force; empty if there is none now."""
        try:
            return self.token_link.readlink().name
        except OSError:
            return ""

    def changed(self) -> int:
        """Return a number that changes when a record is added; 0 if the folder cannot be read now."""
        try:
            return self.records.stat().st_mtime_ns
        except OSError:
            return 0

    def next_after(self, known: Collection[str]) -> tuple[str, dict[str, Any]] | None:
        """Return the first record that is not known: its name, and what the log says of it; None if there is none.

        A file that is no record is told of as such: that it lies there is worth an entry. One at a time: reading a
        large one must not hold up those who wait for tokens.
        """
        names = sorted(path.name for path in self._paths() if _NAME.fullmatch(path.name) and path.name not in known)
        return (names[0], _said_of(self.records / names[0])) if names else None

    def _paths(self) -> list[Path]:
        try:
            return list(self.records.iterdir())
        except OSError:
            return []


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _TEXT_MAX:
        raise TypeError("a field is no text, or too long")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a field is no number")
    return value


def _said_of(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(read_regular(path, _RECORD_MAX))["record"]
        said = {
            "name": path.name,
            "record": sha256(leaves.encode(fields)).hexdigest(),
            "plan": _text(fields["plan_sha256"]),
            "title": _text(fields["title"]),
            "outcome": _text(fields["outcome"]),
            "ceremony": _number(fields["kind"]),
            "officers": [_text(one["officer"]) for one in fields["approvals"][:_OFFICERS_MAX]],
            "store": _text(fields["store_after"]),
        }
        # Whoever can write here could write anything: what does not fit into a leaf is no record.
        leaves.decode(leaves.make(leaves.LeafType.CEREMONY, 0, **said))
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError, LeafInvalid):
        return {"name": path.name, "outcome": "unreadable"}
    return said
