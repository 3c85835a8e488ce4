"""Backups and what comes back of them, at the table."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from keyloader import record as records
from tests.ceremony.table import Room, Terminal, approve, at_terminal, begin, hold, run
from tests.ceremony.test_ceremony import load, load_key
from tests.ceremony.test_refusals import Untouched, refused, running


def back_up_plan(room: Room, needed: int = 2) -> Path:
    return room.plan("backup", f'kind = "backup"\ncustodians = ["Alice", "Bob", "Dora"]\nneeded = {needed}\n')


def with_backups(room: Room) -> None:
    (room.folder / "backups").mkdir(mode=0o700)
    room.site.write_text(room.site.read_text() + f'backups = "{room.folder}/backups"\n')


def read_share(terminal: Terminal, name: str) -> str:
    """Read what is shown to a custodian, as somebody writes it down."""
    terminal.expect(f"{name}: share")
    shown = terminal.expect("Press Enter when it is written down")
    match = re.search(r"((?:[0-9A-F]{4} ){7}[0-9A-F]{4})", shown)
    assert match
    terminal.type("\n")
    return match[1]


def hand_out(terminal: Terminal, names: tuple[str, ...] = ("Alice", "Bob", "Dora")) -> list[str]:
    shares = []
    for name in names:
        share = read_share(terminal, name)
        terminal.expect(f"{name}: type share")
        terminal.expect("Ctrl-C stops.")
        terminal.type(share + "\n")
        terminal.expect(f"share handed out: custodian {name}")
        shares.append(share)
    return shares


def back_up(room: Room) -> tuple[Path, list[str]]:
    plan = back_up_plan(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        shares = hand_out(terminal)
        assert terminal.end() == 0, terminal.shown
        # The screen was cleared after each share, the scrollback too.
        assert terminal.cleared == 12
    (archive,) = (room.folder / "backups").iterdir()
    return archive, shares


def restore_plan(room: Room, archive: Path) -> Path:
    shutil.copy(archive, room.folder / "plans" / archive.name)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return room.plan("restore", f'kind = "restore"\nfile = "{archive.name}"\nsha256 = "{digest}"\n')


def clear(room: Room) -> None:
    """Lose the machine: the folder of the token is empty, as on a new one."""
    module = room.folder / "module"
    for path in module.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(module)
    module.mkdir(mode=0o700)


def enter(terminal: Terminal, number: int, share: str) -> None:
    terminal.choose("Whose share is typed now?", f"share {number}")
    terminal.expect("Ctrl-C stops.")
    terminal.type(share + "\n")


def test_a_lost_token_comes_back(room: Room) -> None:
    with_backups(room)
    load(room, load_key(room))
    before = json.loads(run("inventory", "--site", str(room.site), "--json").stdout)
    untouched = Untouched(room)
    archive, shares = back_up(room)
    untouched.check()
    fields = records.verify(records.read(room.records[-1])).fields
    assert fields["store_before"] == fields["store_after"]
    written = next(step["facts"] for step in fields["steps"] if step["what"].startswith("backup written"))
    assert written["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    # Nothing of a share is in the record, or of the PIN in the archive.
    text = room.records[-1].read_text().upper()
    assert not any(share in text or share.replace(" ", "") in text for share in shares)
    pin = (room.folder / "module" / "pin").read_text().strip()
    assert pin.encode() not in archive.read_bytes()

    clear(room)
    plan = restore_plan(room, archive)
    with at_terminal(["rehearse", str(plan)]) as terminal:
        rehearsal = re.findall(r"share \d to rehearse with: ([0-9A-F]{32})", terminal.expect("SHA-256 of the plan"))
        begin(terminal, plan)
        enter(terminal, 1, rehearsal[0])
        enter(terminal, 3, rehearsal[2])
        for name in ("Bob", "Carol"):
            terminal.choose("Who approves now?", name)
            terminal.answer("Press Enter: ", "")
        assert terminal.end() == 0, terminal.shown
    with running(room, plan) as terminal:
        begin(terminal, plan)
        enter(terminal, 3, shares[2])
        # A slip: the check value finds it, and it is typed again.
        terminal.choose("Whose share is typed now?", "share 1")
        terminal.expect("Ctrl-C stops.")
        terminal.type(shares[1] + "\n")
        terminal.expect("share with a wrong check value")
        terminal.expect("Ctrl-C stops.")
        terminal.type(shares[0] + "\n")
        approve(terminal, room.officer("Bob"), room.officer("Carol"))
        assert terminal.end() == 0, terminal.shown
    after = json.loads(run("inventory", "--site", str(room.site), "--json").stdout)
    for name in ("keys", "officers", "audit_key", "token_serial", "needed"):
        assert after[name] == before[name]


def test_fewer_shares_open_nothing_and_nothing_is_left(room: Room) -> None:
    with_backups(room)
    archive, shares = back_up(room)
    clear(room)
    plan, untouched = restore_plan(room, archive), Untouched(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        enter(terminal, 1, shares[0])
        terminal.choose("Whose share is typed now?", "share 2")
        terminal.expect("Ctrl-C stops.")
        terminal.type("\x03")
        assert terminal.end() == 3, terminal.shown
    (room.folder / "module" / ".lock").unlink()
    untouched.check()


def test_a_backup_is_restored_by_its_own_officers(room: Room) -> None:
    """Shares alone put nothing in force."""
    with_backups(room)
    archive, shares = back_up(room)
    clear(room)
    plan = restore_plan(room, archive)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        enter(terminal, 1, shares[0])
        enter(terminal, 2, shares[1])
        approve(terminal, room.officer("Alice"))
        terminal.choose("Who approves now?", "nobody: stop here")
        fields = refused(room, terminal, "CEREMONY_STOPPED", 3)
    assert fields["store_before"] == ""
    assert sorted(path.name for path in (room.folder / "module").iterdir()) == [".lock"]


def test_nothing_is_restored_over_a_token(room: Room) -> None:
    with_backups(room)
    archive, _ = back_up(room)
    plan, untouched = restore_plan(room, archive), Untouched(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        assert terminal.end() == 1
        assert "STORE_NOT_BLANK" in terminal.shown
    untouched.check()


def test_another_archive_than_the_plan_says(room: Room) -> None:
    with_backups(room)
    archive, _ = back_up(room)
    plan = restore_plan(room, archive)
    copy = room.folder / "plans" / archive.name
    copy.write_bytes(copy.read_bytes() + b"x")
    clear(room)
    for command in (["lint", str(plan)], ["run", str(plan), "--site", str(room.site)]):
        done = run(*command)
        assert done.returncode == 2, done.stderr
        assert "another backup than the plan says" in done.stderr


def test_a_share_that_was_written_down_wrongly(room: Room) -> None:
    with_backups(room)
    untouched, plan = Untouched(room), back_up_plan(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        for attempt in range(3):
            read_share(terminal, "Alice")
            terminal.expect("within a group, Ctrl-C stops.")
            terminal.type("00" * 16 + "\n")
            terminal.expect(f"attempt {attempt + 1}")
        refused(room, terminal, "COMPONENT_REFUSED")
    assert list((room.folder / "backups").iterdir()) == []
    untouched.check()


def test_without_a_folder_for_backups(room: Room) -> None:
    plan = back_up_plan(room)
    done = run("run", str(plan), "--site", str(room.site))
    assert done.returncode == 1
    assert "names no folder of backups" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a small tmpfs")
def test_a_full_disk_leaves_no_archive(room: Room) -> None:
    import subprocess

    with_backups(room)
    folder = room.folder / "backups"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", str(folder)], check=True)
    try:
        untouched, plan = Untouched(room), back_up_plan(room)
        with running(room, plan) as terminal:
            begin(terminal, plan)
            approve(terminal, room.officer("Alice"), room.officer("Bob"))
            hand_out(terminal)
            refused(room, terminal, "SITE_FAULT")
        assert not list(folder.glob("*.keywatt"))
        untouched.check()
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_backup_is_rehearsed(room: Room) -> None:
    plan = back_up_plan(room)
    with at_terminal(["rehearse", str(plan)]) as terminal:
        begin(terminal, plan)
        for name in ("Bob", "Carol"):
            terminal.choose("Who approves now?", name)
            terminal.answer("Press Enter: ", "")
        hand_out(terminal)
        assert terminal.end() == 0, terminal.shown


def test_shares_are_not_shown_into_a_file(room: Room) -> None:
    with_backups(room)
    plan = back_up_plan(room)
    text = hashlib.sha256(plan.read_bytes()).hexdigest()[-8:] + "\n"
    answers = f"{text}1\n{room.officer('Alice').path}\n1\n{room.officer('Bob').path}\n"
    import subprocess

    from tests.ceremony.table import PROGRAM

    done = subprocess.run(
        [PROGRAM, "run", str(plan), "--site", str(room.site)],
        input=answers, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "TERMINAL_MISSING" in done.stderr


def test_hold_leaves_the_store(room: Room) -> None:
    """A ceremony after a backup goes on from the same store."""
    with_backups(room)
    back_up(room)
    key = (
        '[ceremony.key]\nsupply_group_code = "600001"\nkey_revision_number = 1\nkey_type = 2\ndkga = 4\n'
        "base_date = 14\nkey_expiry_number = 255\n"
    )
    hold(room, room.plan("generate", f'kind = "generate-key"\n{key}'), "Alice", "Bob")
    assert [path.name for path in room.records] == ["0001.json", "0002.json", "0003.json"]


def test_killed_after_its_record_the_archive_gets_its_name(room: Room) -> None:
    """A kill between the record and the archive's name; what comes next is any other command."""
    with_backups(room)
    archive, _ = back_up(room)
    record = room.records[-1]
    archive.rename(archive.with_name(f".draft-{archive.name}"))
    record.rename(record.with_name(f"{record.name}.pending"))
    with at_terminal(["rollback", "store-0001", "--site", str(room.site)]) as terminal:
        terminal.answer("Type store-0001 to go on: ", "no")
        assert terminal.end() == 3
    assert archive.exists()
    assert record.exists()


def test_killed_before_its_record_nothing_of_the_archive_stays(room: Room) -> None:
    with_backups(room)
    plan = back_up_plan(room)
    for name in ("backup.keywatt", "backup.keywatt.new"):
        (room.folder / "backups" / f".draft-{name}").write_bytes(b"half an archive")
    with running(room, plan) as terminal:
        begin(terminal, plan)
        terminal.choose("Who approves now?", "nobody: stop here")
        assert terminal.end() == 3
    assert list((room.folder / "backups").iterdir()) == []


def test_a_kill_in_the_middle_leaves_no_token_file_on_the_medium(room: Room) -> None:
    with_backups(room)
    plan = back_up_plan(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        approve(terminal, room.officer("Alice"), room.officer("Bob"))
        names = ("Alice", "Bob", "Dora")
        for name in names[:2]:
            hand_out(terminal, (name,))
        share = read_share(terminal, "Dora")
        terminal.expect("within a group, Ctrl-C stops.")
        terminal.type(share + "\n")
        terminal.process.kill()
        terminal.process.wait()
    left = list((room.folder / "backups").rglob("*"))
    assert all(path.name.startswith((".draft-", "backup-")) and path.is_file() for path in left)


def test_rolling_back_settles_what_a_kill_left_first(room: Room) -> None:
    """Else the next ceremony would take the store in force, and a backup of it, for orphans."""
    with_backups(room)
    load(room, load_key(room))
    back_up(room)
    record = room.records[-1]
    record.rename(record.with_name(f"{record.name}.pending"))
    with at_terminal(["rollback", "store-0001", "--site", str(room.site)]) as terminal:
        terminal.answer("Type store-0001 to go on: ", "store-0001")
        assert terminal.end() == 0
    assert record.exists()
    plan = back_up_plan(room)
    with running(room, plan) as terminal:
        begin(terminal, plan)
        terminal.choose("Who approves now?", "nobody: stop here")
        assert terminal.end() == 3
    assert "store-0002" in room.stores
    with at_terminal(["rollback", "store-0002", "--site", str(room.site)]) as terminal:
        terminal.answer("Type store-0002 to go on: ", "store-0002")
        assert terminal.end() == 0


def test_a_stopped_restore_leaves_the_pin_of_what_is_there(room: Room) -> None:
    """The link is lost, the stores are not: nothing is initialised or restored over them."""
    with_backups(room)
    archive, _ = back_up(room)
    (room.folder / "module" / "tokens").unlink()
    plan, untouched = restore_plan(room, archive), Untouched(room)
    for asked in (plan, room.initialise_plan()):
        with running(room, asked) as terminal:
            begin(terminal, asked)
            assert terminal.end() == 1, terminal.shown
            assert "STORE_NOT_BLANK" in terminal.shown
    untouched.check()
    assert "pin" in room.stores
