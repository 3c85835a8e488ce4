"""Policy files: strict, in one canonical form; what is wrong is named, what stands there is not."""

from __future__ import annotations

import subprocess
import sysconfig
from datetime import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import PolicyInvalid
from appliance.policy.difference import difference
from appliance.policy.document import Hours, Policy, subclasses
from tests.policy.texts import client, limit, policy, policy_text

GOOD = policy_text(client("alice"), limit("daily", count=5))


def test_comments_and_layout_do_not_enter_what_is_signed() -> None:
    one = Policy.parse(GOOD.encode(), "one")
    other = Policy.parse(("# a comment\n" + GOOD.replace(" = ", "   =  ")).encode(), "other")
    assert one.digest == other.digest
    assert one.text == f"keywatt policy 1\nmodule played\nnumber 1\npolicy {one.digest.hex()}\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("keywatt-policy/1", "keywatt-policy/2", "format"),
        ("number = 1", "number = 0", "number"),
        ('module = "played"', 'module = "pl ayed"', "module"),
        ('name = "alice"', 'name = "alice"\nmay_do_everything = true', "may_do_everything"),
        ('classes = ["0.0-7"', 'classes = ["0.0-16"', "client.1.grant.1.classes"),
        ('classes = ["0.0-7"', 'classes = ["2.3"', "key-change"),
        ('classes = ["0.0-7"', 'classes = ["3.0"', "client.1.grant.1.classes"),
        ('supply_groups = ["*"]', "supply_groups = []", "supply_groups"),
        ('supply_groups = ["*"]', 'supply_groups = ["20145"]', "supply_groups"),
        ("free_issue = true", 'free_issue = "yes"', "free_issue"),
        ("count = 5", "count = -1", "count"),
        ("count = 5", "", "a limit has a count"),
        ('per = "client"', 'per = "everybody"', "per"),
        ('window = "day"', 'window = "year"', "window"),
        ("count = 5", 'count = 5\nclients = ["nobody"]', "there is no client nobody"),
        ("count = 5", 'count = 5\nunits = "1.23"', "units"),
        ("free_issue = true", "hours = {start = 08:00:00, end = 08:00:00}", "hours"),
    ],
)
def test_policies_that_are_none(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(PolicyInvalid) as refused:
        Policy.parse(GOOD.replace(old, new, 1).encode(), "policy.toml")
    assert message in str(refused.value)


@pytest.mark.parametrize("octets", [b"", b"\xff", b"[", b"a = 1\na = 2", b"x" * 2_000_000])
def test_files_that_are_none(octets: bytes) -> None:
    with pytest.raises(PolicyInvalid):
        Policy.parse(octets, "policy.toml")


def test_a_name_stands_once() -> None:
    for part in (client("alice"), limit("daily", count=5)):
        with pytest.raises(PolicyInvalid, match="stands twice"):
            policy(client("alice"), part, limit("daily", count=1))


@given(st.times(), st.times(), st.times())
def test_hours_are_a_part_of_the_day(start: time, end: time, moment: time) -> None:
    if start == end:
        return
    hours, rest = Hours(start=start, end=end), Hours(start=end, end=start)
    assert hours.contain(moment) != rest.contain(moment)
    assert hours.contain(start)
    assert not hours.contain(end)


def test_subclasses() -> None:
    assert subclasses(["0.4-5", "2.1"]) == {(0, 4), (0, 5), (2, 1)}
    assert subclasses(["key-change"]) == {(2, 3), (2, 4), (2, 8), (2, 9)}


def test_the_difference_names_clients_and_limits() -> None:
    before = policy(client("alice"), client("bob"), limit("daily", count=5))
    after = policy(client("alice", is_revoked=True), limit("daily", count=7), number=2)
    lines = difference(before, after)
    assert "- client[alice].is_revoked = False" in lines
    assert "+ client[alice].is_revoked = True" in lines
    assert "- limit[daily].count = 5" in lines
    assert "+ limit[daily].count = 7" in lines
    assert any(line.startswith("- client[bob].") for line in lines)
    assert not any(line.startswith("+ client[bob].") for line in lines)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sysconfig.get_path("scripts")) / "keywatt-policy")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_the_sample_is_one() -> None:
    path = Path(__file__).parents[2] / "docs" / "policy" / "policy.toml"
    found = Policy.read(path)
    assert found.module == "keywatt-1"
    assert run("check", str(path)).returncode == 0


def test_the_command(tmp_path: Path) -> None:
    old, new, bad = (tmp_path / name for name in ("old.toml", "new.toml", "bad.toml"))
    old.write_text(GOOD)
    new.write_text(policy_text(client("alice"), limit("daily", count=9), number=2))
    bad.write_text("number = 1")
    shown = run("check", str(new), "--against", str(old))
    assert shown.returncode == 0
    assert "+ limit[daily].count = 9" in shown.stdout
    assert run("check", str(old), "--against", str(new)).returncode == 1
    assert run("text", str(old)).stdout == Policy.read(old).text
    for command in (["check", str(bad)], ["text", str(tmp_path / "none")]):
        refused = run(*command)
        assert refused.returncode == 2
        assert "POLICY_INVALID" in refused.stderr
        assert "Traceback" not in refused.stderr
