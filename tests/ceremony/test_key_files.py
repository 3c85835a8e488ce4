"""Keys of a key management centre, from the request to an official token, and every file that is refused."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from hsm.ceremony_requests import KEY_LOAD_NAMESPACE
from hsm.ssh_signatures import sign
from keyloader import record as records
from keyloader.exchange import centre as centres
from keyloader.exchange.centre import ClearKey
from keyloader.exchange.key_load_file import KeyLoadFile
from keyloader.exchange.request_file import KeyRequest
from keyloader.key_file import entries
from keyloader.kmc_cli import _centre
from tests.ceremony.table import Officer, Room, approve, at_terminal, begin, hold, run
from tests.ceremony.test_ceremony import enter
from tests.ceremony.test_memory import stopped_scan
from tests.ceremony.test_refusals import Untouched, refused, running
from tests.module import test_vectors
from tests.module.test_key_blocks import BLOCK_KEY, SHARES, cmac_of_zeros
from tests.support import vectors
from tests.support.lab import DEVELOPMENT_160, PUBLIC_160, Lab

KEYS = f"""\
[[key]]
supply_group_code = "201457"
key_revision_number = 1
key_type = 2
dkga = 4
base_date = 14
key_expiry_number = 255
key = "{PUBLIC_160.hex()}"

[[key]]
supply_group_code = "600500"
key_revision_number = 2
key_type = 2
dkga = 4
base_date = 14
key_expiry_number = 200
issued_until = 2040-01-01T00:00:00
refresh_until = 2039-01-01T00:00:00
unit_limit = "500.0"
currency_limit = "1000"
key = "{DEVELOPMENT_160.hex()}"
"""


class Exchange:
    """A room, and a centre that sends keys to it."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.centre = Officer.make(room.folder, "Centre")
        self.keys = room.folder / "keys.toml"
        self.keys.write_text(KEYS)
        self.number = 0

    def enrol(self) -> None:
        plan = self.room.plan(
            "centres", f'kind = "centres"\n[[ceremony.centre]]\nname = "Centre"\nkey = "{self.centre.line}"\n'
        )
        shown = hold(self.room, plan, "Alice", "Bob")
        assert "centre enrolled: centre Centre" in shown

    def request(self) -> Path:
        shown = hold(self.room, self.room.plan("request", 'kind = "key-request"\n'), "Bob", "Carol")
        assert "request.json is in " in shown
        return self.room.folder / "records" / f"{self.room.records[-1].stem.split('-')[0]}-request.json"

    def send(self, request: Path, centre: Officer | None = None, name: str = "Centre") -> Path:
        self.number += 1
        path = self.room.folder / "plans" / f"sent-{self.number}.json"
        audit_key = json.loads(self.room.records[0].read_text())["audit_key"]
        done = run(
            "kmc", "send", str(request), "--keys", str(self.keys), "--name", name,
            "--key", str((centre or self.centre).path), "--audit-key", audit_key, "-o", str(path),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "TEST ONLY" in done.stderr
        assert hashlib.sha256(path.read_bytes()).hexdigest() in done.stdout
        return path

    def plan(self, file: Path, name: str = "Centre") -> Path:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        text = f'kind = "key-file"\nfile = "{file.name}"\nsha256 = "{digest}"\ncentre = "{name}"\n'
        return self.room.plan(f"load-{file.stem}", text)


@pytest.fixture
def exchange(room: Room) -> Exchange:
    return Exchange(room)


def rehearse(plan: Path) -> str:
    """Rehearse with two that approve; return what was shown."""
    with at_terminal(["rehearse", str(plan)]) as terminal:
        begin(terminal, plan)
        for name in ("Bob", "Carol"):
            terminal.choose("Who approves now?", name)
            terminal.answer("Press Enter: ", "")
        assert terminal.end() == 0, terminal.shown
    return terminal.shown


def assert_refused(room: Room, plan: Path, reason: str) -> None:
    """Run with two that approve; it is refused for the reason, and nothing has changed."""
    untouched = Untouched(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        refused(room, terminal, reason)
    untouched.check()


def test_from_the_request_to_an_official_token(exchange: Exchange, tmp_path: Path) -> None:
    room = exchange.room
    exchange.enrol()
    plan = exchange.plan(exchange.send(exchange.request()))
    linted = run("lint", str(plan), "--json")
    assert linted.returncode == 0, linted.stderr
    assert len(json.loads(linted.stdout)["actions"]) == 3
    assert "REHEARSAL  * vending key loaded: key 600500/2" in rehearse(plan)
    shown = hold(room, plan, "Alice", "Carol")
    assert "* vending key loaded: key 201457/1, check value 6C3DE4" in shown
    assert "transport key destroyed" in shown
    audit_key = json.loads(room.records[0].read_text())["audit_key"]
    # With the files beside the plan even the actions are compared; without, all but them.
    for more in ([], ["--files", str(room.folder / "plans")]):
        verified = run("verify", str(room.records[-1]), "--key", audit_key, *more)
        assert verified.returncode == 0, verified.stderr
    inventory = json.loads(run("inventory", "--site", str(room.site), "--json").stdout)
    second = next(key for key in inventory["keys"] if key["sgc"] == "600500")
    assert (second["ulm"], second["clm"], second["rfr"]) == ("5000", "100000000", "2039-01-01T00:00")

    lab = Lab(room.folder)
    lab.tokens = room.folder / "module" / "tokens"
    lab.configure("certification")
    official = [
        vector
        for vector in vectors.of_kind("token")
        if vector["ea"] and (vector["key_context"]["sgc"], vector["key_context"]["krn"]) == ("201457", 1)
    ]
    with lab.session((room.folder / "module" / "pin").read_text().strip()) as session:
        for vector in official:
            test_vectors.test_token(session, vector)


def test_a_file_is_loaded_once(exchange: Exchange) -> None:
    """Replayed: after its ceremony, and after the key was destroyed."""
    room = exchange.room
    exchange.enrol()
    plan = exchange.plan(exchange.send(exchange.request()))
    hold(room, plan, "Alice", "Bob")
    destroy = 'kind = "destroy-key"\nsupply_group_code = "201457"\nkey_revision_number = 1\n'
    hold(room, room.plan("destroy", destroy), "Alice", "Bob")
    assert_refused(room, plan, "TRANSPORT_KEY_MISSING")


def test_a_file_for_an_older_request_is_refused(exchange: Exchange) -> None:
    room = exchange.room
    exchange.enrol()
    plan = exchange.plan(exchange.send(exchange.request()))
    exchange.request()
    assert_refused(room, plan, "SIGNATURE_WRONG")


def test_a_centre_that_nobody_enrolled_is_refused(exchange: Exchange) -> None:
    room = exchange.room
    plan = exchange.plan(exchange.send(exchange.request()))
    assert_refused(room, plan, "CENTRE_UNKNOWN")


def test_another_key_under_the_centres_name_is_refused(exchange: Exchange) -> None:
    room = exchange.room
    exchange.enrol()
    plan = exchange.plan(exchange.send(exchange.request(), centre=room.officer("Carol")))
    assert_refused(room, plan, "CENTRE_UNKNOWN")


def test_a_file_for_another_module_is_refused(exchange: Exchange) -> None:
    """A request that says another token than the one whose transport key it shows."""
    room = exchange.room
    exchange.enrol()
    sent = exchange.send(exchange.request())
    file = KeyLoadFile.read(sent)
    centre = _centre("Centre", exchange.centre.path)
    for change in ({"module": "other"}, {"serial": "0123456789abcdef"}):
        elsewhere = centre.sign(file.model_copy(update=change))
        with pytest.raises(Exception, match="not as Centre has signed it"):
            elsewhere.require_signed()
    # And the other way: the centre itself sends it to the other one, and it is carried here.
    request = KeyRequest.read(room.folder / "records" / "0003-request.json")
    keys = [ClearKey(attributes=entry.attributes, key=entry.octets) for entry in entries(exchange.keys)]
    other = centre.send(request.model_copy(update={"serial": "0123456789abcdef"}), keys)
    path = room.folder / "plans" / "other.json"
    path.write_bytes(other.pack())
    plan = exchange.plan(path)
    assert_refused(room, plan, "SIGNATURE_WRONG")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"key_expiry_number": 200', '"key_expiry_number": 255'),
        ('"unit_limit": "500.0"', '"unit_limit": "999.0"'),
        ('"supply_group_code": "600500"', '"supply_group_code": "600501"'),
        ('"centre": "Centre"', '"centre": "Another"'),
    ],
)
def test_an_altered_file_is_found_before_anybody_meets(exchange: Exchange, old: str, new: str) -> None:
    exchange.enrol()
    sent = exchange.send(exchange.request())
    text = sent.read_text()
    assert old in text
    sent.write_text(text.replace(old, new))
    done = run("lint", str(exchange.plan(sent)))
    assert done.returncode == 2
    assert "has signed it" in done.stderr


def test_attributes_that_contradict_the_key_are_refused(exchange: Exchange) -> None:
    """Signed anew by somebody who has the centre's signing key, and cannot wrap again."""
    room = exchange.room
    exchange.enrol()
    sent = exchange.send(exchange.request())
    file = KeyLoadFile.read(sent)
    centre = _centre("Centre", exchange.centre.path)
    first = file.keys[0]
    lied = first.model_copy(update={"attributes": first.attributes.model_copy(update={"key_expiry_number": 9})})
    text = file.text_of(lied)
    lied = lied.model_copy(update={"signature": sign(centre.private, KEY_LOAD_NAMESPACE, text).signature.hex()})
    sent.write_bytes(centre.sign(file.model_copy(update={"keys": [lied]})).pack())
    plan = exchange.plan(sent)
    assert_refused(room, plan, "WRAPPED_KEY_WRONG")


def test_a_request_that_the_module_did_not_make(exchange: Exchange) -> None:
    """The centre compares the audit key with the one that it was given."""
    request = exchange.request()
    altered = json.loads(request.read_text())
    for change in ({"serial": "ffffffffffffffff"}, {"profile": "production"}, {"transport": "04" + "11" * 96}):
        request.write_text(json.dumps(altered | change))
        done = run(
            "kmc", "send", str(request), "--keys", str(exchange.keys), "--name", "Centre",
            "--key", str(exchange.centre.path), "--audit-key", altered["audit_key"], "-o", str(exchange.room.folder / "never"),
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert "KEY_REQUEST_INVALID" in done.stderr


def test_key_blocks_and_their_key(room: Room) -> None:
    """The key in components, then a vending key in a block; rehearsed, held, and scanned for."""
    values = json.dumps([cmac_of_zeros(share).hex().upper() for share in SHARES])
    key = room.plan(
        "block-key",
        f'kind = "block-key"\ncomponents = 2\ncomponent_check_values = {values}\n'
        f'check_value = "{cmac_of_zeros(BLOCK_KEY).hex().upper()}"\n',
    )
    with at_terminal(["run", str(key), "--site", str(room.site)]) as terminal:
        begin(terminal, key)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        enter(terminal, "Alice", SHARES[0], 1)
        enter(terminal, "Bob", SHARES[1], 2)
        terminal.expect("key block protection key loaded")
        assert stopped_scan(terminal.process.pid, {"block key": BLOCK_KEY}) == set()
        assert terminal.end() == 0, terminal.shown
    (room.folder / "keys.toml").write_text(KEYS)
    (room.folder / "block-key.hex").write_text(BLOCK_KEY.hex())
    blocks = run(
        "kmc", "block", "--keys", str(room.folder / "keys.toml"), "--block-key", str(room.folder / "block-key.hex")
    )
    lines = blocks.stdout.split("\n")[:2]
    assert blocks.returncode == 0
    plan = room.plan("blocks", f'kind = "key-blocks"\nblocks = {json.dumps(lines)}\n')
    rehearse(plan)
    shown = hold(room, plan, "Bob", "Carol")
    assert "vending key loaded: key 201457/1, check value 6C3DE4" in shown
    assert "vending key loaded: key 600500/2" in shown
    # One digit of a block altered: refused, and nothing is changed.
    bad = lines[0][:-1] + ("0" if lines[0][-1] != "0" else "1")
    plan = room.plan("bad", f'kind = "key-blocks"\nblocks = {json.dumps([bad])}\n')
    assert_refused(room, plan, "KEY_BLOCK_WRONG")


def test_a_refresh_through_a_second_file(exchange: Exchange) -> None:
    room = exchange.room
    exchange.enrol()
    hold(room, exchange.plan(exchange.send(exchange.request())), "Alice", "Bob")
    exchange.keys.write_text(
        KEYS.replace("2039-01-01", "2041-01-01").replace('"500.0"', '"700"').replace("2040", "2042")
    )
    shown = hold(room, exchange.plan(exchange.send(exchange.request())), "Alice", "Bob")
    assert "this very key was there already: key 201457/1" in shown
    assert "vending key loaded: key 600500/2" in shown
    fields = records.verify(records.read(room.records[-1])).fields
    after = [label for label in fields["keys_after"] if "sgc=600500" in label]
    assert len(after) == 1
    assert "rfr=2041-01-01T00:00 ulm=7000" in after[0]


def test_the_memory_of_the_key_loader_has_no_key_of_a_file(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the vending key, nor the key it was wrapped under, nor the secret that this one comes from."""
    room = exchange.room
    exchange.enrol()
    request = exchange.request()
    wanted: dict[str, bytes] = {}
    keep = centres.wrapping_key

    def remember(shared: bytes, *rest: Any) -> bytes:
        wanted["shared secret"], wanted["wrapping key"] = shared, keep(shared, *rest)
        return wanted["wrapping key"]

    monkeypatch.setattr(centres, "wrapping_key", remember)
    key = os.urandom(20)
    wanted |= {"key": key, "digits": key.hex().encode()}
    (attributes,) = [entry.attributes for entry in entries(exchange.keys) if entry.supply_group_code == "600500"]
    sent = _centre("Centre", exchange.centre.path).send(
        KeyRequest.read(request), [ClearKey(attributes=attributes, key=key)]
    )
    path = room.folder / "plans" / "secret.json"
    path.write_bytes(sent.pack())
    plan = exchange.plan(path)
    with at_terminal(["run", str(plan), "--site", str(room.site)]) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        terminal.expect("vending key loaded")
        assert len(wanted) == 4
        assert stopped_scan(terminal.process.pid, wanted) == set()
        assert terminal.end() == 0, terminal.shown


def test_the_request_can_be_written_again(exchange: Exchange) -> None:
    """A kill after the ceremony must not lose it: what was asked before is void."""
    request = exchange.request()
    before = request.read_bytes()
    request.unlink()
    record = exchange.room.records[-1]
    done = run("papers", str(record), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["papers"] == [str(request)]
    assert request.read_bytes() == before
    assert "nothing follows" in run("papers", str(exchange.room.records[0])).stdout
