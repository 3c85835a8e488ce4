"""A ceremony beside a running system: the worker takes the new token store over, and nobody's request is dropped."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from keywatt.audit.v1 import audit_pb2
from keywatt.keys.v1 import keys_pb2

from hsm.log import leaves
from hsm.log.checkpoints import CHECKPOINT, Checkpoint
from hsm.log.export import read
from hsm.log.notes import Note, VerifierKey
from hsm.log.tiles import TileReader
from hsm.system_users import MODULE_USER
from keyloader import record as records
from tests.ceremony.table import Room, approve, at_terminal, begin, hold, run
from tests.support.ceremonial import restart
from tests.support.shop import SGC, Shop
from tests.support.system import System

pytestmark = pytest.mark.root
KEY = """kind = "generate-key"
[ceremony.key]
supply_group_code = "{}"
key_revision_number = 1
key_type = 2
dkga = 4
base_date = 14
key_expiry_number = 255
"""


FIELDS = b'"plan_sha256":"","title":"%s","outcome":"done","kind":%s,"approvals":[],"store_after":""'
HOSTILE = [
    ("0009.json", b'{"record":{' + FIELDS % (b"t", b"Infinity") + b"}}"),
    ("0010.json", b'{"record":{' + FIELDS % (b"x" * 70_000, b"1") + b"}}"),
    ("9999.json", b'{"record":{' + FIELDS % (b"t", b"1") + b',"x":[' + b"[]," * 400_000 + b"[]]}}"),
]


def entries(system: System) -> list[dict[str, Any]]:
    with system.client() as client:
        client.call(client.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest(fresh=True))
    folder = system.state / "audit"
    size = Checkpoint.parse(Note.parse((folder / CHECKPOINT).read_bytes()).text).size
    return [leaves.decode(entry) for _, entry in read(TileReader(folder, size))]


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.mark.timeout(240)
def test_a_key_is_loaded_beside_running_sales(room: tuple[System, Room]) -> None:
    system, made = room
    hold(made, made.plan("sold", KEY.format(SGC)), "Alice", "Bob")
    restart(system)
    worker = system.worker_pid

    def stores() -> str:
        return system.log("module")

    # The virtual meters of a shop know the test keys only: what is sold here is not entered.
    with system.client() as client, Shop([system], seed=3, meters=False) as shop:
        before = len(shop.sold)
        until(lambda: len(shop.sold) > before + 20, "sales")
        for number in range(3):
            hold(made, made.plan(f"key {number}", KEY.format(f"70000{number}")), "Bob", "Carol")
            until(lambda number=number: f"store-000{number + 3}" in stores(), "the store was not taken over")  # type: ignore[misc]
            sold = len(shop.sold)
            until(lambda sold=sold: len(shop.sold) > sold + 20, "sales after a ceremony")  # type: ignore[misc]
            keys = client.call(client.keys.ListVendingKeys, keys_pb2.ListVendingKeysRequest()).keys
            assert f"70000{number}" in [key.reference.supply_group_code for key in keys]
    assert dict(shop.errors) == {}
    assert system.worker_pid == worker
    # One that is refused changes nothing, and is told of.
    refused = made.plan("again", KEY.format("700000"))
    with at_terminal(["run", str(refused), "--site", str(made.site)], made.user) as terminal:
        begin(terminal, refused)
        approve(terminal, made.officer("Alice"), made.officer("Bob"))
        assert terminal.end() == 1
        assert "KEY_EXISTS" in terminal.shown
    until(lambda: "refused" in [leaf.get("outcome") for leaf in entries(system)], "the refused ceremony in the log")
    found = entries(system)
    ceremonies = [leaf for leaf in found if leaf["type"] == "ceremony"]
    assert [leaf["outcome"] for leaf in ceremonies] == ["done"] * 5 + ["refused"]
    for leaf in ceremonies:
        path = system.state / "records" / leaf["name"]
        assert leaf["record"] == records.read(path).digest.hex()
    assert [leaf["store"] for leaf in found if leaf["type"] == "reload"] == ["store-0003", "store-0004", "store-0005"]
    added = [leaf["added"] for leaf in found if leaf["type"] == "keys"]
    assert [line[0].split()[0] for line in added] == [f"{SGC}/1", "700000/1", "700001/1", "700002/1"]
    # A restart tells nothing twice.
    system.kill_worker()
    until(lambda: [leaf["type"] for leaf in entries(system)].count("start") == 2, "another worker")
    assert [leaf["type"] for leaf in entries(system)].count("ceremony") == 6
    key = (system.state / "audit" / "verifier-key").read_text().strip()
    trusted = VerifierKey.parse(key).public.hex()
    for leaf in ceremonies:
        assert run("verify", str(system.state / "records" / leaf["name"]), "--key", trusted).returncode == 0


def test_a_store_that_does_not_prove_itself_is_not_used(room: tuple[System, Room]) -> None:
    system, made = room
    hold(made, made.plan("first", KEY.format("700001")), "Alice", "Bob")
    restart(system)
    link = system.state / "module" / "tokens"
    empty = link.with_name("store-9999")
    empty.mkdir(mode=0o700)
    shutil.chown(empty, MODULE_USER, MODULE_USER)
    fresh = link.with_name("fresh")
    fresh.symlink_to("store-9999")
    fresh.rename(link)
    until(lambda: "start-failed" in system.log("module"), "a worker that refuses to start")
    back = link.with_name("back")
    back.symlink_to("store-0002")
    back.rename(link)
    with system.client() as client:

        def is_back() -> bool:
            try:
                return bool(client.call(client.keys.GetModuleStatus, keys_pb2.GetModuleStatusRequest()).keys == 1)
            except Exception:  # noqa: BLE001 - not yet
                return False

        until(is_back, "the worker on the old store")


def test_rubbish_among_the_records_is_told_of(room: tuple[System, Room]) -> None:
    system, made = room
    for name, octets in (
        ("0007.json", b"rubbish"),
        ("0008-refused.json", b'{"record": {}}'),
        ("notes.txt", b"x"),
        *HOSTILE,
    ):
        path = Path(system.state / "records" / name)
        path.write_bytes(octets)
    restart(system)
    until(lambda: len([leaf for leaf in entries(system) if leaf["type"] == "ceremony"]) == 6, "every entry")
    found = [(leaf["name"], leaf["outcome"]) for leaf in entries(system) if leaf["type"] == "ceremony"]
    names = ["0007.json", "0008-refused.json", *(name for name, _ in HOSTILE)]
    assert sorted(found) == [("0001.json", "done"), *((name, "unreadable") for name in sorted(names))]
    # Among them is a high number: what comes after is told of all the same, and replaces nothing.
    system.stop()
    hold(made, made.plan("next", KEY.format("700001")), "Alice", "Bob")
    assert (system.state / "records" / "10000.json").exists()
    hold(made, made.plan("after", KEY.format("700002")), "Alice", "Bob")
    restart(system)
    until(lambda: [leaf.get("outcome") for leaf in entries(system)].count("done") == 3, "those that came after")


def test_rolling_back_is_told_of(room: tuple[System, Room]) -> None:
    system, made = room
    hold(made, made.plan("first", KEY.format("700001")), "Alice", "Bob")
    restart(system)
    with at_terminal(["rollback", "store-0001", "--site", str(made.site)], made.user) as terminal:
        terminal.answer("Type store-0001 to go on: ", "store-0001")
        assert terminal.end() == 0, terminal.shown
    until(lambda: "token-store-rolled-back" in system.log("module"), "the worker's line")
    until(lambda: "reload" in [leaf["type"] for leaf in entries(system)], "the entry")
    (reload,) = (leaf for leaf in entries(system) if leaf["type"] == "reload")
    assert (reload["before"], reload["store"], reload["keys"]) == ("store-0002", "store-0001", 0)
    assert system.log("module").count("worker-ready") == 2
