"""What will end: how near, in which order, and that the operator hears of it once and again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from appliance.horizons import _AHEAD, Horizon, Horizons, Urgency, ends, fills

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("kind", list(_AHEAD))
def test_it_comes_nearer(kind: str) -> None:
    soon, urgent = _AHEAD[kind]
    assert timedelta(0) < urgent < soon
    moment = timedelta(minutes=1)
    for left, urgency in (
        (soon + moment, Urgency.NONE),
        (soon, Urgency.SOON),
        (urgent + moment, Urgency.SOON),
        (urgent, Urgency.NOW),
        (moment, Urgency.NOW),
        (timedelta(0), Urgency.OVER),
        (-soon, Urgency.OVER),
    ):
        assert ends(kind, "x", NOW + left, NOW).urgency is urgency


@given(st.floats(0, 3))
def test_limits_fill(used: float) -> None:
    horizon = fills("daily", used)
    assert 0 <= horizon.used <= 1
    assert (horizon.urgency is Urgency.OVER) == (used >= 1)
    assert (horizon.urgency is Urgency.NONE) == (used < 0.8)


def test_the_most_urgent_comes_first() -> None:
    found = [
        ends("lease", "m", NOW + timedelta(days=5), NOW),
        fills("daily", 0.99),
        ends("lease", "n", NOW - timedelta(days=1), NOW),
        ends("base-date", "201457/1", NOW + timedelta(days=9000), NOW),
        fills("monthly", 0.1),
    ]
    horizons = Horizons([lambda _: found[:2], lambda _: found[2:]])
    assert [one.subject for one in horizons.all(NOW)] == ["n", "daily", "m", "201457/1", "monthly"]


def test_it_is_told_when_it_comes_nearer_and_once_a_day() -> None:
    end = NOW + timedelta(days=20)

    def source(now: datetime) -> list[Horizon]:
        return [ends("lease", "m", end, now)]

    horizons = Horizons([source])
    told = []
    with capture_logs() as lines:
        for hour in range(24 * 21):
            before = len(lines)
            horizons.tell(NOW + timedelta(hours=hour))
            if len(lines) > before:
                told.append((hour, lines[-1]["urgency"], lines[-1]["log_level"]))
    assert told[0] == (240, "soon", "warning")
    assert [hour for hour, urgency, _ in told if urgency == "soon"] == [240 + 24 * day for day in range(7)]
    assert (24 * 17, "now", "error") in told
    assert told[-1] == (480, "over", "error")


def test_what_was_renewed_is_told_of_anew() -> None:
    end = [NOW + timedelta(days=1)]
    horizons = Horizons([lambda now: [ends("lease", "m", end[0], now)]])
    with capture_logs() as lines:
        horizons.tell(NOW)
        end[0] += timedelta(days=30)
        horizons.tell(NOW)
        end[0] -= timedelta(days=30)
        horizons.tell(NOW)
    assert len(lines) == 2
