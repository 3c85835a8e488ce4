"""Ceremonies that must not go through: whatever goes wrong, the token store is as before, byte for byte, and a record says why."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from keyloader import record as records
from tests.ceremony.table import Room, Terminal, approve, at_terminal, begin, hold, run
from tests.ceremony.test_ceremony import SHARES, enter, load, load_key, type_component


def image(folder: Path) -> dict[str, tuple[int, str]]:
    """Return every file of a folder, with its mode and digest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            found[str(path.relative_to(folder))] = (0, str(path.readlink()))
        elif path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(folder))] = (status.st_mode, digest)
        else:
            found[str(path.relative_to(folder))] = (status.st_mode, "")
    return found


class Untouched:
    """Sees that a folder is as it was."""

    def __init__(self, room: Room) -> None:
        self._folder = room.folder / "module"
        self._before = image(self._folder)

    def check(self) -> None:
        assert image(self._folder) == self._before


def refused(room: Room, terminal: Terminal, reason: str, status: int = 1) -> dict[str, object]:
    """See how a ceremony ended; return its record."""
    assert terminal.end() == status, terminal.shown
    assert reason in terminal.shown
    assert "Traceback" not in terminal.shown
    path = room.records[-1]
    assert path.name.endswith("-refused.json")
    verified = records.verify(records.read(path))
    assert not verified.is_done
    assert verified.fields["refused_because"]["reason"] == reason
    return verified.fields


def running(room: Room, plan: Path):  # type: ignore[no-untyped-def]  # a context manager
    return at_terminal(["run", str(plan), "--site", str(room.site)])


def test_one_officer_alone(room: Room) -> None:
    untouched, plan = Untouched(room), load_key(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"))
        terminal.expect("1 of 2 officers have approved.")
        listed = terminal.expect("nobody: stop here")
        # Nobody approves twice: who has approved is not asked again.
        assert "Alice" not in listed
        terminal.answer("Number, 1 to 3: ", "3")
        fields = refused(room, terminal, "CEREMONY_STOPPED", 3)
    assert len(fields["approvals"]) == 1  # type: ignore[arg-type]
    untouched.check()


def test_the_same_officer_twice_under_another_name(room: Room) -> None:
    untouched, plan = Untouched(room), load_key(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"))
        for _ in range(3):
            terminal.choose("Who approves now?", "Bob")
            terminal.answer("to sign here: ", str(room.officer("Alice").path))
            terminal.expect("this is not the key of Bob")
        refused(room, terminal, "APPROVAL_REFUSED")
    untouched.check()


def test_a_replayed_signature(room: Room) -> None:
    """Alice's signature of an earlier ceremony of the same plan."""
    plan = load_key(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"))
        terminal.choose("Who approves now?", "nobody: stop here")
        assert terminal.end() == 3
    old = json.loads(room.records[-1].read_text())["record"]["approvals"][0]["signature"]
    (room.folder / "old.sig").write_text(old)
    untouched = Untouched(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        for _ in range(3):
            terminal.choose("Who approves now?", "Alice")
            terminal.answer("to sign here: ", str(room.folder / "old.sig"))
            terminal.expect("SIGNATURE_WRONG")
        refused(room, terminal, "APPROVAL_REFUSED")
    untouched.check()


def test_a_signature_brought_from_elsewhere(room: Room) -> None:
    plan = load_key(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        terminal.choose("Who approves now?", "Bob")
        terminal.expect("to sign here: ")
        text = room.folder / "records" / "approval.txt"
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "approval@keywatt.dev", "-f", str(room.officer("Bob").path)]
        brought = room.folder / "bob"
        brought.write_bytes(text.read_bytes())
        subprocess.run([*command, str(brought)], check=True, stderr=subprocess.DEVNULL)
        terminal.type(f"{brought}.sig\n")
        terminal.expect("1 of 2 officers have approved.")
    assert not list((room.folder / "records").glob("*.sig"))


def test_wrong_signature_files(room: Room) -> None:
    untouched, plan = Untouched(room), load_key(room)
    (room.folder / "rubbish").write_bytes(b"\xff\x00rubbish")
    (room.folder / "almost").write_text("-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n")
    with running(room, plan) as terminal:
        begin(terminal, plan)
        for answer in ("/nowhere", str(room.folder / "rubbish"), str(room.folder / "almost")):
            terminal.choose("Who approves now?", "Bob")
            terminal.answer("to sign here: ", answer)
        refused(room, terminal, "APPROVAL_REFUSED")
    untouched.check()


def test_a_plan_that_was_altered_after_its_review(room: Room) -> None:
    untouched, plan = Untouched(room), load_key(room)
    reviewed = hashlib.sha256(plan.read_bytes()).hexdigest()
    plan.write_text(plan.read_text().replace("key_expiry_number = 255", "key_expiry_number = 254"))
    with running(room, plan) as terminal:
        terminal.answer("anything else to stop: ", reviewed[-8:])
        assert terminal.end() == 1
        assert "PLAN_NOT_CONFIRMED" in terminal.shown
    untouched.check()


def test_a_plan_that_is_altered_while_it_is_held(room: Room) -> None:
    """What was read once is what is approved and done."""
    plan = room.plan(
        "generate",
        'kind = "generate-key"\n[ceremony.key]\nsupply_group_code = "700001"\nkey_revision_number = 1\n'
        "key_type = 2\ndkga = 4\nbase_date = 14\nkey_expiry_number = 255\n",
    )
    with running(room, plan) as terminal:
        begin(terminal, plan)
        text = plan.read_text()
        plan.write_text(text.replace("700001", "700009"))
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        assert terminal.end() == 0
    fields = records.read(room.records[-1]).fields
    assert fields["plan"] == text
    assert fields["keys_after"][0].startswith("keywatt-vk/1 sgc=700001")


def wrong_component(room: Room, plan: Path, shares: list[bytes]) -> None:
    untouched = Untouched(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        enter(terminal, "Alice", shares[0], 1)
        for _ in range(2):
            type_component(terminal, shares[0])
        fields = refused(room, terminal, "COMPONENT_REFUSED")
    steps = [step["what"] for step in fields["steps"]]  # type: ignore[attr-defined]
    assert steps.count("component with a wrong check value") == 3
    untouched.check()


def test_a_wrong_component(room: Room) -> None:
    wrong_component(room, load_key(room), [bytes(19) + b"\1", SHARES[1]])


def test_swapped_components(room: Room) -> None:
    wrong_component(room, load_key(room), [SHARES[1], SHARES[0]])


def test_a_zero_component(room: Room) -> None:
    untouched, plan = Untouched(room), load_key(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        enter(terminal, "Alice", bytes(20), 1)
        for _ in range(2):
            type_component(terminal, bytes(20))
        refused(room, terminal, "COMPONENT_REFUSED")
    untouched.check()


def test_a_key_with_another_check_value_than_planned(room: Room) -> None:
    untouched, plan = Untouched(room), load_key(room, check_value="ABCDEF")
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        enter(terminal, "Alice", SHARES[0], 1)
        enter(terminal, "Bob", SHARES[1], 2)
        refused(room, terminal, "CHECK_VALUE_DIFFERS")
    untouched.check()


def test_a_key_that_exists(room: Room) -> None:
    load(room, load_key(room))
    untouched = Untouched(room)
    other = load_key(room, "other")
    other.write_text(other.read_text().replace("key_expiry_number = 255", "key_expiry_number = 254"))
    with running(room, other) as terminal:
        begin(terminal, other)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        enter(terminal, "Alice", SHARES[0], 1)
        enter(terminal, "Bob", SHARES[1], 2)
        refused(room, terminal, "KEY_EXISTS")
    untouched.check()


def test_an_officer_whose_term_is_over(room: Room) -> None:
    entries = room.officer_list.split("[[ceremony.officers.officer]]")
    entries[3] = entries[3].replace("2099-01-01", "2021-01-01")
    hold(
        room,
        room.plan("officers", 'kind = "officers"\n' + "[[ceremony.officers.officer]]".join(entries)),
        "Alice",
        "Bob",
    )
    untouched, plan = Untouched(room), load_key(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        for _ in range(3):
            terminal.choose("Who approves now?", "Carol")
            terminal.answer("to sign here: ", str(room.officer("Carol").path))
            terminal.expect("OFFICER_NOT_VALID")
        refused(room, terminal, "APPROVAL_REFUSED")
    untouched.check()


def test_stopping_at_the_keyboard_while_a_component_is_entered(room: Room) -> None:
    untouched, plan = Untouched(room), load_key(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        terminal.choose("Who enters component 1 of 2?", "Bob")
        terminal.expect("Ctrl-C stops.")
        terminal.type("0011\x03")
        refused(room, terminal, "CEREMONY_STOPPED", 3)
    untouched.check()


def test_stopping_while_an_officer_signs(room: Room) -> None:
    """Ctrl-C goes to ssh-keygen and to the key loader."""
    untouched, plan = Untouched(room), load_key(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        terminal.choose("Who approves now?", "Alice")
        terminal.expect("to sign here: ")
        os.killpg(terminal.process.pid, signal.SIGINT)
        refused(room, terminal, "CEREMONY_STOPPED", 3)
    untouched.check()


def test_answers_that_nobody_can_read(room: Room) -> None:
    plan = load_key(room)
    for encoding in ("utf-8:strict", "utf-8:surrogateescape"):
        with at_terminal(["run", str(plan), "--site", str(room.site)], PYTHONIOENCODING=encoding) as terminal:
            terminal.expect("anything else to stop: ")
            os.write(terminal.master, b"\xe9\n")
            terminal.expect("Answers are in ASCII; once more")
            begin_again(terminal, plan)
            terminal.choose("Who approves now?", "nobody: stop here")
            assert terminal.end() == 3


def begin_again(terminal: Terminal, plan: Path) -> None:
    terminal.type(hashlib.sha256(plan.read_bytes()).hexdigest()[-8:] + "\n")


def test_nobody_to_ask(room: Room) -> None:
    command = at_terminal_command("run", str(load_key(room)), "--site", str(room.site))
    result = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 3
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("text", ["a = " + "[" * 3000, "a = " + "1" * 5000, 'title = "a\\u001bb"'])
def test_plans_that_parsers_choke_on(room: Room, text: str) -> None:
    path = room.folder / "plans" / "choke.toml"
    path.write_text(text + "\n")
    result = run("lint", str(path))
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


# --- what the site lacks ------------------------------------------------------------------------------------------------


def begins_not(room: Room, plan: Path, text: str, status: int) -> None:
    untouched, before = Untouched(room), room.records
    result = run("run", str(plan), "--site", str(room.site))
    assert (result.returncode, "Traceback" in result.stderr) == (status, False), result.stderr
    assert text in result.stderr
    assert room.records == before
    untouched.check()


def test_a_ceremony_needs_what_its_site_names(room: Room) -> None:
    site = room.site.read_text()
    for old, new, text, status in (
        ("records = ", 'printer = "office"\nrecords = ', "no lp to reach it", 1),
        ("/records", "/nowhere", "nowhere is no folder", 1),
        ("ceremony.conf", "nowhere.conf", "nowhere.conf is missing", 1),
        ("records = ", "surprise = 1\nrecords = ", "surprise", 2),
        ("token_folder", "token_fold", "token_folder", 2),
    ):
        room.site.write_text(site.replace(old, new))
        begins_not(room, load_key(room), text, status)
    room.site.write_text(site)
    begins_not(room, room.folder / "nowhere.toml", "No such file", 2)
    begins_not(
        room,
        room.plan("late", 'kind = "officers"\n' + room.officer_list, days=("2020-01-01", "2020-01-02")),
        "2020-01-02",
        2,
    )


def test_the_wrong_module_or_token(room: Room) -> None:
    untouched, before = Untouched(room), room.records
    plan = load_key(room)
    plan.write_text(plan.read_text().replace('module = "lab"', 'module = "another"'))
    with running(room, plan) as terminal:
        begin(terminal, plan)
        assert terminal.end() == 1
        assert "this is module lab, the plan is for another" in terminal.shown
    room.site.write_text(room.site.read_text() + 'token_serial = "0123456789abcdef"\n')
    plan = load_key(room, "again")
    with running(room, plan) as terminal:
        begin(terminal, plan)
        assert terminal.end() == 1
        assert "the site file names 0123456789abcdef" in terminal.shown
    assert room.records == before
    untouched.check()


def test_a_token_in_force_is_never_wiped(room: Room) -> None:
    untouched, plan = Untouched(room), room.initialise_plan()
    with running(room, plan) as terminal:
        begin(terminal, plan)
        assert terminal.end() == 1
        assert "STORE_NOT_BLANK" in terminal.shown
    untouched.check()


def test_components_are_not_taken_from_a_pipe(room: Room) -> None:
    untouched, plan = Untouched(room), load_key(room)
    end = hashlib.sha256(plan.read_bytes()).hexdigest()[-8:]
    lines = [end, "1", str(room.officer("Alice").path), "1", str(room.officer("Bob").path), "1", SHARES[0].hex()]
    result = subprocess.run(
        [*at_terminal_command("run", str(plan), "--site", str(room.site))],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert "TERMINAL_MISSING" in result.stderr
    untouched.check()


def at_terminal_command(*arguments: str) -> list[str]:
    from tests.ceremony.table import PROGRAM

    return [PROGRAM, *arguments]


# --- kill -9 --------------------------------------------------------------------------------------------------------------


def until_confirmed(room: Room, terminal: Terminal, plan: Path) -> None:
    terminal.expect("anything else to stop: ")


def until_approvals(room: Room, terminal: Terminal, plan: Path) -> None:
    begin(terminal, plan)
    terminal.expect("Who approves now?")


def until_signed(room: Room, terminal: Terminal, plan: Path) -> None:
    begin(terminal, plan)
    approve(terminal, room.officer("Alice"))
    terminal.expect("1 of 2 officers")


def until_first_component(room: Room, terminal: Terminal, plan: Path) -> None:
    begin(terminal, plan)
    approve(terminal, room.officer("Alice"), room.officer("Bob"))
    terminal.choose("Who enters component 1 of 2?", "Alice")
    terminal.expect("Ctrl-C stops.")
    terminal.type("00112233")
    terminal.expect("[8 of 40]")


def until_second_component(room: Room, terminal: Terminal, plan: Path) -> None:
    begin(terminal, plan)
    approve(terminal, room.officer("Alice"), room.officer("Bob"))
    enter(terminal, "Alice", SHARES[0], 1)
    terminal.expect("Who enters component 2 of 2?")


@pytest.mark.parametrize(
    "reach", [until_confirmed, until_approvals, until_signed, until_first_component, until_second_component]
)
def test_kill_9_at_every_step(room: Room, reach: Callable[[Room, Terminal, Path], None]) -> None:
    before, plan = image(room.folder / "module" / "store-0001"), load_key(room)
    with running(room, plan) as terminal:
        reach(room, terminal, plan)
        os.kill(terminal.process.pid, signal.SIGKILL)
        terminal.process.wait()
    assert image(room.folder / "module" / "store-0001") == before
    assert (room.folder / "module" / "tokens").readlink() == Path("store-0001")
    # The next ceremony finds what is left, clears it away, and goes through.
    load(room, plan)
    assert room.stores == [".lock", "pin", "store-0001", "store-0002", "tokens"]
    assert image(room.folder / "module" / "store-0001") == before


@pytest.mark.parametrize("call", ["?rename,?renameat,?renameat2", "?link,?linkat", "?symlink,?symlinkat", "fsync"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_kill_9_at_every_call_that_puts_a_store_in_force(room: Room, call: str, number: int, tmp_path: Path) -> None:
    """kill -9 exactly at a call: the store is the old one or the new one, and the record is there with the new one."""
    plan = load_key(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        enter(terminal, "Alice", SHARES[0], 1)
        terminal.choose("Who enters component 2 of 2?", "Bob")
        command = [
            "strace",
            "-f",
            "-p",
            str(terminal.process.pid),
            "-o",
            str(tmp_path / "trace"),
            "-e",
            f"trace={call}",
        ]
        tracer = subprocess.Popen(
            [*command, "-e", f"inject={call}:signal=SIGKILL:when={number}"], stderr=subprocess.PIPE, text=True
        )
        assert tracer.stderr is not None
        if "not permitted" in tracer.stderr.readline():
            pytest.skip("processes cannot be traced here")
        type_component(terminal, SHARES[1])
        code = terminal.end()
        tracer.wait(20)
        tracer.stderr.close()
    link = (room.folder / "module" / "tokens").readlink()
    assert code in (0, -9)
    again = load_key(room, "again")
    again.write_text(again.read_text().replace("201457", "201458"))
    load(room, again)
    done = [path for path in room.records if not path.name.endswith("-refused.json")]
    stores = [records.read(path).fields["store_after"] for path in done]
    assert stores[1:-1] == ([str(link)] if str(link) != "store-0001" else [])
    fields = records.read(done[-1]).fields
    assert len(fields["keys_before"]) == (str(link) != "store-0001")
    folders = [name for name in room.stores if name.startswith((".draft", "store"))]
    assert folders == sorted({"store-0001", *stores})


@pytest.mark.root
def test_a_full_disk(room: Room, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        subprocess.run(["cp", "-a", f"{room.folder}/module/.", str(small)], check=True)
        room.site.write_text(room.site.read_text().replace(f"{room.folder}/module", str(small)))
        ballast = small / "ballast"
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(4096))
        before = image(small)
        plan = load_key(room)
        with running(room, plan) as terminal:
            begin(terminal, plan)
            assert terminal.end() == 1, terminal.shown
            assert "Traceback" not in terminal.shown
            assert "No space" in terminal.shown
        assert image(small) == before
        ballast.unlink()
        load(room, plan)
    finally:
        subprocess.run(["umount", str(small)], check=False)


def test_two_ceremonies_at_once(room: Room) -> None:
    plan = load_key(room)
    with running(room, plan) as terminal:
        until_approvals(room, terminal, plan)
        second = load_key(room, "second")
        with running(room, second) as other:
            assert other.end() == 1
            assert "TOKEN_STORE_BUSY" in other.shown
