"""Proposals in the ledger: claimed, rejected, counted and forgotten, on both databases."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest

from appliance.client import request_ids
from appliance.ledger.ledger import Ledger, milliseconds_now
from appliance.ledger.proposals import Proposal, Proposals
from appliance.ledger.records import Method
from appliance.ledger.storage import proposals as queries
from tests.support.played import CIPHER

HOUR = 3_600_000


def make(client: str = "alice", **changes: object) -> Proposal:
    now = milliseconds_now()
    identifier = UUID(request_ids.new()).bytes
    base = Proposal(
        id=identifier,
        client=client,
        request_id=UUID(request_ids.new()).bytes,
        method=Method.CREDIT,
        request=b"a request",
        digest=hashlib.sha256(identifier).digest(),
        created=now,
        expires=now + HOUR,
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # fields of it


@pytest.fixture
async def proposals(ledger_url: str) -> AsyncIterator[Proposals]:
    ledger = await Ledger.open(ledger_url, CIPHER, certification=False)
    try:
        yield Proposals(ledger)
    finally:
        await ledger.close()


async def test_it_comes_back_as_it_was(proposals: Proposals) -> None:
    made = make()
    assert await proposals.add(made, most=10) == made
    assert await proposals.get(made.id) == made
    assert await proposals.get(bytes(16)) is None
    # The same request id gives the first one, whatever else is said.
    again = await proposals.add(replace(make(), request_id=made.request_id), most=10)
    assert again == made


async def test_who_executes_is_not_rejected_meanwhile(proposals: Proposals) -> None:
    made = make()
    await proposals.add(made, most=10)
    assert await proposals.claim(made.id)
    assert not await proposals.reject(made.id, "bob")
    # Two executions under way: one that comes to nothing does not open the way.
    assert await proposals.claim(made.id)
    await proposals.give_back(made.id)
    assert not await proposals.reject(made.id, "bob")
    await proposals.give_back(made.id)
    assert await proposals.reject(made.id, "bob")
    assert not await proposals.claim(made.id)
    found = await proposals.get(made.id)
    assert found is not None
    assert found.rejected_by == "bob"
    # Rejected once is rejected, and by the first.
    assert await proposals.reject(made.id, "carol")
    again = await proposals.get(made.id)
    assert again is not None
    assert again.rejected_by == "bob"


async def test_its_time_ends_everything(proposals: Proposals) -> None:
    made = make(expires=milliseconds_now() - 1)
    await proposals.add(made, most=10)
    assert not await proposals.claim(made.id)
    assert not await proposals.approve(made.id, "bob")
    assert not await proposals.claim(bytes(16))
    assert not await proposals.reject(bytes(16), "bob")


async def test_a_client_has_so_many_rejected_ones_too(proposals: Proposals) -> None:
    for number in range(3):
        made = make()
        assert await proposals.add(made, most=3) is not None
        if number:
            await proposals.reject(made.id, "alice")
    assert await proposals.add(make(), most=3) is None
    assert await proposals.add(make("bob"), most=3) is not None


async def test_they_are_forgotten_long_after_their_time(proposals: Proposals) -> None:
    old, new = make(expires=1000), make()
    for one in (old, new):
        await proposals.add(one, most=10)
    await proposals.approve(new.id, "bob")
    storage = proposals._ledger.storage
    assert await storage.write(lambda connection: queries.forget(connection, 2000)) == 1
    assert await proposals.get(old.id) is None
    kept = await proposals.get(new.id)
    assert kept is not None
    assert [one.client for one in kept.approvals] == ["bob"]


async def test_approvals_count_once(proposals: Proposals) -> None:
    made = make()
    await proposals.add(made, most=10)
    for name in ("bob", "bob", "carol", "bob"):
        assert await proposals.approve(made.id, name)
    found = await proposals.get(made.id)
    assert found is not None
    assert sorted(one.client for one in found.approvals) == ["bob", "carol"]


async def test_lists_go_by_time_and_leave_out_what_is_closed(proposals: Proposals) -> None:
    made = [make() for _ in range(5)]
    for one in made:
        await proposals.add(one, most=10)
    await proposals.add(make(expires=1), most=10)
    await proposals.reject(made[2].id, "bob")
    wanted = sorted(one.id for one in made if one is not made[2])
    found = await proposals.list_open(b"", 3)
    found += await proposals.list_open(found[-1].id, 3)
    assert [one.id for one in found] == wanted
