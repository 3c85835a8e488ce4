"""Any order of requests, retries, crashes, clock steps and faults, on two appliances: what was answered stays so.

The model is what a vending platform and a meter know: the answer of each request, the identifiers each meter has seen.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from appliance.errors import ApplianceError, ClockStopped, LedgerUnavailable, RequestIdReused
from appliance.issuing.orders import Submission
from appliance.ledger.ledger import Transaction
from appliance.ledger.records import Filter
from appliance.ledger.storage import queries
from hsm.errors import HsmError, ModuleInterrupted
from sts.errors import StsError
from tests.support.played import PANS, PlayedClock, World, meter, order, submit
from tests.support.postgres import Postgres

_numbers = itertools.count(1)
GROUPS = ["201457", "201458"]


class Platform(RuleBasedStateMachine):
    """Drives appliances that share one ledger and one clock."""

    appliances = 1
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = PlayedClock()
        self.worlds: list[World] = []
        self.requests: list[Submission] = []
        self.answers: dict[int, bytes] = {}
        self.stepped = 0.0
        self.has_stepped = False

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    @initialize()
    def start(self) -> None:
        self.worlds = [self.run(World(self.url, clock=self.clock).open()) for _ in range(self.appliances)]

    def teardown(self) -> None:
        for world in self.worlds:
            self.run(world.close())
        self.loop.close()

    def ask(self, where: int, numbers: list[int]) -> None:
        """Give requests to an appliance at once, and hold what it answers against the model."""
        world = self.worlds[where % self.appliances]
        outcomes = self.run(world.pipeline.submit([self.requests[number] for number in numbers]))
        for number, outcome in zip(numbers, outcomes, strict=True):
            if isinstance(outcome, Exception):
                assert isinstance(outcome, ApplianceError | HsmError | StsError), repr(outcome)
                # What was answered once is never refused again but for want of the ledger.
                assert number not in self.answers or isinstance(outcome, LedgerUnavailable), repr(outcome)
                if isinstance(outcome, ClockStopped):
                    assert self.has_stepped
            else:
                assert self.answers.setdefault(number, outcome) == outcome

    @rule(where=st.integers(0, 1), pan=st.sampled_from(PANS), sgc=st.sampled_from(GROUPS), count=st.integers(1, 5))
    def sell(self, where: int, pan: Any, sgc: str, count: int) -> None:
        first = len(self.requests)
        self.requests += [submit(order(meter=meter(pan, sgc))) for _ in range(count)]
        self.ask(where, list(range(first, first + count)))

    @rule(where=st.integers(0, 1), data=st.data())
    def repeat(self, where: int, data: st.DataObject) -> None:
        if self.requests:
            numbers = data.draw(st.lists(st.integers(0, len(self.requests) - 1), min_size=1, max_size=6))
            self.ask(where, numbers)

    @rule(data=st.data())
    def at_both_at_once(self, data: st.DataObject) -> None:
        if self.requests:
            numbers = data.draw(st.lists(st.integers(0, len(self.requests) - 1), min_size=1, max_size=6, unique=True))
            requests = [self.requests[number] for number in numbers]
            both = self.run(self._gather(requests))
            for outcomes in both:
                for number, outcome in zip(numbers, outcomes, strict=True):
                    if not isinstance(outcome, Exception):
                        assert self.answers.setdefault(number, outcome) == outcome

    async def _gather(self, requests: list[Submission]) -> list[Any]:
        return await asyncio.gather(*(world.pipeline.submit(requests) for world in self.worlds))

    @rule(where=st.integers(0, 1), data=st.data())
    def reuse_an_id(self, where: int, data: st.DataObject) -> None:
        if self.answers:
            number = data.draw(st.sampled_from(sorted(self.answers)))
            other = submit(order(units=7), request_id=self.requests[number].request_id)
            (outcome,) = self.run(self.worlds[where % self.appliances].pipeline.submit([other]))
            assert isinstance(outcome, RequestIdReused)

    @rule(where=st.integers(0, 1), kind=st.sampled_from(["module", "commit", "after commit"]), count=st.integers(1, 4))
    def sell_with_a_fault(self, where: int, kind: str, count: int) -> None:
        first = len(self.requests)
        self.requests += [submit(order(meter=meter(pan))) for pan in PANS[:count]]
        numbers = list(range(first, len(self.requests)))
        world = self.worlds[where % self.appliances]
        real = Transaction.commit
        if kind == "module":
            world.module.fails = ModuleInterrupted("x")

        async def fail(transaction: Transaction, entries: Any, **options: Any) -> None:
            if kind == "after commit":
                # The disk has it, and the connection breaks before we hear of it.
                await real(transaction, entries, **options)
            else:
                await transaction.abandon()
            raise LedgerUnavailable("broken")

        try:
            if kind != "module":
                Transaction.commit = fail  # type: ignore[method-assign,assignment]
            self.ask(where, numbers)
        finally:
            Transaction.commit = real  # type: ignore[method-assign]
            world.module.fails = None
        self.ask(where, numbers)

    @rule(where=st.integers(0, 1))
    def crash(self, where: int) -> None:
        place = where % self.appliances
        self.run(self.worlds[place].close())
        self.worlds[place] = self.run(World(self.url, clock=self.clock).open())

    @rule(seconds=st.integers(1, 7200))
    def time_passes(self, seconds: int) -> None:
        self.clock.passes(seconds)

    @rule(seconds=st.sampled_from([-90000, -60, 3, 400, 90000]))
    def step_the_clock(self, seconds: int) -> None:
        self.clock.steps(seconds)
        self.stepped += seconds
        self.has_stepped = True

    @rule()
    def set_the_clock_right(self) -> None:
        self.clock.steps(-self.stepped)
        self.stepped = 0.0

    @rule()
    def confirm_the_clock(self) -> None:
        def confirm(connection: Any) -> None:
            queries.confirm_clock(connection, self.clock.milliseconds(), "operator", "test")

        self.run(self.worlds[0].ledger._storage.write(confirm))
        for world in self.worlds:
            world.guard.learn(self.run(world.ledger.clock_mark()))

    @invariant()
    def no_meter_sees_an_identifier_twice(self) -> None:
        seen = set()
        for number, answer in self.answers.items():
            found = json.loads(answer)
            name = (self.requests[number].meter, found["base_date"], found["identifier"])
            assert name not in seen
            seen.add(name)

    @invariant()
    def the_ledger_holds_every_answer(self) -> None:
        if not self.worlds:
            return
        listed = self.run(self.worlds[0].ledger.list(Filter(client="alice"), 100_000))
        stored = {issuance.request_id for issuance in listed}
        assert {self.requests[number].request_id for number in self.answers} <= stored
        assert stored <= {request.request_id for request in self.requests}
        tokens = [(t.meter, t.base_date, t.identifier) for issuance in listed for t in issuance.tokens]
        assert len(tokens) == len(set(tokens))


def check(kind: type[Platform], examples: int) -> None:
    run_state_machine_as_test(
        kind,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


@pytest.fixture
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as name:
        yield name


def test_one_appliance_on_sqlite(folder: str) -> None:
    class OnSqlite(Platform):
        def start(self) -> None:
            self.url = f"sqlite:///{folder}/{next(_numbers)}.db"
            Platform.start(self)  # type: ignore[call-arg]

        start = initialize()(start)

    check(OnSqlite, 30)


def test_two_appliances_on_postgresql(postgres: Postgres) -> None:
    class OnPostgres(Platform):
        appliances = 2

        def start(self) -> None:
            self.url = postgres.database(f"machine_{next(_numbers)}", template="template_ledger")
            Platform.start(self)  # type: ignore[call-arg]

        start = initialize()(start)

    check(OnPostgres, 15)


def test_the_machine_can_fail(folder: str) -> None:
    """An appliance that forgets its ledger in a crash is found out: the checks above can fail."""

    class Forgetful(Platform):
        def start(self) -> None:
            self.url = f"sqlite:///{folder}/{next(_numbers)}.db"
            Platform.start(self)  # type: ignore[call-arg]

        start = initialize()(start)

        def crash(self, where: int) -> None:
            self.url = f"sqlite:///{folder}/{next(_numbers)}.db"
            self.run(self.worlds[0].close())
            self.worlds[0] = self.run(World(self.url, clock=self.clock).open())
            assert where in (0, 1)

        crash = rule(where=st.integers(0, 1))(crash)

    with pytest.raises(AssertionError):
        check(Forgetful, 200)
