"""Signals of misuse: what raises each, what it counts, and that it refuses where the policy says so."""

from __future__ import annotations

from datetime import datetime

import pytest
from structlog.testing import capture_logs

from appliance.errors import LimitExceeded, PolicyInvalid, SignalRefused
from appliance.issuing.orders import Timing
from appliance.policy.judge import Asked
from appliance.policy.signals import KINDS, Signals
from tests.policy.test_limits import authority, sales
from tests.policy.texts import client, limit, policy
from tests.support.played import PANS, World, meter, order, submit

NOON = datetime(2026, 11, 29, 12, 0)


class Watch:
    """Signals of a policy with one signal, and a clock that the test sets."""

    def __init__(self, kind: str, **fields: object) -> None:
        lines = "".join(f"{name} = {value}\n" for name, value in fields.items())
        self.now = 1000.0
        self.signals = Signals(lambda: self.now)
        self.signals.put(policy(client("alice"), client("bob"), f'[[signal]]\nkind = "{kind}"\n{lines}'))
        self.kind = kind

    @property
    def count(self) -> int:
        return sum(count for (kind, _), count in self.signals.counts.items() if kind == self.kind)

    def see(self, name: str = "alice", local: datetime = NOON, **changes: object) -> int:
        """Show a request; return how often the signal was raised so far."""
        fields: dict[str, object] = {
            "supply_groups": ("201457",),
            "token_class": 0,
            "subclass": 0,
            "meter": 1,
            "units": 7,
        }
        self.signals.see([Asked(client=name, **(fields | changes))], local)  # type: ignore[arg-type]
        return self.count


def test_velocity_is_of_one_meter_by_anybody() -> None:
    watch = Watch("velocity", most=3, minutes=10)
    assert [watch.see() for _ in range(3)] == [0, 0, 0]
    assert watch.see(meter=2) == 0
    assert watch.see("bob") == 1
    assert watch.see(meter=None, token_class=1) == 1
    watch.now += 601
    assert watch.see() == 1


def test_round_amounts_are_of_one_client() -> None:
    watch = Watch("round-amounts", most=2, minutes=5, multiple='"100"')
    assert watch.see(units=1000, meter=1) == 0
    assert watch.see(units=3000, meter=2) == 0
    assert watch.see(units=1001, meter=3) == 0
    assert watch.see("bob", units=1000, meter=4) == 0
    assert watch.see(units=0, token_class=2, subclass=5) == 0
    assert watch.see(units=1000, meter=5) == 1


def test_off_hours_may_reach_over_midnight() -> None:
    watch = Watch("off-hours", hours="{start = 22:00:00, end = 05:00:00}")
    for hour, raised in ((23, 0), (4, 0), (5, 1), (12, 2), (21, 3), (22, 3)):
        assert watch.see(local=NOON.replace(hour=hour)) == raised


def test_free_tokens_beside_sales() -> None:
    watch = Watch("free-ratio", percent=20, least=5, minutes=60)
    # Below the least number nothing is said of a share.
    assert watch.see(is_free=True) == 0
    assert [watch.see() for _ in range(8)] == [0] * 8
    assert watch.see(is_free=True) == 0
    assert watch.see("bob", is_free=True) == 0
    assert watch.see(is_free=True) == 1
    assert watch.see() == 1


def test_engineering_tokens_beside_sales() -> None:
    watch = Watch("engineering-ratio", percent=50, least=4, minutes=60)
    for _ in range(2):
        assert watch.see() == 0
        assert watch.see(token_class=2, subclass=5) == 0
    assert watch.see(token_class=2, subclass=3) == 1


def test_issue_after_denials() -> None:
    watch = Watch("after-denial", most=2, minutes=5)
    for _ in range(2):
        watch.signals.denied("alice")
    assert watch.see() == 0
    watch.signals.denied("bob")
    watch.signals.denied("alice")
    assert watch.see() == 1
    assert watch.see("bob") == 1
    watch.now += 301
    assert watch.see() == 1


def test_it_refuses_where_the_policy_says_so_and_what_is_refused_does_not_count_on() -> None:
    watch = Watch("velocity", most=1, minutes=1, refuse="true")
    watch.see()
    for _ in range(3):
        with pytest.raises(SignalRefused) as refused:
            watch.see()
        assert refused.value.details == {"signal": "velocity"}
    assert watch.count == 3
    watch.now += 61
    assert watch.see() == 3


def test_it_is_for_those_whom_it_names() -> None:
    watch = Watch("velocity", most=0, minutes=1, clients='["bob"]')
    assert watch.see("alice") == 0
    assert watch.see("bob") == 1


def test_it_is_told_once_a_minute_and_counted_always() -> None:
    watch = Watch("velocity", most=0, minutes=1)
    with capture_logs() as lines:
        for _ in range(50):
            watch.see()
        watch.now += 61
        watch.see()
    assert watch.count == 51
    assert [line["event"] for line in lines] == ["signal", "signal"]
    assert lines[0] | {"log_level": ""} == {
        "event": "signal",
        "signal": "velocity",
        "client": "alice",
        "refused": False,
        "log_level": "",
    }


def test_subjects_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from appliance.policy import signals

    monkeypatch.setattr(signals, "_SUBJECTS_MAX", 100)
    watch = Watch("velocity", most=10, minutes=1)
    for number in range(1000):
        watch.now += 0.001
        watch.see(meter=number)
    (rule,) = watch.signals._rules
    assert len(rule._some._counts) <= 100


@pytest.mark.parametrize(
    "fields",
    [
        'kind = "velocity"',
        'kind = "velocity"\nmost = 1',
        'kind = "velocity"\nmost = 1\nminutes = 1\npercent = 5',
        'kind = "off-hours"\nmost = 1',
        'kind = "free-ratio"\npercent = 101\nleast = 1\nminutes = 1',
        'kind = "round-amounts"\nmost = 1\nminutes = 1\nmultiple = "0"',
        'kind = "guessing"',
        'kind = "velocity"\nmost = 1\nminutes = 1\nclients = ["nobody"]',
    ],
)
def test_signals_that_are_none(fields: str) -> None:
    with pytest.raises(PolicyInvalid, match="signal"):
        policy(client("alice"), f"[[signal]]\n{fields}\n")


def test_every_kind_has_a_test() -> None:
    from pathlib import Path

    text = Path(__file__).read_text()
    assert all(f'Watch("{kind}"' in text for kind in KINDS)


def test_windows_slide() -> None:
    watch = Watch("velocity", most=2, minutes=1)
    for step in range(20):
        watch.now += 31
        assert watch.see() == 0, step


SIGNAL = '[[signal]]\nkind = "{}"\nmost = 1\nminutes = 60\nrefuse = true\n'


async def test_what_was_answered_before_is_no_signal(ledger_url: str) -> None:
    world = await World(ledger_url).open(authority=authority(SIGNAL.format("velocity")))
    try:
        first, second, third = (submit(order(meter=meter(PANS[0]))) for _ in range(3))
        trial = submit(order(meter=meter(PANS[0]), timing=Timing(validate_only=True)))
        assert isinstance(await world.outcome(trial), bytes)
        answer = await world.outcome(first)
        assert isinstance(answer, bytes)
        assert isinstance(await world.outcome(second), SignalRefused)
        assert await world.outcome(first) == answer
        assert isinstance(await world.outcome(third), SignalRefused)
    finally:
        await world.close()


async def test_whom_a_limit_or_the_policy_has_refused(ledger_url: str) -> None:
    parts = (SIGNAL.format("after-denial"), limit("daily", "client", count=2))
    world = await World(ledger_url).open(authority=authority(*parts))
    try:
        outcomes = [await world.outcome(one) for one in sales(4)]
        assert [type(one) for one in outcomes] == [bytes, bytes, LimitExceeded, LimitExceeded]
        # Two denials: what comes now is a signal, and would have been a denial.
        assert isinstance(await world.outcome(sales(5)[-1]), SignalRefused)
        assert isinstance(await world.outcome(sales(1, client="bob")[0]), bytes)
    finally:
        await world.close()
