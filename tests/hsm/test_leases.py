"""The time that leases are judged by: it goes on by itself, is spent before it is used, and begins with what was spent."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.errors import LogUnavailable, ModuleFault
from hsm.leases import SPENT, LeaseClock, LeaseMemory, LeaseTime
from hsm.log.errors import LogDamaged
from hsm.mandate import Lease, PresentedLease
from hsm.reasons import Reason
from hsm.requests import Operation

START = 1_800_000_000.0


class Machine:
    """A wall clock that is set, and an uptime that is not."""

    def __init__(self) -> None:
        self.wall = START
        self.uptime = 5000.0
        self.boot = 1

    def clock(self, floor: float) -> LeaseClock:
        return LeaseClock(floor, wall=lambda: self.wall, uptime=lambda: self.uptime)

    def go_on(self, seconds: float, *, set_to: float | None = None) -> None:
        """Let time pass; then somebody sets the clock."""
        self.uptime += seconds
        self.wall += seconds
        if set_to is not None:
            self.wall = set_to

    def reboot(self) -> None:
        self.boot += 1
        self.uptime = 30.0

    def memory(self, folder: Path, number: int = 1, until: float = START + 1800) -> LeaseMemory:
        """Start a worker, which has this lease."""
        facts = {"lease": {"number": number}}
        memory = LeaseMemory(folder, facts, None, print, self.clock, lambda: f"boot-{self.boot}")
        memory._lease = Lease(number=number, valid_from=int(START // 60) - 1, valid_until=int(until // 60))
        return memory


@given(st.lists(st.tuples(st.floats(0, 1e5), st.none() | st.floats(START - 1e7, START + 1e6)), min_size=1, max_size=30))
def test_it_goes_on_at_least_as_fast_as_time(steps: list[tuple[float, float | None]]) -> None:
    machine = Machine()
    clock = machine.clock(0)
    before = clock.now
    for seconds, set_to in steps:
        machine.go_on(seconds, set_to=set_to)
        now = clock.now
        assert now >= before + seconds - 1e-3
        assert now >= machine.wall
        before = now


def test_ten_minutes_back_again_and_again_gain_nothing(tmp_path: Path) -> None:
    machine = Machine()
    memory = machine.memory(tmp_path)
    issued = 0
    for _ in range(100):
        machine.go_on(60, set_to=machine.wall)
        issued += memory.refuses(Operation.ISSUE) is None
    assert issued <= 30
    assert memory.refuses(Operation.ISSUE) is Reason.LEASE_OVER


def test_starting_anew_gains_nothing(tmp_path: Path) -> None:
    """The clock stands still, and the worker is killed again and again: each life is shorter than a minute."""
    machine = Machine()
    lived = 0.0
    for _ in range(500):
        memory = machine.memory(tmp_path)
        if memory.refuses(Operation.ISSUE) is not None:
            break
        machine.go_on(9, set_to=START)
        lived += 9 if memory.refuses(Operation.KEY_CHANGE) is None else 0
    assert 0 < lived <= 1800
    # Behind what was spent by ten minutes, nothing is issued either.
    assert machine.memory(tmp_path).refuses(Operation.ISSUE) in (Reason.LEASE_OVER, Reason.LEASE_CLOCK)


def test_rebooting_gains_nothing(tmp_path: Path) -> None:
    machine = Machine()
    lived = 0.0
    for _ in range(500):
        memory = machine.memory(tmp_path)
        if memory.refuses(Operation.ISSUE) is not None:
            break
        machine.go_on(9, set_to=START)
        lived += 9 if memory.refuses(Operation.ISSUE) is None else 0
        machine.reboot()
    assert 0 < lived <= 1800


def test_a_crash_loop_does_not_run_ahead_of_the_clock(tmp_path: Path) -> None:
    machine = Machine()
    for _ in range(1000):
        memory = machine.memory(tmp_path)
        assert memory.refuses(Operation.ISSUE) is None
        machine.go_on(1)
        assert memory._clock.now - machine.wall < 0.01


def test_after_a_reboot_it_is_ahead_by_what_may_have_been_used(tmp_path: Path) -> None:
    machine = Machine()
    machine.memory(tmp_path).refuses(Operation.ISSUE)
    machine.reboot()
    memory = machine.memory(tmp_path)
    assert 0 < memory._clock.now - machine.wall <= 10.01
    machine.go_on(60)
    # The clock has not caught up, as nothing is behind it but what was used.
    assert memory.refuses(Operation.ISSUE) is None


def test_time_is_spent_seldom(tmp_path: Path) -> None:
    machine = Machine()
    memory = machine.memory(tmp_path)
    writes = set()
    for _ in range(100):
        assert memory.refuses(Operation.ISSUE) is None
        writes.add((tmp_path / SPENT).stat().st_ino)
        machine.go_on(0.01)
    assert len(writes) == 1
    durable = LeaseTime.read(tmp_path)
    assert durable is not None
    assert durable.number == 1
    assert durable.floor(machine.uptime, "boot-1") >= machine.wall - 0.01


def test_what_cannot_be_spent_is_not_used(tmp_path: Path) -> None:
    memory = Machine().memory(tmp_path / "gone")
    with pytest.raises(LogUnavailable):
        memory.refuses(Operation.ISSUE)
    # Verifying needs no lease.
    assert memory.refuses(Operation.VERIFY) is None


@pytest.mark.parametrize("octets", [b"", b"rubbish", b"1 2 3", b"1 nan 3 b", b"1 inf 3 b", b"x 2 3 b", b"1 2 3 b 5"])
def test_a_time_that_is_none(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / SPENT).write_bytes(octets)
    with pytest.raises(LogDamaged):
        LeaseMemory(tmp_path, {}, None, print)


def test_an_older_lease_is_not_even_shown_to_the_module(tmp_path: Path) -> None:
    memory = Machine().memory(tmp_path, number=5)
    older = PresentedLease(lease=Lease(number=4, valid_from=1, valid_until=2), signatures=[]).pack()
    reason, _ = memory.present(None, older)  # type: ignore[arg-type]  # nobody is asked
    assert reason is Reason.LEASE_OUTDATED


class Module:
    """A module that takes every lease."""

    def __init__(self) -> None:
        self.lease: PresentedLease | None = None

    def operate(self, operation: Operation, request: bytes) -> bytes:
        if operation is Operation.PRESENT_LEASE:
            self.lease = PresentedLease.unpack(request[8:])
            return request[:8] + bytes(16)
        lease = Lease(number=0, valid_from=0, valid_until=0) if self.lease is None else self.lease.lease
        head = bytes(8) + b"".join(n.to_bytes(8, "big") for n in (lease.number, lease.valid_from, lease.valid_until))
        return request[:8] + head + bytes(48)


def test_what_is_new_is_durable_before_it_counts(tmp_path: Path) -> None:
    """Else it would be new once more for the next worker, and its time begin anew."""
    machine = Machine()
    memory = machine.memory(tmp_path, number=1)
    new = PresentedLease(
        lease=Lease(number=2, valid_from=int(START // 60), valid_until=int(START // 60) + 30), signatures=[]
    )
    draft = tmp_path / f"{SPENT}.new"
    draft.mkdir()
    with pytest.raises(ModuleFault):
        memory.present(Module(), new.pack())  # type: ignore[arg-type]  # stands for a session
    draft.rmdir()
    # The worker has ended; the next one takes the lease, and keeps its number with its time.
    memory = machine.memory(tmp_path, number=1)
    module = Module()
    assert memory.present(module, new.pack())[0] is Reason.OK  # type: ignore[arg-type]  # as above
    assert module.lease is not None
    assert module.lease.is_new
    durable = LeaseTime.read(tmp_path)
    assert durable is not None
    assert durable.number == 2
    # What is kept beside it may be lost: the next worker knows that it is not new.
    machine.go_on(20 * 60, set_to=START)
    memory = machine.memory(tmp_path, number=1)
    assert memory.number == 2
    assert memory.present(module, new.pack())[0] is Reason.OK  # type: ignore[arg-type]  # as above
    assert not module.lease.is_new
    assert module.lease.latest >= START // 60 + 19


def test_without_a_lease_nothing_is_written(tmp_path: Path) -> None:
    memory = LeaseMemory(tmp_path, {}, None, print)
    assert memory.refuses(Operation.ISSUE) is None
    assert not list(tmp_path.iterdir())
    memory.number = 4
    assert memory.refuses(Operation.ISSUE) is Reason.LEASE_OUTDATED
