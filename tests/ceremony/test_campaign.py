"""A campaign against a running appliance: approved, cut off, run again, and entered into virtual meters."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from keyloader.keychange.meters import COLUMNS
from tests.ceremony.table import PROGRAM, Officer, Room, at_terminal, run
from tests.ceremony.test_ceremony import rendered
from tests.support.meters import pan
from tests.support.system import System, running
from tests.support.virtual import enter_set, meter_for

METERS = int(os.environ.get("KEYWATT_METERS", "6000"))
IDENTITY = pyrage.x25519.Identity.generate()


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running() as found:
        yield found


class Campaign:
    """A campaign on the desk of a room, approved by two of its officers."""

    def __init__(self, room: Room, system: System, meters: int) -> None:
        self.room = room
        self.profile = system.state / "client" / "client.toml"
        self.path = room.folder / "campaign.toml"
        lines = [f"{pan(number)},201457,1,01,11,201457,1,02" for number in range(meters)]
        listed = "\n".join([",".join(COLUMNS), *lines]) + "\n"
        (room.folder / "meters.csv").write_text(listed)
        self.path.write_text(
            'format = "keywatt-campaign/1"\ntitle = "Tariff 02"\nmeters = "meters.csv"\n'
            f'sha256 = "{hashlib.sha256(listed.encode()).hexdigest()}"\nnot_before = 2020-01-01\n'
            f'not_after = 2099-01-31\n[[recipient]]\nname = "North"\nkey = "{IDENTITY.to_public()}"\n'
            'supply_groups = ["201457"]\n'
        )
        self.text = run("keychange", "text", str(self.path)).stdout

    def sign(self, officer: Officer, text: str = "") -> Path:
        path = self.room.folder / f"{officer.name}.txt"
        path.write_text(text or self.text)
        path.with_name(f"{path.name}.sig").unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "campaign@keywatt.dev", "-f", str(officer.path), str(path)]
        subprocess.run(command, check=True)
        return path.with_name(f"{path.name}.sig")

    def arguments(self, output: str, *signatures: Path) -> list[str]:
        record = self.room.records[0]
        audit_key = json.loads(record.read_text())["audit_key"]
        approvals = [word for path in signatures for word in ("--approval", str(path))]
        return [
            "keychange", "run", str(self.path), *approvals, "--officers", str(record), "--audit-key", audit_key,
            "--profile", str(self.profile), "-o", str(self.room.folder / output),
        ]  # fmt: skip

    def sets(self, output: str) -> list[list[str]]:
        octets = pyrage.decrypt((self.room.folder / output / "North.csv.age").read_bytes(), [IDENTITY])
        return list(csv.reader(io.StringIO(octets.decode())))[1:]


def test_cut_off_run_again_and_the_same(room: Room, system: System) -> None:
    campaign = Campaign(room, system, METERS)
    linted = run("keychange", "lint", str(campaign.path))
    assert f"201457/1 to 201457/1: {METERS}" in linted.stdout
    approvals = [campaign.sign(room.officer(name)) for name in ("Alice", "Carol")]
    arguments = campaign.arguments("one", *approvals)
    process = subprocess.Popen([PROGRAM, *arguments], stderr=subprocess.DEVNULL)
    state = room.folder / "one" / "campaign.json"
    end = time.monotonic() + 60
    while not state.exists() or json.loads(state.read_text())["done"] < METERS // 3:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sorted(path.name for path in (room.folder / "one").iterdir()) == ["campaign.json"]

    # Again, at a terminal: a bar, a rate, what was through before, and a summary.
    with at_terminal(arguments) as terminal:
        assert terminal.end(300) == 0, terminal.shown
    assert "meters were through before" in terminal.shown
    assert f"{METERS}/{METERS}" in terminal.shown
    assert "/s" in terminal.shown
    assert f"Tariff 02: {METERS} of {METERS} meters, {4 * METERS} tokens" in terminal.shown
    again = run(*campaign.arguments("two", *approvals), "--json")
    assert again.returncode == 0, again.stderr
    assert campaign.sets("one") == campaign.sets("two")
    assert (
        json.loads(again.stdout)["recipients"][0]["content_sha256"]
        == (json.loads((room.folder / "one" / "report.json").read_text())["recipients"][0]["content_sha256"])
    )
    done = run(*campaign.arguments("two", *approvals))
    assert done.returncode == 1
    assert "OUTPUT_EXISTS" in done.stderr

    rows = campaign.sets("one")
    assert [row[0] for row in rows] == [pan(number) for number in range(METERS)]
    for row in (rows[0], rows[METERS // 2], rows[-1]):
        enter_set(meter_for(row[0]), row[6:10], tariff_index="02")


def test_one_officer_is_not_enough(room: Room, system: System) -> None:
    campaign = Campaign(room, system, 3)
    alice = campaign.sign(room.officer("Alice"))
    stranger = campaign.sign(Officer.make(room.folder, "Stranger"))
    altered = campaign.sign(room.officer("Bob"), campaign.text.replace("count 3", "count 4"))
    for signatures in ([alice], [alice, alice], [alice, stranger], [alice, altered]):
        done = run(*campaign.arguments("out", *signatures))
        assert done.returncode == 1
        assert "APPROVAL_REFUSED" in done.stderr
        assert not (room.folder / "out").exists()


def test_what_the_appliance_refuses_is_in_the_report(room: Room, system: System) -> None:
    campaign = Campaign(room, system, 3)
    listed = (room.folder / "meters.csv").read_text().replace("201457,1,02", "999999,1,02", 1)
    (room.folder / "meters.csv").write_text(listed)
    text = campaign.path.read_text()
    before = text.split('sha256 = "')[1][:64]
    campaign.path.write_text(text.replace(before, hashlib.sha256(listed.encode()).hexdigest()))
    campaign.text = run("keychange", "text", str(campaign.path)).stdout
    approvals = [campaign.sign(room.officer(name)) for name in ("Alice", "Bob")]
    done = run(*campaign.arguments("out", *approvals))
    assert done.returncode == 5, done.stderr
    assert "refused, VENDING_KEY_UNKNOWN: 1" in done.stdout
    assert len(campaign.sets("out")) == 2


def test_without_an_appliance(room: Room, system: System, tmp_path: Path) -> None:
    campaign = Campaign(room, system, 3)
    approvals = [campaign.sign(room.officer(name)) for name in ("Alice", "Bob")]
    text = campaign.profile.read_text().replace(str(system.port), "1") + "retry_seconds = 0\n"
    campaign.profile = system.state / "client" / "nowhere.toml"
    campaign.profile.write_text(text)
    done = run(*campaign.arguments("out", *approvals))
    assert done.returncode == 1
    assert "APPLIANCE_REFUSED" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_meter_with_its_page(system: System, tmp_path: Path) -> None:
    profile = str(system.state / "client" / "client.toml")
    number = pan(123456)
    arguments = [
        "keychange", "one", "--meter", number, "--sgc", "201457", "--new-sgc", "201457", "--new-ti", "05",
        "--profile", profile,
    ]  # fmt: skip
    done = run(*arguments, "-o", str(tmp_path / "slip.pdf"), "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    enter_set(meter_for(number), shown["tokens"], tariff_index="05")
    again = run(*arguments, "--request-id", shown["request_id"])
    assert f"1  {' '.join(shown['tokens'][0][at : at + 4] for at in range(0, 20, 4))}" in again.stdout
    assert "TEST KEY" in again.stdout
    pages, text = rendered(tmp_path / "slip.pdf")
    assert len(pages) == 1
    assert number in text
    for wrong, message in (
        (["--new-sgc", "999999"], "VENDING_KEY_UNKNOWN"),
        (["--meter", "00000000001"], "check digit"),
        (["-o", str(tmp_path / "slip.pdf")], "already"),
    ):
        refused = run(*arguments, *wrong)
        assert refused.returncode in {1, 2}
        assert message in refused.stderr
        assert "Traceback" not in refused.stderr
