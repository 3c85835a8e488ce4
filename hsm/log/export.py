"""Exports: leaves as lines of JSON, each with its index; what a SIEM, a revenue office or an auditor reads.

    {"index":17,"leaf":{…}}

The index is the sequence number: whoever has seen 17 asks for 18 next. A leaf is canonical, so that the log's hashes
can be made of it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from hsm.log import leaves
from hsm.log.checkpoints import Checkpoint
from hsm.log.errors import LeafInvalid
from hsm.log.merkle import Frontier, leaf_hash
from hsm.log.tiles import TILE_WIDTH, TileReader
from hsm.log.verifier import Finding, Progress


def read(reader: TileReader, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Give index and entry, from ``start`` to the end of what the reader reads. Raises TileMissing."""
    for tile in range(start // TILE_WIDTH, -(-reader.size // TILE_WIDTH)):
        for place, entry in enumerate(reader.entries(tile)):
            index = tile * TILE_WIDTH + place
            if index >= start:
                yield index, entry


def line(index: int, entry: bytes) -> str:
    """Return the line of an entry, with its end; raises LeafInvalid."""
    leaves.decode(entry)
    return f'{{"index":{index},"leaf":{entry.decode()}}}\n'


def parse(text: str) -> tuple[int, bytes]:
    """Return index and entry of a line; raises LeafInvalid."""
    try:
        whole = json.loads(text)
        index, entry = whole["index"], leaves.encode(whole["leaf"])
        # What is proven is what stands there, to the letter: not what a parser may make of it.
        if type(index) is int and text == line(index, entry):
            return index, entry
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise LeafInvalid("a line is not an exported entry")


def verify(lines: Iterable[str], checkpoint: Checkpoint, progress: Progress = lambda _: None) -> list[Finding]:
    """Verify an export from entry 0 to a checkpoint; return what is wrong with it."""
    frontier = Frontier()
    for text in lines:
        try:
            index, entry = parse(text)
        except LeafInvalid as error:
            return [Finding(what=str(error), index=frontier.size)]
        if frontier.size == checkpoint.size:
            return [Finding(what="beyond what the checkpoint proves", index=index)]
        if index != frontier.size:
            return [Finding(what=f"missing; the next line is entry {index}", index=frontier.size)]
        frontier.add(leaf_hash(entry))
        if not index % TILE_WIDTH:
            progress(min(TILE_WIDTH, checkpoint.size - index))
    if frontier.size < checkpoint.size:
        return [Finding(what=f"missing; the checkpoint is of {checkpoint.size}", index=frontier.size)]
    if frontier.root() != checkpoint.root:
        return [Finding(what=f"the entries do not make the root that was signed at {checkpoint.size}")]
    return []
