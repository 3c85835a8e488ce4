"""A policy that a ceremony puts in force on a running system, and limits after a start with a clock that was ahead."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from appliance.client.client import ClientError, KeywattClient
from appliance.policy.document import Policy
from appliance.policy.signatures import NAMESPACE
from tests.ceremony.table import Room, hold
from tests.faults.test_ceremony_takeover import KEY
from tests.faults.test_lease import Desk, sale
from tests.faults.test_policy import request, until_in_force
from tests.policy.governed import client_name, govern, put
from tests.policy.texts import EVERYTHING, client, limit, policy_text
from tests.support.ceremonial import restart
from tests.support.stepped_module import stepped_clocks
from tests.support.system import System, running

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]


def outcome(system: System, number: int) -> str:
    with KeywattClient(system.profile) as asked:
        try:
            asked.issue(asked.vending.IssueCreditToken, sale(number))
        except ClientError as error:
            return error.reason
    return ""


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_officers_sign_one_policy_and_hold_a_ceremony_for_the_next(room: tuple[System, Room]) -> None:
    system, made = room
    hold(made, made.plan("sold", KEY.format("600700")), "Alice", "Bob")
    name, desk = client_name(system), Desk(system, made)
    folder = system.state / "appliance" / "policy"
    texts = [
        policy_text(client(name, EVERYTHING, is_revoked=number == 2), number=number, module=made.module)
        for number in (1, 2, 3)
    ]
    put(system, texts[0])
    signed = Policy.parse(texts[0].encode(), "policy.toml").text
    for place, signature in enumerate(desk.sign(signed, "Alice", "Carol", namespace=NAMESPACE)):
        (folder / f"{place}.sig").write_text(signature)
    config = system.state / "appliance" / "appliance.toml"
    config.write_text(config.read_text() + f'\n[policy]\nfolder = "{folder}"\n')
    restart(system)
    until_in_force(system, 1)
    assert '"signed_by": ["Alice", "Carol"]' in system.log("appliance")
    assert outcome(system, 1) == ""
    # The next one lies there unsigned; what it would change is said, and nothing of it is in force.
    put(system, texts[1])
    until(lambda: "POLICY_UNSIGNED" in system.log("appliance"))
    assert "policy-found" in system.log("appliance")
    assert outcome(system, 2) == ""
    digest = Policy.parse(texts[1].encode(), "policy.toml").digest.hex()
    hold(made, made.plan("policy", f'kind = "policy"\nnumber = 2\nsha256 = "{digest}"\n'), "Bob", "Carol")
    until(lambda: outcome(system, 3) == "CLIENT_REVOKED")
    # The one of before does not come back, signatures and all.
    put(system, texts[0])
    until(lambda: "older than 2, of a ceremony" in system.log("appliance"))
    assert outcome(system, 4) == "CLIENT_REVOKED"


def test_a_limit_outlives_a_start_with_a_clock_that_is_ahead() -> None:
    edits = [("appliance/appliance.toml", "restart_forward_hours = 10000", "restart_forward_hours = 168")]
    with stepped_clocks() as step, running(edits=edits) as system:
        govern(system, client(client_name(system)), limit("monthly", window="month", count=2))

        def sell(number: int) -> str:
            with KeywattClient(system.profile) as asked:
                try:
                    asked.issue(asked.vending.IssueCreditToken, request(number))
                except ClientError as error:
                    return error.reason or "UNAVAILABLE"
            return ""

        assert [sell(number) for number in (1, 2, 3)] == ["", "", "LIMIT_EXCEEDED"]
        for days in (40, 80):
            step(days * 24 * 60)
            system.stop()
            system.start()
            assert sell(4) == "CLOCK_STOPPED"
        step(0)
        system.stop()
        system.start()
        assert sell(5) == "LIMIT_EXCEEDED"
