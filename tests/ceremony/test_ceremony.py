"""Whole ceremonies at a terminal: from a blank token to a key that makes an official compliance token."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pypdfium2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hsm.ssh_signatures import OfficerKey, OfficerSignature, sign
from keyloader import record as records
from keyloader.errors import RecordInvalid
from keyloader.proquints import spell
from tests.ceremony.table import Room, Terminal, approve, at_terminal, begin, hold, run
from tests.module import test_vectors
from tests.support import vectors
from tests.support.lab import PUBLIC_160, SOFTHSM, Lab

SHARES = [bytes(range(17, 37)), bytes(a ^ b for a, b in zip(bytes(range(17, 37)), PUBLIC_160, strict=True))]
CHECK_VALUES = [hashlib.sha256(b"\x01" + share).hexdigest()[:6].upper() for share in SHARES]
KEY_CHECK_VALUE = hashlib.sha256(b"\x01" + PUBLIC_160).hexdigest()[:6].upper()


def load_key(room: Room, name: str = "load", *, check_values: list[str] | None = None, check_value: str = "") -> Path:
    values = json.dumps(CHECK_VALUES if check_values is None else check_values)
    return room.plan(
        name,
        f'kind = "load-key"\ncomponents = 2\ncomponent_check_values = {values}\n'
        f'check_value = "{check_value or KEY_CHECK_VALUE}"\n'
        '[ceremony.key]\nsupply_group_code = "201457"\nkey_revision_number = 1\nkey_type = 2\ndkga = 4\n'
        "base_date = 14\nkey_expiry_number = 255\n",
    )


def enter(terminal: Terminal, officer: str, share: bytes, number: int) -> None:
    terminal.choose(f"Who enters component {number} of 2?", officer)
    type_component(terminal, share)


def type_component(terminal: Terminal, share: bytes) -> None:
    terminal.expect("Ctrl-C stops.")
    digits = share.hex()
    # A slip of the fingers, and a blank as it stands on the paper.
    terminal.type(digits[0] + "x" + digits[1] + "f\x7f" + " ".join([digits[2:4], digits[4:]]))
    # An arrow key, and a digit too many, are neither taken nor shown.
    terminal.type("\x1b[A7\n")


def load(room: Room, plan: Path) -> str:
    with at_terminal(["run", str(plan), "--site", str(room.site)]) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        enter(terminal, "Alice", SHARES[0], 1)
        enter(terminal, "Bob", SHARES[1], 2)
        assert terminal.end() == 0, terminal.shown
        return terminal.shown


def rendered(path: Path) -> tuple[list[object], str]:
    """Return the pages of a PDF as pictures, and its text."""
    document = pypdfium2.PdfDocument(str(path))
    try:
        pages = [page.render(scale=1).to_pil() for page in document]
        text = "\n".join(page.get_textpage().get_text_range() for page in document)
    finally:
        document.close()
    return pages, text


def test_from_a_blank_token_to_an_official_token(tmp_path: Path) -> None:
    room = Room.make(tmp_path, SOFTHSM)
    plan = room.initialise_plan()
    # A slip in the plan is found before anybody meets.
    slip = (
        plan.read_text()
        .replace("needed = 2", "needed = 4")
        .replace('kind = "initialise"', 'kind = "initialise"\nextra = 1')
    )
    (tmp_path / "plans" / "slip.toml").write_text(slip)
    linted = run("lint", str(tmp_path / "plans" / "slip.toml"))
    assert linted.returncode == 2
    assert "more officers are needed than there are" in linted.stderr
    assert "extra" in linted.stderr
    assert run("lint", str(plan)).returncode == 0

    with at_terminal(["rehearse", str(plan)]) as terminal:
        begin(terminal, plan)
        for name in ("Bob", "Carol"):
            terminal.choose("Who approves now?", name)
            terminal.answer("Press Enter: ", "")
        assert terminal.end() == 0, terminal.shown
        assert "REHEARSAL  went well" in terminal.shown
    assert room.records == []
    assert room.stores == []

    hold(room, plan, "Alice", "Carol")
    assert room.stores == [".lock", "pin", "store-0001", "tokens"]
    shown = load(room, load_key(room))
    assert f"check value {KEY_CHECK_VALUE}" in shown

    # Nothing of a component was ever shown.
    for share in SHARES:
        assert share.hex()[4:12] not in shown.lower()
    assert "[40 of 40]" in shown
    assert not re.search(r"^7", shown, re.MULTILINE)
    lab = Lab(tmp_path)
    lab.tokens = tmp_path / "module" / "tokens"
    lab.configure("certification")
    # The official tests of the compliance suite (STS 531-1) that are for the key that was just loaded.
    official = [
        vector
        for vector in vectors.of_kind("token")
        if vector["ea"] and (vector["key_context"]["sgc"], vector["key_context"]["krn"]) == ("201457", 1)
    ]
    assert len(official) > 10
    with lab.session((tmp_path / "module" / "pin").read_text().strip()) as session:
        for vector in official:
            test_vectors.test_token(session, vector)

    first, second = room.records
    verified = records.verify(records.read(second))
    assert verified.officers == ("Alice", "Bob")
    assert verified.fields["keys_after"][0].startswith("keywatt-vk/1 sgc=201457 krn=1")
    assert "proof" not in second.read_text()
    steps = [step["what"] for step in verified.fields["steps"]]
    assert steps == [
        "approved",
        "approved",
        "component entered",
        "component entered",
        "vending key loaded",
        "every key proves its record",
    ]
    key = records.read(first).audit_key.hex()
    for path in room.records:
        proven = run("verify", str(path), "--key", key, "--json")
        assert proven.returncode == 0, proven.stderr
        assert json.loads(proven.stdout)["proven"] is True
    assert run("verify", str(first), "--key", "00" * 32).returncode == 4


def test_the_papers(room: Room) -> None:
    plan = load_key(room)
    output = room.folder / "script.pdf"
    assert run("print", str(plan), "-o", str(output)).returncode == 0
    assert run("print", str(plan), "-o", str(output)).returncode == 1
    pages, text = rendered(output)
    digest = hashlib.sha256(plan.read_bytes()).digest()
    assert spell(digest).split()[0] in text
    assert all(one in text for one in ("initials", "Deviations", CHECK_VALUES[0], KEY_CHECK_VALUE, "Wanda", "witness"))
    assert [picture.size for picture in pages] == [(596, 842)] * len(pages)  # type: ignore[attr-defined]
    # Ink on the page, and a QR code in its corner.
    assert all(len(set(picture.convert("L").tobytes())) > 10 for picture in pages)  # type: ignore[attr-defined]
    corner = pages[0].crop((440, 80, 560, 190)).convert("L")  # type: ignore[attr-defined]
    shades = corner.tobytes()
    dark = sum(value < 128 for value in shades) / len(shades)
    assert 0.2 < dark < 0.7
    load(room, plan)
    _, text = rendered(room.records[-1].with_suffix(".pdf"))
    flat = text.replace("\r", "").replace("\n", "").replace(" ", "")
    for one in (KEY_CHECK_VALUE, *CHECK_VALUES, "Alice", "Bob", "Wanda", "sgc=201457", "SHA-256(01||VK)[0..2]"):
        assert one.replace(" ", "") in flat, one
    assert records.read(room.records[-1]).digest.hex() in flat
    assert "REHEARSAL" not in text


def test_a_generated_key_and_its_end(room: Room) -> None:
    hold(
        room,
        room.plan(
            "generate",
            'kind = "generate-key"\n[ceremony.key]\nsupply_group_code = "700001"\nkey_revision_number = 2\n'
            "key_type = 2\ndkga = 2\nbase_date = 14\nkey_expiry_number = 255\n",
        ),
        "Bob",
        "Carol",
    )
    fields = records.read(room.records[-1]).fields
    (label,) = fields["keys_after"]
    assert label.startswith("keywatt-vk/1 sgc=700001 krn=2 kt=2 dkga=02")
    destroy = room.plan("destroy", 'kind = "destroy-key"\nsupply_group_code = "700001"\nkey_revision_number = 2\n')
    hold(room, destroy, "Alice", "Carol")
    fields = records.read(room.records[-1]).fields
    assert (fields["keys_before"], fields["keys_after"]) == ([label], [])
    assert (fields["store_before"], fields["store_after"]) == ("store-0002", "store-0003")


def test_officers_come_and_go(room: Room) -> None:
    plan = room.plan("officers", f'kind = "officers"\n{room.officer_list.replace("Carol", "Dora")}')
    shown = hold(room, plan, "Alice", "Bob")
    assert "officer retired: officer Carol" in shown
    fields = records.read(room.records[-1]).fields
    assert fields["outcome"] == "done"
    records.verify(records.read(room.records[-1]))


def test_tables_are_installed(room: Room) -> None:
    names = {"name": "lab-tables"}
    tables = {
        "substitution1": list(range(16)),
        "substitution2": list(range(15, -1, -1)),
        "permutation": list(range(64)),
    }
    path = room.folder / "plans" / "tables.json"
    path.write_text(json.dumps(names | tables))
    shown = run("sta-tables", "check", str(path), "--json")
    digest = json.loads(shown.stdout)["sha256"]
    wrong = room.plan("wrong", f'kind = "tables"\nfile = "tables.json"\nsha256 = "{"0" * 64}"\n')
    assert run("lint", str(wrong)).returncode == 2
    hold(room, room.plan("tables", f'kind = "tables"\nfile = "tables.json"\nsha256 = "{digest}"\n'), "Alice", "Bob")


@pytest.mark.parametrize("kind", ["load-key", "generate-key", "destroy-key", "officers"])
def test_rehearsals_leave_nothing(room: Room, kind: str) -> None:
    plans = {
        "load-key": lambda: load_key(room),
        "generate-key": lambda: room.plan(
            "generate",
            'kind = "generate-key"\n[ceremony.key]\nsupply_group_code = "700001"\nkey_revision_number = 1\n'
            "key_type = 2\ndkga = 4\nbase_date = 14\nkey_expiry_number = 255\n",
        ),
        "destroy-key": lambda: room.plan(
            "destroy", 'kind = "destroy-key"\nsupply_group_code = "201457"\nkey_revision_number = 1\n'
        ),
        "officers": lambda: room.plan("officers", f'kind = "officers"\n{room.officer_list}'),
    }
    plan = plans[kind]()
    elsewhere = room.folder / "elsewhere"
    elsewhere.mkdir()
    with at_terminal(["rehearse", str(plan)], TMPDIR=str(elsewhere)) as terminal:
        begin(terminal, plan)
        for name in ("Alice", "Bob"):
            terminal.choose("Who approves now?", name)
            terminal.answer("Press Enter: ", "")
        if kind == "load-key":
            for number, name in ((1, "Alice"), (2, "Bob")):
                terminal.choose(f"Who enters component {number} of 2?", name)
                terminal.expect("Ctrl-C stops.")
                terminal.type(f"{number}" * 40 + "\n")
                terminal.answer("Type Yes or No: ", "yes")
                terminal.answer("Type Yes or No: ", "Yes")
        assert terminal.end() == 0, terminal.shown
    lines = [line for line in terminal.shown.splitlines() if line.startswith("*")]
    assert lines == []
    assert "REHEARSAL  went well" in terminal.shown
    assert list(elsewhere.iterdir()) == []


# --- records ----------------------------------------------------------------------------------------------------------


def altered(path: Path, change: dict[str, object]) -> Path:
    document = json.loads(path.read_text())
    document["record"] |= change
    made = path.with_name("altered.json")
    made.write_bytes(json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n")
    return made


def test_an_altered_record_is_not_proven(room: Room) -> None:
    path = room.records[0]
    fields, key = records.read(path).fields, records.read(path).audit_key.hex()
    forged = sign(Ed25519PrivateKey.generate(), "approval@keywatt.dev", b"x")
    for change in (
        {"begun": "2020-01-01T00:00:00Z"},
        {"steps": []},
        {"approvals": fields["approvals"][:1]},
        {"approvals": [*fields["approvals"], fields["approvals"][0]]},
        {"approvals": [fields["approvals"][0], {"officer": "Carol", "time": "", "signature": str(forged)}]},
        {"needed": 1},
        {"kind": 3},
        {"plan": fields["plan"] + "\n"},
        {"nonce": "00" * 32},
        {"enrolled": []},
        {"title": 7, "actions": []},
        {"module": {}},
        {"outcome": "refused"},
        {"actions": [{**one, "what": "nothing"} for one in fields["actions"]]},
        {"approvals": [{**one, "officer": "Dora"} for one in fields["approvals"]]},
        {"title": "a\x1b[2Jb"},
        {"needed": float("inf")},
    ):
        made = altered(path, change)
        with pytest.raises(RecordInvalid):
            records.verify(records.read(made))
        assert run("verify", str(made), "--key", key).returncode == 4
        made.unlink()
    # Alone it proves nothing: anybody can make one that fits itself.
    assert run("verify", str(path)).returncode == 4
    assert json.loads(run("verify", str(path), "--json").stdout)["proven"] is False
    # Twice the same name is two records to two readers.
    twice = path.with_name("altered.json")
    twice.write_bytes(path.read_bytes().replace(b'"record": {', b'"record": {}, "record": {', 1))
    assert run("verify", str(twice), "--key", key).returncode == 4
    for octets in (b"", b"{}", b"[]", b'{"record":{},"audit_key":"","signature":""}', b"\xff"):
        made = path.with_name("altered.json")
        made.write_bytes(octets)
        result = run("verify", str(made))
        assert result.returncode == 4
        assert "Traceback" not in result.stderr
        made.unlink()


# --- signatures of OpenSSH --------------------------------------------------------------------------------------------


def test_signatures_are_those_of_ssh_keygen(room: Room, tmp_path: Path) -> None:
    import subprocess

    message = tmp_path / "message"
    message.write_text("a text\n")
    alice = room.officer("Alice")
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "approval@keywatt.dev", "-f", str(alice.path), str(message)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    text = (tmp_path / "message.sig").read_text()
    signature = OfficerSignature.parse(text)
    assert str(signature) == text
    assert str(signature.key) == alice.line
    # And the other way: ssh-keygen verifies what was signed here.
    private = Ed25519PrivateKey.generate()
    ours = sign(private, "approval@keywatt.dev", b"a text\n")
    (tmp_path / "ours.sig").write_text(str(ours))
    key = OfficerKey(public=private.public_key().public_bytes_raw())
    (tmp_path / "allowed").write_text(f"alice {key}\n")
    command = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "allowed"), "-I", "alice"]
    command += ["-n", "approval@keywatt.dev", "-s", str(tmp_path / "ours.sig")]
    with message.open() as source:
        verified = subprocess.run(command, check=False, stdin=source, capture_output=True, text=True)
    assert re.search(r"Good .* signature", verified.stdout), verified.stderr
