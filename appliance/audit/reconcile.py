"""Log against ledger, both ways: what was made and is not accounted for, what is accounted for and was not made.

Both are read once and in order, so that millions need no memory: the ledger's tokens by their place in the log, the
log's entries as they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from appliance.ledger.records import Accounted
from hsm.log import leaves
from hsm.log.checkpoints import Checkpoint
from hsm.log.export import read
from hsm.log.tiles import TileReader

_SHOWN = 1000
_MADE = frozenset({"issue", "key-change"})
_KEY_CHANGE_CLASS = 2
_IN_FLIGHT_MS = 5000
_PROGRESS_EVERY = 256
Answered = Callable[[str, bytes], int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that is not the same on both sides: what, its entry, and for whom it was."""

    what: str
    index: int
    client: str = ""
    request: str = ""
    meter: str = ""

    def __str__(self) -> str:
        about = ", ".join(
            f"{name} {value}"
            for name, value in (("client", self.client), ("request", self.request), ("meter", self.meter))
            if value
        )
        return f"entry {self.index}: {self.what}" + (f" ({about})" if about else "")


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
    """The result; the first thousand differences are named, all are counted."""

    origin: str
    size: int
    entries: int = 0
    tokens: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)
    totals: dict[Group, Total] = field(default_factory=dict)

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
    since: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Reconciliation:
    """Compare a log, as far as a checkpoint goes, with the ledger's tokens of that log.

    Args:
        folder: the log.
        checkpoint: of the log.
        ledger: tokens by their place in the log; read after the checkpoint was.
        answered: tells which entry answers a request of a client in the ledger.
        since: entries before this time, in milliseconds, are left out on both sides: the ledger was purged.
        progress: called with the number of entries that were compared since the last call.

    Raises:
        LogError: the log cannot be read; verify it first.
    """
    result = Reconciliation(origin=checkpoint.origin, size=checkpoint.size)
    # What is newer than the checkpoint is not in it yet.
    horizon = _last_time(folder, checkpoint.size) - _IN_FLIGHT_MS
    tokens = (token for token in ledger if token.created >= since)
    held = next(tokens, None)
    for index, entry in read(TileReader(folder, checkpoint.size)):
        if not index % _PROGRESS_EVERY:
            progress(min(_PROGRESS_EVERY, checkpoint.size - index))
        mine: list[Accounted] = []
        while held is not None and held.log_index <= index:
            if held.log_index == index:
                mine.append(held)
            held = next(tokens, None)
        if not mine and not _is_made(entry):
            continue
        leaf = leaves.decode(entry)
        if int(str(leaf["time"])) >= since:
            _compare(result, index, leaf, mine, answered)
    while held is not None:
        if held.log_index < checkpoint.size or held.created < horizon:
            result.tokens += 1
            result.differ(_not_in_log(held))
        held = next(tokens, None)
    return result


def _last_time(folder: Path, size: int) -> int:
    return int(str(leaves.decode(TileReader(folder, size).entry(size - 1))["time"])) if size else 0


def _is_made(entry: bytes) -> bool:
    return b'"type":"issue"' in entry or b'"type":"key-change"' in entry


def _compare(
    result: Reconciliation, index: int, leaf: dict[str, object], mine: list[Accounted], answered: Answered
) -> None:
    result.tokens += len(mine)
    if leaf["type"] not in _MADE:
        for token in mine:
            result.differ(_not_in_log(token))
        return
    result.entries += 1
    made = list(_made(leaf))
    for group, value in made:
        total = result.totals.setdefault(group, Total())
        total.in_log += 1
        total.value_in_log += value
    client, request, meter = str(leaf["client"]), str(leaf["request"]), str(leaf.get("meter", ""))
    about = {"client": client, "request": request, "meter": meter}
    if not mine:
        other = answered(client, bytes.fromhex(request))
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
        total.value_in_ledger += token.value
    for what in _differences(leaf, made, mine):
        result.differ(Difference(what=what, index=index, **about))


def _made(leaf: dict[str, object]) -> Iterator[tuple[Group, int]]:
    """Give the tokens of an entry: their group and value."""
    day, client, key = _day(leaf), str(leaf["client"]), str(leaf.get("key", ""))
    if leaf["type"] == "issue":
        token_class, subclass = int(str(leaf["class"])), int(str(leaf["subclass"]))
        group = Group(day=day, client=client, key=key, token_class=token_class, subclass=subclass)
        yield group, int(str(leaf["value"]))
        return
    tokens = leaf["tokens"]
    count = len(tokens) if isinstance(tokens, list) else 0
    for subclass in (3, 4, 8, 9)[:count]:
        yield Group(day=day, client=client, key=key, token_class=_KEY_CHANGE_CLASS, subclass=subclass), 0


def _differences(leaf: dict[str, object], made: list[tuple[Group, int]], mine: list[Accounted]) -> Iterator[str]:
    first = mine[0]
    if len(made) != len(mine):
        yield f"{len(made)} tokens in the log, {len(mine)} in the ledger"
        return
    pairs: dict[str, tuple[object, object]] = {
        "client": (str(leaf["client"]), first.client),
        "request": (str(leaf["request"]), first.request_id.hex()),
        "meter": (str(leaf.get("meter", "")), first.meter),
        "key": (str(leaf.get("key", "")), first.key),
        "class": ([group.token_class for group, _ in made], [token.token_class for token in mine]),
        "subclass": ([group.subclass for group, _ in made], [token.subclass for token in mine]),
        "value": ([value for _, value in made], [token.value for token in mine]),
    }
    if leaf["type"] == "issue" and first.identifier is not None:
        pairs["identifier"] = (leaf.get("tid"), first.identifier)
    for name, (logged, ledger) in pairs.items():
        if logged != ledger:
            yield f"{name} is {logged} in the log, {ledger} in the ledger"


def _day(leaf: dict[str, object]) -> str:
    return datetime.fromtimestamp(int(str(leaf["time"])) / 1000, UTC).date().isoformat()


def _not_in_log(token: Accounted) -> Difference:
    return Difference(
        what="in the ledger, not made according to the log",
        index=token.log_index,
        client=token.client,
        request=token.request_id.hex(),
        meter=token.meter,
    )
