"""Verifies a whole log offline: every entry, every tile, up to the root that the module signed.

Tells not only that something is wrong but where: the index of the first entry that does not fit.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import multiprocessing
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hsm.log import leaves
from hsm.log.checkpoints import CHECKPOINT, WITNESSED, Checkpoint
from hsm.log.errors import LeafInvalid, LogError, TileMissing
from hsm.log.merkle import HASH_LENGTH, Frontier, root_of
from hsm.log.notes import NOTE_MAX, Note, VerifierKey
from hsm.log.policy import NO_WITNESSES, WitnessPolicy
from hsm.log.tiles import (
    ENTRY_MAX,
    TILE_WIDTH,
    TileReader,
    bundle_path,
    pack_entry,
    read_regular,
    tile_path,
    tiles_of,
    width_in,
)

_TASK_TILES = 64
_OLDER = re.compile(
    r"tile/(?P<level>entries|[0-9]|[1-5][0-9])/(?P<index>(x\d{3}/)*\d{3})\.p/(?P<width>[1-9]|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])"
)
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong: what, and the first entry that it touches (None if it is not of an entry)."""

    what: str
    index: int | None = None

    def __str__(self) -> str:
        return self.what if self.index is None else f"entry {self.index}: {self.what}"


@dataclass(slots=True, kw_only=True)
class Report:
    """What a verification found; nothing in ``findings`` means that the log is whole.

    ``witnesses`` have cosigned the first ``witnessed`` entries, each at a POSIX time.
    """

    origin: str = ""
    size: int = 0
    root: bytes = b""
    witnesses: dict[str, int] = field(default_factory=dict)
    witnessed: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    first_time: int = 0
    last_time: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


@dataclass(slots=True)
class _Part:
    """What one process found in a run of bundles."""

    roots: list[bytes]
    counts: dict[str, int]
    finding: Finding | None = None
    first_time: int = 0
    last_time: int = 0


def verify_log(
    folder: Path,
    key: VerifierKey,
    *,
    earlier: Sequence[Note] = (),
    policy: WitnessPolicy = NO_WITNESSES,
    processes: int = 1,
    progress: Progress = lambda _: None,
) -> Report:
    """Verify a log's folder, or a copy of it.

    Args:
        folder: the log.
        key: of the module whose log it is.
        earlier: checkpoints that were seen before, or elsewhere; the log must begin with each.
        policy: which witnesses must have cosigned the present checkpoint, or one before it that lies beside it.
        processes: how many work at once.
        progress: called with the number of entries that were verified since the last call.
    """
    report = Report(origin=key.name)
    note = _read_note(folder / CHECKPOINT, key, report)
    if note is None:
        return report
    witnessed = _read_witnessed(folder, note, key, policy, report)
    # In a copy of a log that grew meanwhile either may be the newer one; both are signed.
    checkpoint = max((Checkpoint.parse(one.text) for one in (note, *witnessed)), key=lambda one: one.size)
    report.size, report.root = checkpoint.size, checkpoint.root
    roots: list[bytes] = []
    for part in _parts(folder, checkpoint.size, processes):
        roots += part.roots
        for name, count in part.counts.items():
            report.counts[name] = report.counts.get(name, 0) + count
        report.first_time = report.first_time or part.first_time
        report.last_time = max(report.last_time, part.last_time)
        progress(sum(part.counts.values()))
        if part.finding is not None:
            report.findings.append(part.finding)
            return report
    _verify_upper_tiles(folder, checkpoint.size, roots, report)
    if report.is_whole:
        _verify_older_tiles(folder, checkpoint.size, report)
    if report.is_whole:
        others = [one for one in (note, *witnessed) if one.text != checkpoint.text]
        _compare_roots(folder, checkpoint, [*others, *earlier], key, report)
    return report


def _read_note(path: Path, key: VerifierKey, report: Report) -> Note | None:
    """Read a checkpoint that the log signed; what is wrong with it is a finding."""
    try:
        note = Note.parse(read_regular(path, NOTE_MAX))
        Checkpoint.open(note, key)
    except OSError as error:
        report.findings.append(Finding(what=f"{path.name} cannot be read: {error.strerror or error}"))
    except LogError as error:
        report.findings.append(Finding(what=f"{path.name}: {error}"))
    else:
        return note
    return None


def _read_witnessed(
    folder: Path, newest: Note, key: VerifierKey, policy: WitnessPolicy, report: Report
) -> Sequence[Note]:
    """Find the newest checkpoint that enough witnesses have cosigned; return what lies beside the newest of all."""
    beside = _read_note(folder / WITNESSED, key, report) if (folder / WITNESSED).exists() else None
    for note in filter(None, (newest, beside)):
        try:
            cosigned = policy.cosigned(note)
        except LogError as error:
            report.findings.append(Finding(what=str(error)))
            continue
        size = Checkpoint.parse(note.text).size
        if policy.is_met(cosigned) and (size, len(cosigned)) > (report.witnessed, len(report.witnesses)):
            report.witnessed, report.witnesses = size if cosigned else 0, cosigned
    if policy.logs and key not in policy.logs:
        report.findings.append(Finding(what="the witness policy is for other logs"))
    if not policy.is_met(report.witnesses):
        report.findings.append(Finding(what="no checkpoint here has been cosigned by enough witnesses"))
    return [] if beside is None else [beside]


def _parts(folder: Path, size: int, processes: int) -> Iterator[_Part]:
    tiles = -(-size // TILE_WIDTH)
    tasks = [(folder, size, start, min(start + _TASK_TILES, tiles)) for start in range(0, tiles, _TASK_TILES)]
    if processes == 1 or len(tasks) == 1:
        yield from map(_verify_part, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from pool.map(_verify_part, tasks)


def _verify_part(task: tuple[Path, int, int, int]) -> _Part:
    folder, size, start, end = task
    reader = TileReader(folder, size, cached=2)
    part = _Part(roots=[], counts={})
    try:
        for tile in range(start, end):
            part.finding = _verify_tile(reader, tile, part)
            if part.finding is not None:
                break
    except TileMissing as error:
        part.finding = Finding(what=str(error), index=tile * TILE_WIDTH)
    return part


def _verify_tile(reader: TileReader, tile: int, part: _Part) -> Finding | None:
    entries, hashes, first = reader.entries(tile), reader.tile(0, tile), tile * TILE_WIDTH
    frontier, sha256 = Frontier(), hashlib.sha256
    for place, entry in enumerate(entries):
        leaf = sha256(b"\x00" + entry).digest()
        if leaf != hashes[place * HASH_LENGTH : (place + 1) * HASH_LENGTH]:
            what = f"{bundle_path(tile, len(entries))} and {tile_path(0, tile, len(entries))} differ"
            return Finding(what=what, index=first + place)
        frontier.add(leaf)
        try:
            leaf_fields = leaves.decode(entry)
        except LeafInvalid as error:
            return Finding(what=str(error), index=first + place)
        kind, time = str(leaf_fields["type"]), int(leaf_fields["time"])
        part.counts[kind] = part.counts.get(kind, 0) + 1
        part.first_time = part.first_time or time
        part.last_time = max(part.last_time, time)
    if len(entries) == TILE_WIDTH:
        part.roots.append(frontier.root())
    else:
        # The last tile is not hashed upward; its leaves are the last peaks of the tree.
        part.roots.append(b"")
    return None


def _verify_upper_tiles(folder: Path, size: int, roots: list[bytes], report: Report) -> None:
    """Compare the tiles above with what the entries make."""
    reader = TileReader(folder, size)
    known = [node for node in roots if node]
    for level, _, _ in list(tiles_of(size))[1:]:
        above: list[bytes] = []
        for tile in range(-(-len(known) // TILE_WIDTH)):
            own = known[tile * TILE_WIDTH : (tile + 1) * TILE_WIDTH]
            covers = TILE_WIDTH**level
            try:
                stored = reader.tile(level, tile)
            except TileMissing as error:
                report.findings.append(Finding(what=str(error), index=tile * TILE_WIDTH * covers))
                return
            for place, node in enumerate(own):
                if stored[place * HASH_LENGTH : (place + 1) * HASH_LENGTH] != node:
                    what = f"{tile_path(level, tile, len(own))} does not fit the tiles below it"
                    report.findings.append(Finding(what=what, index=(tile * TILE_WIDTH + place) * covers))
                    return
            if width_in(size, level, tile) == TILE_WIDTH:
                frontier = Frontier()
                for node in own:
                    frontier.add(node)
                above.append(frontier.root())
        known = above


def _verify_older_tiles(folder: Path, size: int, report: Report) -> None:
    """Compare the partial tiles of older checkpoints, which are still given out, with what is proven."""
    now = TileReader(folder, size)
    for path in sorted((folder / "tile").glob("**/*.p/*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".new":
            # A draft that a crash left; nobody reads it.
            continue
        place = _OLDER.fullmatch(name)
        if place is None:
            report.findings.append(Finding(what=f"{name} is no tile"))
            continue
        level = 0 if place["level"] == "entries" else int(place["level"])
        index = int(place["index"].replace("/", "").replace("x", ""))
        width, covers = int(place["width"]), TILE_WIDTH**level
        first = index * TILE_WIDTH * covers
        if width > width_in(size, level, index):
            # Of a tree that is larger than what was signed: the writer was about to sign it.
            continue
        try:
            octets = read_regular(path, TILE_WIDTH * (2 + ENTRY_MAX))
            if place["level"] == "entries":
                expected = b"".join(map(pack_entry, now.entries(index)[:width]))
            else:
                expected = now.tile(level, index)[: width * HASH_LENGTH]
        except (OSError, TileMissing) as error:
            report.findings.append(Finding(what=f"{name}: {error}", index=first))
            continue
        if octets != expected:
            report.findings.append(Finding(what=f"{name} differs from what is proven", index=first))


def _compare_roots(
    folder: Path, checkpoint: Checkpoint, earlier: Sequence[Note], key: VerifierKey, report: Report
) -> None:
    """Compare the tree with what was signed now and before; where it differs, say since when."""
    reader = TileReader(folder, checkpoint.size)
    sizes: dict[int, bool] = {}
    for note in earlier:
        try:
            before = Checkpoint.open(note, key)
        except LogError as error:
            report.findings.append(Finding(what=f"an earlier checkpoint: {error}"))
            continue
        if before.size > checkpoint.size:
            what = f"{before.size} entries were signed before, and those from here on are gone"
            report.findings.append(Finding(what=what, index=checkpoint.size))
        else:
            sizes[before.size] = sizes.get(before.size, True) and root_of(before.size, reader.node) == before.root
    forked = min((size for size, agrees in sizes.items() if not agrees), default=None)
    agreed = max((size for size, agrees in sizes.items() if agrees and (forked is None or size < forked)), default=0)
    if forked is not None:
        what = f"not what was signed before at {forked} entries; up to here every earlier checkpoint agrees"
        report.findings.append(Finding(what=what, index=agreed))
    if root_of(checkpoint.size, reader.node) != checkpoint.root:
        what = f"the entries do not make the root that was signed at {checkpoint.size}; up to here all agree"
        report.findings.append(Finding(what=what, index=agreed))
