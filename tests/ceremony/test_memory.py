"""The key loader's memory while components are entered, and after: components pass through, a whole key is never left."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

from tests.ceremony.table import Room, approve, at_terminal, begin
from tests.ceremony.test_ceremony import load_key, type_component
from tests.security.test_memory_scan import scan


def xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def stopped_scan(process: int, wanted: dict[str, bytes]) -> set[str]:
    """Stop a process, look through its memory, and let it go on."""
    os.kill(process, signal.SIGSTOP)
    try:
        while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "Tt":
            time.sleep(0.001)
        return scan(process, wanted)
    finally:
        os.kill(process, signal.SIGCONT)


def test_no_whole_key_is_left_in_the_key_loader(room: Room) -> None:
    key, first = os.urandom(20), os.urandom(20)
    shares = [first, xor(first, key)]
    values = [hashlib.sha256(b"\x01" + share).hexdigest()[:6].upper() for share in shares]
    plan = load_key(room, check_values=values, check_value=hashlib.sha256(b"\x01" + key).hexdigest()[:6].upper())
    digits = {f"component {number} as digits": share.hex().encode() for number, share in enumerate(shares, 1)}
    whole = {"whole key": key, "whole key as digits": key.hex().encode()} | digits
    with at_terminal(["run", str(plan), "--site", str(room.site)]) as terminal:
        process = terminal.process.pid
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        terminal.choose("Who enters component 1 of 2?", "Alice")
        type_component(terminal, shares[0])
        terminal.choose("Who enters component 2 of 2?", "Bob")
        # The first component is inside the module, which is in this process: the scanner sees it there, once.
        assert stopped_scan(process, whole | {"component 1": shares[0]}) == {"component 1"}
        terminal.expect("Ctrl-C stops.")
        terminal.type(shares[1].hex()[:-1])
        terminal.expect("[36 of 40]")
        assert stopped_scan(process, whole | {"component 2": shares[1]}) == set()
        terminal.type(shares[1].hex()[-1] + "\n")
        terminal.expect("vending key loaded")
        after = whole | {"component 1": shares[0], "component 2": shares[1]}
        assert stopped_scan(process, after) == set()
        assert terminal.end() == 0, terminal.shown
