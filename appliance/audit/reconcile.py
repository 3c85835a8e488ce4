"""Log against ledger, both ways: what was made and is not accounted for, what is accounted for and was not made.

Both are read once and in order, so that millions need no memory: the ledger's tokens by their place in the log, the
log's entries as they stand. Entries are hashed on the way: what is compared is what was signed. Every row of the
ledger is compared with an entry or is a difference.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.ledger.records import Accounted
from hsm.log import leaves
from hsm.log.checkpoints import Checkpoint
from hsm.log.export import read
from hsm.log.merkle import Frontier, leaf_hash
from hsm.log.tiles import TileReader

_SHOWN = 1000
_KEY_CHANGE_CLASS = 2
_KEY_CHANGE_ORDER = (3, 4, 8, 9)
_IN_FLIGHT_MS = 5000
_SLACK_MS = 60_000
_PROGRESS_EVERY = 256
Answered = Callable[[str, bytes], int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that is not the same on both sides: what, its entry (None if it has none), and for whom it was."""

    what: str
    index: int | None = None
    client: str = ""
    request: str = ""
    meter: str = ""

    def __str__(self) -> str:
        about = ", ".join(
            f"{name} {_escaped(value)}"
            for name, value in (("client", self.client), ("request", self.request), ("meter", self.meter))
            if value
        )
        place = "" if self.index is None else f"entry {self.index}: "
        return place + _escaped(self.what) + (f" ({about})" if about else "")


def _escaped(text: str) -> str:
    """Escape control characters: a name that somebody chose must not look like a line of ours."""
    return text if text.isprintable() else json.dumps(text)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Group:
    """What totals are kept by; the value of a token counts in least significant bits of its subclass."""

    day: str
    client: str
    key: str
    token_class: int
    subclass: int


@dataclass(slots=True)
class Total:
    """Tokens and their value, on both sides."""

    in_log: int = 0
    in_ledger: int = 0
    value_in_log: int = 0
    value_in_ledger: int = 0


@dataclass(slots=True, kw_only=True)
class Reconciliation:
    """The result; the first thousand differences are named, all are counted.

    ``elsewhere`` counts tokens of other logs by their origin: each is compared with its own log.
    """

    origin: str
    size: int
    entries: int = 0
    tokens: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)
    totals: dict[Group, Total] = field(default_factory=dict)
    elsewhere: dict[str, int] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether log and ledger say the same."""
        return self.differing == 0

    def differ(self, difference: Difference) -> None:
        """Take a difference in."""
        self.differing += 1
        if len(self.differences) < _SHOWN:
            self.differences.append(difference)


def reconcile(
    folder: Path,
    checkpoint: Checkpoint,
    ledger: Iterable[Accounted],
    answered: Answered,
    *,
    elsewhere: dict[str, int] | None = None,
    since: int = 0,
    now: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Reconciliation:
    """Compare a log, as far as a checkpoint goes, with the ledger's tokens of that log.

    Args:
        folder: the log.
        checkpoint: of the log.
        ledger: tokens by their place in the log; read after the checkpoint was.
        answered: tells which entry answers a request of a client in the ledger.
        elsewhere: how many tokens of the ledger are in other logs, by origin; in none, under the empty name.
        since: entries before this time, in milliseconds, need not be in the ledger: it was purged.
        now: when the ledger was read, in milliseconds since 1970; else the present.
        progress: called with the number of entries that were compared since the last call.

    Raises:
        LogError: the log cannot be read; verify it first.
    """
    result = Reconciliation(origin=checkpoint.origin, size=checkpoint.size, elsewhere=elsewhere or {})
    if unplaced := result.elsewhere.get("", 0):
        result.differ(Difference(what=f"{unplaced} tokens of the ledger are in no log"))
    # What is newer than the checkpoint is not in it yet; what is newer than this moment is made up.
    newest = (int(time.time() * 1000) if now is None else now) + _SLACK_MS
    horizon = _last_time(folder, checkpoint.size) - _IN_FLIGHT_MS
    frontier, tokens = Frontier(), iter(ledger)
    held = next(tokens, None)
    for index, entry in read(TileReader(folder, checkpoint.size)):
        frontier.add(leaf_hash(entry))
        if not index % _PROGRESS_EVERY:
            progress(min(_PROGRESS_EVERY, checkpoint.size - index))
        mine: list[Accounted] = []
        while held is not None and held.log_index <= index:
            if held.log_index == index:
                mine.append(held)
            else:
                result.differ(_not_in_log(held))
            held = next(tokens, None)
        if mine or _is_made(entry):
            _compare(result, index, leaves.decode(entry), mine, answered, since)
    while held is not None:
        if held.log_index < checkpoint.size or held.created < horizon or held.created > newest:
            result.differ(_not_in_log(held))
        held = next(tokens, None)
    if frontier.root() != checkpoint.root:
        result.differ(Difference(what="the entries do not make the root that was signed: see keywatt-verify"))
    return result


def _last_time(folder: Path, size: int) -> int:
    return int(leaves.decode(TileReader(folder, size).entry(size - 1))["time"]) if size else 0


def _is_made(entry: bytes) -> bool:
    return b'"type":"issue"' in entry or b'"type":"key-change"' in entry


def _compare(
    result: Reconciliation,
    index: int,
    leaf: dict[str, Any],
    mine: list[Accounted],
    answered: Answered,
    since: int,
) -> None:
    made = list(_made(leaf))
    result.tokens += len(mine)
    if not made:
        for token in mine:
            result.differ(_not_in_log(token))
        return
    if not mine and leaf["time"] < since:
        return
    result.entries += 1
    for group, value in made:
        total = result.totals.setdefault(group, Total())
        total.in_log += 1
        total.value_in_log += value
    about = {"client": str(leaf["client"]), "request": str(leaf["request"]), "meter": str(leaf.get("meter", ""))}
    if not mine:
        other = answered(about["client"], bytes.fromhex(about["request"]))
        what = "made by the module, not in the ledger"
        if other is not None:
            # Most often an appliance that died between module and ledger, and a client that asked again.
            what = f"made by the module and not given out; the request was answered with entry {other}"
        result.differ(Difference(what=what, index=index, **about))
        return
    for token in mine:
        group = Group(
            day=_day(leaf),
            client=token.client,
            key=token.key,
            token_class=token.token_class,
            subclass=token.subclass,
        )
        total = result.totals.setdefault(group, Total())
        total.in_ledger += 1
        total.value_in_ledger += _value(token)
    for what in _differences(leaf, made, mine):
        result.differ(Difference(what=what, index=index, **about))


def _made(leaf: dict[str, Any]) -> Iterator[tuple[Group, int]]:
    """Give the tokens of an entry: their group and value."""
    tokens = leaves.tokens_of(leaf)
    if not tokens:
        return
    day, client, key = _day(leaf), str(leaf["client"]), str(leaf.get("key", ""))
    if leaf["type"] == "issue":
        group = Group(day=day, client=client, key=key, token_class=leaf["class"], subclass=leaf["subclass"])
        yield group, int(leaf["value"])
        return
    for subclass in _KEY_CHANGE_ORDER[: len(tokens)]:
        yield Group(day=day, client=client, key=key, token_class=_KEY_CHANGE_CLASS, subclass=subclass), 0


def _differences(leaf: dict[str, Any], made: list[tuple[Group, int]], mine: list[Accounted]) -> Iterator[str]:
    if len(made) != len(mine):
        yield f"{len(made)} tokens in the log, {len(mine)} in the ledger"
        return
    for (group, value), token in zip(made, mine, strict=True):
        pairs: dict[str, tuple[object, object]] = {
            "client": (group.client, token.client),
            "request": (leaf["request"], token.request_id.hex()),
            "meter": (str(leaf.get("meter", "")), token.meter),
            "key": (group.key, token.key),
            "class": (group.token_class, token.token_class),
            "subclass": (group.subclass, token.subclass),
            "value": (str(value), token.value),
            "identifier": (leaf.get("tid"), token.identifier),
            "base date": (leaf.get("bdt"), token.base_date),
        }
        for name, (logged, ledger) in pairs.items():
            if logged != ledger:
                yield f"{name} is {logged} in the log, {ledger} in the ledger"


def _value(token: Accounted) -> int:
    try:
        return int(token.value)
    except ValueError:
        return 0


def _day(leaf: dict[str, Any]) -> str:
    try:
        return datetime.fromtimestamp(leaf["time"] / 1000, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return f"{leaf['time']} ms"


def _not_in_log(token: Accounted) -> Difference:
    return Difference(
        what="in the ledger, not made according to the log",
        index=token.log_index,
        client=token.client,
        request=token.request_id.hex(),
        meter=token.meter,
    )
