"""What is not a ceremony: inventory, roll back, sample plans, help."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from keyloader.ceremonies import CeremonyPlan
from tests.ceremony.table import Room, at_terminal, hold, run
from tests.ceremony.test_ceremony import KEY_CHECK_VALUE, load, load_key
from tests.ceremony.test_refusals import image

PLANS = Path(__file__).parents[2] / "docs" / "plans"
MISSING_FILES = {"tables": "tables.json", "key-file": "centre-2027-01.json", "restore": "backup-2027-01-11"}


def test_an_inventory_is_read_back_from_the_token(room: Room) -> None:
    load(room, load_key(room))
    before = image(room.folder / "module")
    found = json.loads(run("inventory", "--site", str(room.site), "--json").stdout)
    assert found["module"] == "lab"
    assert found["store"] == "store-0002"
    assert found["stores"] == ["store-0001", "store-0002"]
    assert [officer["name"] for officer in found["officers"]] == ["Alice", "Bob", "Carol"]
    assert found["officers"][0]["valid_until"] == "2099-01-01"
    assert found["needed"]["load-key"] == 2
    (key,) = found["keys"]
    assert (key["sgc"], key["krn"], key["kcv"].upper(), key["ken"]) == ("201457", "1", KEY_CHECK_VALUE, "255")
    assert "proof" not in json.dumps(found)
    shown = run("inventory", "--site", str(room.site))
    assert shown.returncode == 0
    assert "1 keys, each proves its record" in shown.stdout
    assert image(room.folder / "module") == before


def test_custody_is_of_the_key_and_not_of_its_name(room: Room) -> None:
    text = (
        '[ceremony.key]\nsupply_group_code = "600001"\nkey_revision_number = 1\nkey_type = 2\ndkga = 4\n'
        "base_date = 14\nkey_expiry_number = 200\n"
    )
    plan = room.plan("generate", f'kind = "generate-key"\n{text}')

    def roll_back(store: str) -> None:
        with at_terminal(["rollback", store, "--site", str(room.site)]) as terminal:
            terminal.answer(f"Type {store} to go on: ", store)
            assert terminal.end() == 0

    hold(room, plan, "Alice", "Bob")
    roll_back("store-0001")
    hold(room, plan, "Bob", "Carol")
    for store, officers in (("store-0003", ["Bob", "Carol"]), ("store-0002", ["Alice", "Bob"])):
        roll_back(store)
        (key,) = json.loads(run("inventory", "--site", str(room.site), "--json").stdout)["keys"]
        assert key["custody"]["approved_by"] == officers
        assert key["horizon"]["bound"] == "key-expiry-number"


def test_rolling_back_is_a_command(room: Room) -> None:
    load(room, load_key(room))
    arguments = ["rollback", "store-0001", "--site", str(room.site)]
    with at_terminal(arguments) as terminal:
        terminal.answer("Type store-0001 to go on: ", "yes")
        assert terminal.end() == 3
    assert (room.folder / "module" / "tokens").readlink() == Path("store-0002")
    with at_terminal(arguments) as terminal:
        terminal.answer("Type store-0001 to go on: ", "store-0001")
        assert terminal.end() == 0
    assert (room.folder / "module" / "tokens").readlink() == Path("store-0001")
    assert json.loads(run("inventory", "--site", str(room.site), "--json").stdout)["keys"] == []
    with at_terminal(["rollback", "store-0009", "--site", str(room.site)]) as terminal:
        terminal.answer("Type store-0009 to go on: ", "store-0009")
        assert terminal.end() == 1
    # A ceremony after it makes a store of its own, and takes nothing for its own that is not.
    load(room, load_key(room))
    assert (room.folder / "module" / "tokens").readlink() == Path("store-0003")
    assert room.stores == [".lock", "pin", "store-0001", "store-0002", "store-0003", "tokens"]


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.toml")), ids=lambda path: path.stem)
def test_sample_plans_lint(path: Path) -> None:
    result = run("lint", str(path), "--json")
    if path.stem in MISSING_FILES:
        # What others send is not ours to add.
        assert result.returncode == 2
        assert MISSING_FILES[path.stem] in result.stderr
        return
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["kind"] == tomllib.loads(path.read_text())["ceremony"]["kind"] == path.stem


def test_every_type_has_a_sample() -> None:
    guide = (PLANS.parent / "ceremony-guide.md").read_text()
    for path in PLANS.glob("*.toml"):
        assert f"plans/{path.name}" in guide
    kinds = {kind.model_fields["kind"].annotation for kind in get_args(get_args(CeremonyPlan)[0])}
    assert {path.stem for path in PLANS.glob("*.toml")} == {get_args(kind)[0] for kind in kinds}


def test_the_sample_campaign_lints() -> None:
    result = run("keychange", "lint", str(PLANS.parent / "campaign" / "campaign.toml"))
    assert result.returncode == 0, result.stderr
    assert "600123/1 to 600200/1: 6" in result.stdout
    assert "nothing is wrong with this campaign" in result.stdout


@pytest.mark.parametrize("arguments", [[], ["lint"], ["run"], ["verify"], ["nothing"], ["lint", "--nothing"]])
def test_wrong_commands_show_no_traceback(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr + result.stdout


@pytest.mark.parametrize("octets", [b"", b"\xff", b"format = 1", b"[", b'format = "keywatt-plan/1"\n' + b"x" * 300_000])
def test_files_that_are_no_plans(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "plan.toml"
    path.write_bytes(octets)
    for command in ("lint", "rehearse", "run", "print"):
        result = run(command, str(path))
        assert result.returncode == 2, (command, result.stderr)
        assert "PLAN_INVALID" in result.stderr
        assert "Traceback" not in result.stderr
