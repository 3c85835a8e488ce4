"""What a policy allows whom: every role with every class and group, ceilings, hours, free issue, and what counts."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ApprovalRequired, ClientRevoked, NotAuthorised, PolicyInvalid
from appliance.policy.authority import Authority
from appliance.policy.judge import Asked, Judge, window
from tests.policy.texts import client, limit, policy

NOON = datetime(2026, 11, 29, 12, 0)
GROUPS = ("201457", "201458")
CLASSES = [
    *((0, number) for number in range(8)),
    *((1, number) for number in (0, 1, 2, 6, 11)),
    *((2, number) for number in (0, 1, 2, 3, 5, 6, 7, 10, 11)),
]


def grant(groups: str, classes: str, more: str = "") -> str:
    return f"[[client.grant]]\nsupply_groups = [{groups}]\nclasses = [{classes}]\n{more}"


ROLES = {
    "vendor": (grant('"201457"', '"0.0", "0.4"'), {((0, 0), "201457"), ((0, 4), "201457")}),
    "engineer": (
        grant('"201457"', '"2.1", "2.5"') + grant('"201458"', '"key-change"'),
        {((2, 1), "201457"), ((2, 5), "201457"), ((2, 3), "201458")},
    ),
    "tester": (grant('"*"', '"1.0-15"'), {((1, number), "") for number in (0, 1, 2, 6, 11)}),
    "auditor": ("", set()),
    "nobody": (None, set()),
}
JUDGE = Judge(
    policy(
        *(client(name, grants, audits=name == "auditor") for name, (grants, _) in ROLES.items() if grants is not None)
    )
)


@pytest.mark.parametrize(("role", "token", "group"), list(itertools.product(ROLES, CLASSES, GROUPS)))
def test_the_matrix(role: str, token: tuple[int, int], group: str) -> None:
    groups = () if token[0] == 1 else (group,)
    asked = Asked(client=role, supply_groups=groups, token_class=token[0], subclass=token[1], meter=1)
    wanted = (token, "" if token[0] == 1 else group)
    if wanted in ROLES[role][1]:
        assert JUDGE.judge(asked, NOON) == []
    else:
        with pytest.raises(NotAuthorised):
            JUDGE.judge(asked, NOON)


def test_a_key_change_needs_both_groups() -> None:
    asked = {"client": "engineer", "token_class": 2, "subclass": 3, "meter": 1}
    JUDGE.judge(Asked(supply_groups=("201458",), **asked), NOON)  # type: ignore[arg-type]
    for groups in (("201457", "201458"), ("201458", "201457")):
        with pytest.raises(NotAuthorised):
            JUDGE.judge(Asked(supply_groups=groups, **asked), NOON)  # type: ignore[arg-type]


def credit(**changes: object) -> Asked:
    fields: dict[str, object] = {
        "client": "vendor",
        "supply_groups": ("201457",),
        "token_class": 0,
        "subclass": 0,
        "meter": 7,
        "units": 100,
    }
    return Asked(**(fields | changes))  # type: ignore[arg-type]


def vendor(more: str, *limits: str) -> Judge:
    return Judge(policy(client("vendor", grant('"201457"', '"0.0", "0.4"', more)), client("other"), *limits))


def test_ceilings() -> None:
    judge = vendor('ceiling_units = "10.0"\nceiling_currency = "5"\n')
    judge.judge(credit(units=100), NOON)
    judge.judge(credit(subclass=4, units=0, currency=500_000), NOON)
    for asked in (credit(units=101), credit(subclass=4, units=0, currency=500_001)):
        with pytest.raises(NotAuthorised):
            judge.judge(asked, NOON)


def test_hours() -> None:
    judge = vendor("hours = {start = 06:00:00, end = 22:00:00}\n")
    judge.judge(credit(), NOON)
    for hour in (5, 22, 23):
        with pytest.raises(NotAuthorised):
            judge.judge(credit(), NOON.replace(hour=hour))


def test_free_issue_is_apart() -> None:
    with pytest.raises(NotAuthorised):
        vendor("").judge(credit(is_free=True), NOON)
    vendor("free_issue = true\n").judge(credit(is_free=True), NOON)


def test_a_revoked_client_may_do_nothing() -> None:
    judge = Judge(policy(client("vendor", is_revoked=True)))
    with pytest.raises(ClientRevoked):
        judge.judge(credit(), NOON)
    with pytest.raises(ClientRevoked):
        judge.require_client("vendor")


def test_reading_and_auditing_are_permissions_of_their_own() -> None:
    judge = Judge(policy(client("seller", reads=False), client("auditor", "", audits=True)))
    with pytest.raises(NotAuthorised):
        judge.require_reading("seller")
    judge.require_reading("auditor")
    assert judge.is_auditor("auditor")
    assert not judge.is_auditor("seller")
    with pytest.raises(NotAuthorised):
        judge.is_auditor("nobody")


def test_what_counts_for_which_limit() -> None:
    judge = vendor(
        "",
        limit("by-client", "client", "day", count=5),
        limit("by-group", "supply-group", "month", units="1000"),
        limit("by-meter", "meter", "hour", count=2, classes=["0.0"]),
        limit("all-currency", "all", "minute", currency="1"),
        limit("of-another", "client", "day", count=1, clients=["other"]),
        limit("of-another-group", "supply-group", "day", count=1, supply_groups=["201458"]),
        limit("of-another-class", "all", "day", count=1, classes=["2.1"]),
    )
    charges = {charge.bound.limit: charge.bound for charge in judge.judge(credit(), NOON)}
    assert set(charges) == {"by-client", "by-group", "by-meter", "all-currency"}
    assert charges["by-client"].counter == "by-client|day|202611290000|vendor"
    assert charges["by-group"].counter == "by-group|month|202611010000|201457"
    assert charges["by-group"].units_max == 10_000
    assert charges["by-meter"].counter == "by-meter|hour|202611291200|7"
    assert charges["all-currency"].counter == "all-currency|minute|202611291200|"
    assert charges["by-group"].ends == datetime(2026, 12, 1)


def test_free_issue_is_counted_apart_where_a_limit_says_so() -> None:
    judge = vendor(
        "free_issue = true\n",
        limit("free", "meter", "month", count=1, free_issue=True),
        limit("sales", "meter", "month", count=9, free_issue=False),
        limit("both", "meter", "month", count=9),
    )
    for is_free, names in ((False, {"sales", "both"}), (True, {"free", "both"}), (False, {"sales", "both"})):
        assert {charge.bound.limit for charge in judge.judge(credit(is_free=is_free), NOON)} == names


@given(st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)), st.sampled_from(["minute", "hour", "day", "month"]))
def test_windows_hold_their_moment_and_join(moment: datetime, kind: str) -> None:
    start, ends = window(kind, moment)
    assert start <= moment < ends
    assert window(kind, ends)[0] == ends
    assert window(kind, ends - timedelta(microseconds=1)) == (start, ends)


def test_without_a_policy_there_is_no_judgement() -> None:
    authority = Authority()
    assert authority.judge([credit()], NOON) == []
    authority.require_client("anybody")
    authority.require_reading("anybody")
    assert authority.is_auditor("anybody", otherwise=True)
    assert not authority.is_auditor("anybody", otherwise=False)
    authority.put(policy(client("vendor", "")))
    with pytest.raises(NotAuthorised):
        authority.judge([credit()], NOON)
    with pytest.raises(NotAuthorised):
        authority.require_client("anybody")


def approves(groups: str, classes: str) -> str:
    return f"[[client.approves]]\nsupply_groups = [{groups}]\nclasses = [{classes}]\n"


APPROVED = Judge(
    policy(
        client(
            "engineer",
            grant('"201457"', '"2.5"', "approvals = 1\n")
            + grant('"201457", "201458"', '"key-change"', "approvals = 2\n")
            + grant('"201458"', '"2.5"')
            + grant('"201457"', '"0.0"', 'ceiling_units = "10"\n')
            + grant('"201457"', '"0.0"', "approvals = 1\n")
            + approves('"*"', '"2.5", "key-change", "0.0"'),
        ),
        client("both", approves('"201457", "201458"', '"2.5", "key-change", "0.0"')),
        client("one", approves('"201457"', '"2.5", "key-change"')),
        client("any", approves('"*"', '"key-change", "0.0-7"')),
        client("gone", approves('"*"', '"2.5", "key-change", "0.0"'), is_revoked=True),
    )
)


def engineering(token: tuple[int, int] = (2, 5), groups: tuple[str, ...] = ("201457",), **more: object) -> Asked:
    fields = {"client": "engineer", "supply_groups": groups, "token_class": token[0], "subclass": token[1], "meter": 1}
    return Asked(**(fields | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "approvers", "needed"),
    [
        (engineering(), (), 1),
        (engineering(), ("one",), 0),
        (engineering(), ("both",), 0),
        (engineering(), ("any",), 1),
        (engineering(), ("gone",), 1),
        (engineering(), ("engineer",), 1),
        (engineering(), ("nobody",), 1),
        (engineering(groups=("201458",)), (), 0),
        (engineering((2, 3), ("201457", "201458")), ("both",), 1),
        (engineering((2, 3), ("201457", "201458")), ("both", "both"), 1),
        (engineering((2, 3), ("201457", "201458")), ("both", "one"), 1),
        (engineering((2, 3), ("201457", "201458")), ("both", "any"), 0),
        (engineering((2, 3), ("201457", "201458")), ("both", "engineer"), 1),
        (engineering((0, 0), units=100), (), 0),
        (engineering((0, 0), units=101), (), 1),
        (engineering((0, 0), units=101), ("any",), 0),
        (engineering((0, 0), units=101), ("one",), 1),
    ],
)
def test_approvals(asked: Asked, approvers: tuple[str, ...], needed: int) -> None:
    # Judged as if enough had approved, it is what everybody may have who may have it at all.
    assert APPROVED.judge(asked, NOON, None) == []
    if not needed:
        assert APPROVED.judge(asked, NOON, approvers) == []
        return
    with pytest.raises(ApprovalRequired) as refused:
        APPROVED.judge(asked, NOON, approvers)
    wanted = APPROVED.approvals_needed(asked, NOON)
    assert refused.value.details["needed"] == str(wanted)
    assert wanted - int(refused.value.details["found"]) >= needed


def test_no_approval_allows_what_no_grant_does() -> None:
    for asked in (engineering((2, 1)), engineering(groups=("999999",)), engineering(client="one")):
        for approvers in (("both", "one", "any"), None):
            with pytest.raises(NotAuthorised):
                APPROVED.judge(asked, NOON, approvers)
        with pytest.raises(NotAuthorised):
            APPROVED.approvals_needed(asked, NOON)


@pytest.mark.parametrize(
    "others",
    [
        "",
        client("other", approves('"201458"', '"2.5"')),
        client("other", approves('"201457"', '"2.1"')),
        client("other", approves('"*"', '"2.5"'), is_revoked=True),
    ],
)
def test_a_grant_that_nobody_could_approve_is_refused(others: str) -> None:
    engineer = client("engineer", grant('"201457"', '"2.5"', "approvals = 1\n") + approves('"*"', '"2.5"'))
    with pytest.raises(PolicyInvalid, match="0 others may give them"):
        policy(engineer, others)
    policy(engineer, client("second", approves('"*"', '"2.5-6"')))


def test_plans_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from appliance.policy import judge as judges

    monkeypatch.setattr(judges, "_PLANS_MAX", 10)
    judge = Judge(policy(client("alice", grant('"*"', '"0.0"'))))
    for number in range(100):
        judge.judge(credit(client="alice", supply_groups=(f"{number:06d}",)), NOON)
    assert len(judge._plans) <= 10


@given(st.lists(st.datetimes(datetime(2026, 1, 1), datetime(2026, 3, 1)), min_size=1, max_size=20))
def test_bounds_are_of_the_window_of_their_moment(moments: list[datetime]) -> None:
    """Whatever the clock does, a charge names the window that its moment lies in."""
    judge = vendor("", limit("a", "client", "hour", count=1), limit("b", "meter", "day", count=1))
    for moment in moments:
        first, second = (charge.bound for charge in judge.judge(credit(), moment))
        assert first.counter == f"a|hour|{moment:%Y%m%d%H}00|vendor"
        assert second.counter == f"b|day|{moment:%Y%m%d}0000|7"
        assert first.ends > moment
