"""Leases and policies as ceremonies: rehearsed, approved by two, kept in the token, never an older one."""

from __future__ import annotations

import json

import pytest

from tests.ceremony.table import Room, approve, at_terminal, begin, hold, run
from tests.ceremony.test_refusals import Untouched, refused, running

LEASE = 'kind = "lease"\nnumber = {}\nvalid_from = 2026-11-01T00:00:00+02:00\nvalid_until = 2026-12-01T00:00:00+02:00\n'
POLICY = 'kind = "policy"\nnumber = {}\nsha256 = "{}"\n'
ABC, DEF = "abc" * 21 + "d", "def" * 21 + "0"


def inventory(room: Room) -> dict[str, object]:
    found: dict[str, object] = json.loads(run("inventory", "--site", str(room.site), "--json").stdout)
    return found


def test_a_lease_is_put_into_the_token(room: Room) -> None:
    assert inventory(room)["lease"] is None
    plan = room.plan("lease", LEASE.format(4))
    with at_terminal(["rehearse", str(plan)]) as terminal:
        begin(terminal, plan)
        for name in ("Alice", "Carol"):
            terminal.choose("Who approves now?", name)
            terminal.answer("Press Enter: ", "")
        assert terminal.end() == 0, terminal.shown
    shown = hold(room, plan, "Alice", "Bob")
    assert "lease 4 from 2026-10-31 22:00 UTC until 2026-11-30 22:00 UTC" in shown
    assert inventory(room)["lease"] == {"number": 4, "from": "2026-10-31", "until": "2026-11-30"}
    record = room.records[-1]
    assert run("verify", str(record), "--key", str(inventory(room)["audit_key"])).returncode == 0
    assert "lease 4" in run("inventory", "--site", str(room.site)).stdout
    # An older one, or another of the same number, is refused; nothing of the token changes.
    untouched = Untouched(room)
    for number in (3, 4):
        other = room.plan(f"other {number}", LEASE.format(number).replace("2026-12-01", "2026-12-02"))
        with running(room, other) as terminal:
            begin(terminal, other)
            approve(terminal, room.officer("Alice"), room.officer("Bob"))
            refused(room, terminal, "LEASE_OUTDATED")
    untouched.check()


def test_a_policy_is_put_into_the_token(room: Room) -> None:
    shown = hold(room, room.plan("policy", POLICY.format(2, ABC)), "Bob", "Carol")
    assert ABC in shown
    assert inventory(room)["policy"] == {"number": 2, "sha256": ABC}
    for number, digest in ((2, DEF), (1, ABC)):
        plan = room.plan(f"policy {number}", POLICY.format(number, digest))
        with running(room, plan) as terminal:
            begin(terminal, plan)
            approve(terminal, room.officer("Alice"), room.officer("Bob"))
            refused(room, terminal, "POLICY_OUTDATED")
    hold(room, room.plan("next", POLICY.format(7, DEF)), "Alice", "Carol")
    assert inventory(room)["policy"] == {"number": 7, "sha256": DEF}
    # A lease does not take the policy away, and the other way round.
    hold(room, room.plan("lease", LEASE.format(1)), "Alice", "Carol")
    assert inventory(room)["policy"] == {"number": 7, "sha256": DEF}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LEASE.format(0), "number"),
        (LEASE.format(1).replace("2026-12-01", "2026-10-01"), "ends after it begins"),
        (LEASE.format(1).replace("2026-12-01", "2027-12-01"), "92 days"),
        (LEASE.format(1).replace("00:00:00+02:00", "00:00:30+02:00"), "to the minute"),
        (LEASE.format(1).replace("+02:00", ""), "valid_from"),
        (POLICY.format(0, ABC), "number"),
        (POLICY.format(1, ABC.upper()), "sha256"),
        (POLICY.format(1, "abc"), "sha256"),
    ],
)
def test_plans_that_are_none(room: Room, text: str, said: str) -> None:
    done = run("lint", str(room.plan("bad", text)))
    assert done.returncode == 2
    assert said in done.stderr
