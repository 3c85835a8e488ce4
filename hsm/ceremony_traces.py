"""What ceremonies leave for the running module process: another token store in force, and records of what was held."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from hsm.log import leaves
from hsm.log.errors import LeafInvalid
from hsm.log.tiles import read_regular

_NAME = re.compile(r"(\d{4})(-refused)?\.json")
_RECORD_MAX = 4 * 1024 * 1024


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

    def after(self, number: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Give the records with a higher number, in order: the number, and what the log says of each.

        A file that is no record is told of as such: that it lies there is worth an entry.
        """
        found = [(int(match[1]), path) for path in self._paths() if (match := _NAME.fullmatch(path.name))]
        for place, path in sorted(found):
            if place > number:
                yield place, _said_of(path)

    def _paths(self) -> list[Path]:
        try:
            return list(self.records.iterdir())
        except OSError:
            return []


def _said_of(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(read_regular(path, _RECORD_MAX))["record"]
        said = {
            "name": path.name,
            "record": sha256(leaves.encode(fields)).hexdigest(),
            "plan": str(fields["plan_sha256"]),
            "title": str(fields["title"]),
            "outcome": str(fields["outcome"]),
            "ceremony": int(fields["kind"]),
            "officers": [str(one["officer"]) for one in fields["approvals"]],
            "store": str(fields["store_after"]),
        }
        # Whoever can write here could write anything: what does not fit into a leaf is no record.
        leaves.decode(leaves.make(leaves.LeafType.CEREMONY, 0, **said))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, LeafInvalid):
        return {"name": path.name, "outcome": "unreadable"}
    return said
