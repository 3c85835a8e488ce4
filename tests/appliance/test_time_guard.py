"""The guard of the clock: steps stop issuing, drift does not, and a clock that is right again starts it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import ClockSettings
from appliance.errors import ClockStopped
from appliance.issuing.time_guard import TimeGuard, steady
from appliance.ledger.records import ClockMark
from tests.support.played import NOW, PlayedClock

MARK = int(NOW.timestamp() * 1000)


def make(clock: PlayedClock, mark: int | None = None, epoch: int = 0) -> TimeGuard:
    guard = TimeGuard(ClockSettings(), wall=clock.wall, steady=clock.steady)
    guard.learn(ClockMark(milliseconds=mark, epoch=epoch, floor=0))
    return guard


@pytest.mark.parametrize(("step", "stops"), [(-6, True), (-4, False), (0, False), (299, False), (301, True)])
def test_steps_while_running(step: float, stops: bool) -> None:
    clock = PlayedClock()
    guard = make(clock)
    clock.passes(100)
    clock.steps(step)
    if not stops:
        assert guard.now().timestamp() == clock.wall_seconds
        return
    for _ in range(3):
        with pytest.raises(ClockStopped, match="back" if step < 0 else "forward"):
            guard.now()
        clock.passes(1000)
    # Set right again, it goes on by itself: nothing was issued in between.
    clock.steps(-step)
    assert guard.now().timestamp() == clock.wall_seconds


def test_many_small_steps_are_one_large_one() -> None:
    clock = PlayedClock()
    guard = make(clock)
    with pytest.raises(ClockStopped):
        for _ in range(10):
            clock.passes(60)
            clock.steps(-1)
            guard.now()


def test_slewing_within_what_clocks_do_is_no_step() -> None:
    clock = PlayedClock()
    guard = make(clock)
    for _ in range(24 * 60):
        clock.passes(60)
        clock.steps(-0.0005 * 60)
        guard.now()


@pytest.mark.parametrize(
    ("ahead", "stops"), [(-6, True), (-4, False), (0, False), (167 * 3600, False), (169 * 3600, True)]
)
def test_a_start_compares_with_the_mark(ahead: float, stops: bool) -> None:
    clock = PlayedClock()
    clock.steps(ahead)
    guard = make(clock, MARK)
    assert bool(guard.step()) == stops
    if stops:
        clock.passes(7200)
        assert guard.step()
        clock.steps(-ahead)
        assert not guard.step()


def test_an_operator_confirms_a_clock_either_way() -> None:
    for step in (-86400, 86400):
        clock = PlayedClock()
        guard = make(clock, MARK)
        clock.steps(step)
        with pytest.raises(ClockStopped):
            guard.now()
        # The same epoch says nothing new.
        guard.learn(ClockMark(milliseconds=clock.milliseconds(), epoch=0, floor=0))
        assert guard.step()
        guard.learn(ClockMark(milliseconds=clock.milliseconds(), epoch=1, floor=0))
        assert guard.now().timestamp() == clock.wall_seconds
        assert guard.epoch == 1


def test_a_confirmation_on_another_machine_does_not_make_this_clock_right() -> None:
    clock = PlayedClock()
    guard = make(clock, MARK)
    clock.steps(-3600)
    guard.learn(ClockMark(milliseconds=MARK, epoch=1, floor=0))
    assert guard.step()


def test_a_confirmation_does_not_excuse_a_clock_that_is_ahead_as_a_pause_does() -> None:
    clock = PlayedClock()
    guard = make(clock, MARK)
    clock.steps(6 * 86400)
    assert guard.step()
    # Somebody confirmed another machine, whose clock was right all along.
    guard.learn(ClockMark(milliseconds=MARK, epoch=1, floor=0))
    assert guard.step()


def test_a_floor_is_learned_at_any_time() -> None:
    clock = PlayedClock()
    guard = make(clock)
    assert guard.floor is None
    guard.learn(ClockMark(milliseconds=None, epoch=0, floor=MARK))
    assert guard.floor == NOW


def test_the_real_steady_clock_goes_on() -> None:
    assert steady() <= steady()


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-20, 400)), max_size=30))
def test_within_an_hour_the_sum_of_all_steps_decides(moves: list[tuple[float, float]]) -> None:
    clock = PlayedClock()
    guard = make(clock)
    total = 0.0
    for passes, steps in moves:
        clock.passes(passes)
        clock.steps(steps)
        total += steps
        # Not at the very edge, where sums of binary fractions differ.
        if abs(total + 5) > 1e-3 and abs(total - 300) > 1e-3:
            assert bool(guard.step()) == (not -5 <= total <= 300)
