"""Somebody who has the appliance, and its clock, wants the lease to last: tokens are asked for past the appliance."""

from __future__ import annotations

import asyncio
import os
import pwd
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hsm.client import ModuleClient
from hsm.errors import HsmError
from hsm.requests import IssueItem
from hsm.system_users import APPLIANCE_USER
from sts.token_identifier import TokenIdentifier
from tests.ceremony.table import hold
from tests.faults.test_ceremony_takeover import KEY
from tests.faults.test_lease import Desk, stop
from tests.support.ceremonial import restart, with_officers
from tests.support.stepped_module import stepped_clocks

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]
Step = Callable[[float], None]


class Thief:
    """Speaks to the module process itself; the clock is his."""

    def __init__(self, desk: Desk, step: Step) -> None:
        self.desk = desk
        self.set_clock = step
        self._minutes = 0.0

    def step(self, minutes: float) -> None:
        self._minutes = minutes
        self.set_clock(minutes)

    def restart(self) -> None:
        stop(self.desk.system)
        restart(self.desk.system)

    def ask(self) -> str:
        """Ask for a token, as the appliance's user."""
        user = pwd.getpwnam(APPLIANCE_USER)
        os.setegid(user.pw_gid)
        os.seteuid(user.pw_uid)
        try:
            return asyncio.run(self._ask())
        finally:
            os.seteuid(0)
            os.setegid(0)

    async def _ask(self) -> str:
        client = ModuleClient(Path(self.desk.system.state) / "run" / "module.sock")
        try:
            status, keys = await client.status(), await client.keys()
            key = next(one for one in keys if str(one.reference).startswith("600700"))
            moment = datetime.now(UTC) + timedelta(minutes=self._minutes + status.utc_offset_minutes)
            local = moment.replace(tzinfo=None, second=0, microsecond=0)
            item = IssueItem(
                token_class=0,
                subclass=0,
                value=256,
                ea=11,
                tct=2,
                random_number=1,
                tariff_index="01",
                pan="000000000000000000",
                token_identifier=TokenIdentifier.from_naive(local, key.base_date).minutes,
            )
            (answer,) = await client.issue(key.reference, [item])
        except HsmError as error:
            return error.reason
        finally:
            await client.close()
        assert bool(answer.digits) == (answer.reason.name == "OK")
        return answer.reason.name


@pytest.fixture(scope="module")
def thief() -> Iterator[Thief]:
    with stepped_clocks() as step, with_officers() as (system, room):
        hold(room, room.plan("sold", KEY.format("600700")), "Alice", "Bob")
        restart(system)
        yield Thief(Desk(system, room), step)


def test_a_lease_that_is_over_does_not_come_back(thief: Thief) -> None:
    thief.desk.renew(thief.desk.text(1, until=30), "Alice", "Bob")
    assert thief.ask() == "OK"
    # What is gained by setting the clock back within the tolerance was lost by setting it ahead.
    for _ in range(3):
        thief.step(20)
        assert thief.ask() == "OK"
        thief.step(26)
        assert thief.ask() == "OK"
    thief.step(45)
    assert thief.ask() == "LEASE_OVER"
    thief.step(2)
    assert thief.ask() == "LEASE_OVER"
    # An orderly stop writes an entry with the clock as it is now, and so does the start.
    for _ in range(3):
        thief.restart()
        assert thief.ask() == "LEASE_OVER"
    thief.desk.system.kill_worker()
    thief.restart()
    assert thief.ask() == "LEASE_OVER"


def test_the_officers_next_lease_says_what_time_it_is(thief: Thief) -> None:
    thief.step(0)
    thief.desk.renew(thief.desk.text(2, until=30), "Alice", "Bob")
    assert thief.ask() == "OK"
    thief.restart()
    assert thief.ask() == "OK"
    thief.step(-60)
    assert thief.ask() == "LEASE_CLOCK"
    # Started so, the module does not take the lease, which begins later than its clock; nothing is issued either.
    thief.restart()
    assert thief.ask() == "LEASE_OUTDATED"
    # Once the clock is right it is presented again, without a restart.
    thief.step(0)
    end = time.monotonic() + 20
    while thief.ask() != "OK":
        assert time.monotonic() < end
        time.sleep(0.3)


def test_killing_the_worker_again_and_again_gains_nothing(thief: Thief) -> None:
    """Each life goes on with the time of the last one, to the second; none runs ahead."""
    spent = Path(thief.desk.system.state) / "audit" / "lease-time"
    values = []
    for _ in range(4):
        assert thief.ask() == "OK"
        values.append(float(spent.read_text().split()[1]))
        worker = thief.desk.system.kill_worker()
        while thief.desk.system.worker_pid == worker or thief.ask() not in ("OK", "LEASE_OVER"):
            pass
    assert values == sorted(set(values))
    assert abs(values[-1] - time.time()) < 60


def test_a_token_that_has_a_lease_from_a_ceremony_is_bound_as_well(thief: Thief) -> None:
    desk = thief.desk
    until = f"{datetime.now(UTC) + timedelta(minutes=20):%Y-%m-%dT%H:%M}:00Z"
    since = f"{datetime.now(UTC) - timedelta(minutes=5):%Y-%m-%dT%H:%M}:00Z"
    plan = f'kind = "lease"\nnumber = 3\nvalid_from = {since}\nvalid_until = {until}\n'
    hold(desk.room, desk.room.plan("lease", plan), "Alice", "Bob")
    thief.restart()
    assert thief.ask() == "OK"
    thief.step(25)
    assert thief.ask() == "LEASE_OVER"
    thief.step(1)
    assert thief.ask() == "LEASE_OVER"
    thief.restart()
    assert thief.ask() == "LEASE_OVER"
