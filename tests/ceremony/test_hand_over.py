"""A module changes hands, and a key is retired."""

from __future__ import annotations

import json
from pathlib import Path

from keyloader import record as records
from tests.ceremony.table import Officer, Room, Terminal, approve, at_terminal, begin, hold, run
from tests.ceremony.test_ceremony import load, load_key, rendered
from tests.ceremony.test_refusals import Untouched, refused, running


def hand_over_plan(room: Room, takers: list[Officer]) -> Path:
    entries = "".join(
        f'[[ceremony.officers.officer]]\nname = "{one.name}"\nkey = "{one.line}"\n'
        "valid_from = 2020-01-01\nvalid_until = 2099-01-01\n"
        for one in takers
    )
    return room.plan(
        "hand-over",
        'kind = "hand-over"\nfrom_party = "Utility North"\nto_party = "Utility South"\nseals = ["S-100", "S-101"]\n'
        f"[ceremony.officers]\nneeded = 2\n{entries}",
    )


def takers_of(room: Room) -> list[Officer]:
    return [Officer.make(room.folder, name) for name in ("Sam", "Sue")]


def seals(terminal: Terminal) -> None:
    terminal.answer("Is seal S-100 there and whole? Type Yes or No: ", "Yes")
    terminal.answer("Is seal S-101 there and whole? Type Yes or No: ", "No")


def test_a_module_changes_hands(room: Room, tmp_path: Path) -> None:
    load(room, load_key(room))
    takers = takers_of(room)
    plan = hand_over_plan(room, takers)
    with at_terminal(["rehearse", str(plan)]) as terminal:
        begin(terminal, plan)
        for name in ("Alice", "Carol"):
            terminal.choose("Who approves now?", name)
            terminal.answer("Press Enter: ", "")
        seals(terminal)
        for _ in takers:
            terminal.answer("Press Enter: ", "")
        assert terminal.end() == 0, terminal.shown
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        seals(terminal)
        for taker in takers:
            terminal.answer("to sign here: ", str(taker.path))
        assert terminal.end() == 0, terminal.shown
    audit_key = json.loads(room.records[0].read_text())["audit_key"]
    assert run("verify", str(room.records[-1]), "--key", audit_key).returncode == 0
    found = records.read(room.records[-1])
    steps = [step["what"] for step in found.fields["steps"]]
    assert "seal missing or broken" in steps
    assert "key handed over" in steps
    assert [one["officer"] for one in found.fields["acceptances"]] == ["Sam", "Sue"]
    inventory = json.loads(run("inventory", "--site", str(room.site), "--json").stdout)
    assert [one["name"] for one in inventory["officers"]] == ["Sam", "Sue"]
    # Those who gave it away can do nothing with it any more.
    destroy = room.plan("destroy", 'kind = "destroy-key"\nsupply_group_code = "201457"\nkey_revision_number = 1\n')
    with running(room, destroy) as terminal:
        begin(terminal, destroy)
        listed = terminal.expect("nobody: stop here")
        assert "Alice" not in listed
        terminal.answer("Number, 1 to 3: ", "3")
        refused(room, terminal, "CEREMONY_STOPPED", 3)
    pages, text = rendered(room.folder / "records" / "0003.pdf")
    assert pages
    assert "Taken over by" in text


def test_a_taker_who_does_not_sign_takes_nothing(room: Room) -> None:
    takers = takers_of(room)
    plan, untouched = hand_over_plan(room, takers), Untouched(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        seals(terminal)
        terminal.answer("to sign here: ", str(takers[0].path))
        for _ in range(3):
            # The other taker's key, an officer's, and no file at all.
            terminal.answer("to sign here: ", str(takers[0].path))
        refused(room, terminal, "APPROVAL_REFUSED")
    untouched.check()


def test_an_acceptance_that_was_taken_out_is_missed(room: Room) -> None:
    takers = takers_of(room)
    plan = hand_over_plan(room, takers)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        seals(terminal)
        for taker in takers:
            terminal.answer("to sign here: ", str(taker.path))
        assert terminal.end() == 0, terminal.shown
    document = json.loads(room.records[-1].read_text())
    # What those who take it have signed is what was seen, not only that they sign.
    steps = document["record"]["steps"]
    broken = next(step for step in steps if step["what"] == "seal missing or broken")
    broken["what"] = "seal compared"
    room.records[-1].write_text(json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n")
    done = run("verify", str(room.records[-1]))
    assert done.returncode == 4
    assert "the signature of Sam, who takes the module over, is wrong" in done.stderr
    broken["what"] = "seal missing or broken"
    document["record"]["acceptances"].pop()
    room.records[-1].write_text(json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n")
    done = run("verify", str(room.records[-1]))
    assert done.returncode == 4
    assert "has not signed" in done.stderr


def test_a_key_is_retired(room: Room) -> None:
    load(room, load_key(room))
    plan = room.plan("retire", 'kind = "retire-key"\nsupply_group_code = "201457"\nkey_revision_number = 1\n')
    with at_terminal(["rehearse", str(plan)]) as terminal:
        begin(terminal, plan)
        for name in ("Alice", "Carol"):
            terminal.choose("Who approves now?", name)
            terminal.answer("Press Enter: ", "")
        assert terminal.end() == 0, terminal.shown
    hold(room, plan, "Alice", "Bob")
    inventory = json.loads(run("inventory", "--site", str(room.site), "--json").stdout)
    assert inventory["keys"][0]["state"] == "retired"
    untouched = Untouched(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        refused(room, terminal, "KEY_RETIRED")
    untouched.check()
