"""Which policy comes into force: signed by enough officers, for this module, later than every one before."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from appliance.errors import LedgerUnavailable, NotAuthorised, PolicyInvalid, PolicyOutdated, PolicyUnsigned
from appliance.ledger.ledger import Ledger
from appliance.policy import keeper as keepers
from appliance.policy.authority import Authority
from appliance.policy.document import Policy
from appliance.policy.keeper import PolicyKeeper
from appliance.policy.signatures import NAMESPACE
from hsm.mandate import Mandate
from hsm.officers import Enrolment
from hsm.status import ModuleStatus, Profile
from tests.policy.texts import client, policy_text
from tests.support.officers import ALICE, BOB, CAROL, PEOPLE, Person, now, officers
from tests.support.played import CIPHER, STATUS

EXPIRED = Person.make("Eve", 210, valid_until=1)
STRANGER = Person.make("Mallory", 211)


class Module:
    """A module with officers."""

    def __init__(self, *people: Person, profile: Profile = Profile.PRODUCTION, needed: int = 2) -> None:
        self.people = people
        self.profile = profile
        self.needed = needed
        self.generation = 0
        self.connections = 1
        self.held = Mandate(lease_required=False, lease=None, policy_number=0, policy_digest=bytes(32), latest=0)

    async def status(self) -> ModuleStatus:
        return replace(STATUS, profile=self.profile)

    async def mandate(self) -> Mandate:
        return self.held

    async def officers(self) -> Enrolment | None:
        return Enrolment.unpack(officers(*self.people, POLICY=self.needed).pack()) if self.people else None


class Desk:
    """A folder with a policy, and who has signed it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def put(self, text: str, *people: Person, namespace: str = NAMESPACE) -> Policy:
        policy = Policy.parse(text.encode(), "policy.toml")
        for path in self.folder.glob("*.sig"):
            path.unlink()
        for number, person in enumerate(people):
            (self.folder / f"{number}.sig").write_text(str(person.sign(policy.text, namespace)))
        (self.folder / "policy.toml").write_text(text)
        return policy


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "policy")


async def keeper(desk: Desk, url: str, module: Module | None = None) -> tuple[PolicyKeeper, Authority, Ledger]:
    ledger = await Ledger.open(url, CIPHER, certification=False)
    authority = Authority()
    return (
        PolicyKeeper(desk.folder, module or Module(*PEOPLE), ledger, authority),  # type: ignore[arg-type]  # played
        authority,
        ledger,
    )


async def test_two_officers_put_a_policy_in_force(desk: Desk, ledger_url: str) -> None:
    found, authority, ledger = await keeper(desk, ledger_url)
    try:
        desk.put(policy_text(client("alice")), ALICE, CAROL)
        await found.load()
        authority.require_client("alice")
        with pytest.raises(NotAuthorised):
            authority.require_client("bob")
    finally:
        await ledger.close()


@pytest.mark.parametrize(
    "signers",
    [
        (),
        (ALICE,),
        (ALICE, ALICE),
        (ALICE, STRANGER),
        (ALICE, EXPIRED),
        (ALICE, replace(BOB, private=STRANGER.private)),
        (ALICE, replace(CAROL, application="ssh:elsewhere")),
    ],
)
async def test_too_few_signatures(desk: Desk, ledger_url: str, signers: tuple[Person, ...]) -> None:
    found, authority, ledger = await keeper(desk, ledger_url, Module(*PEOPLE, EXPIRED))
    try:
        desk.put(policy_text(client("alice")), *signers)
        with pytest.raises(PolicyUnsigned):
            await found.load()
        assert authority.policy is None
    finally:
        await ledger.close()


async def test_signatures_of_something_else(desk: Desk, ledger_url: str) -> None:
    found, _, ledger = await keeper(desk, ledger_url)
    try:
        desk.put(policy_text(client("alice")), ALICE, BOB)
        (desk.folder / "policy.toml").write_text(policy_text(client("alice"), client("mallory")))
        with pytest.raises(PolicyUnsigned):
            await found.load()
        desk.put(policy_text(client("alice")), ALICE, BOB, namespace="approval@keywatt.dev")
        with pytest.raises(PolicyUnsigned):
            await found.load()
        # A touch is part of a FIDO2 signature.
        policy = desk.put(policy_text(client("alice")), ALICE)
        (desk.folder / "c.sig").write_text(str(CAROL.sign(policy.text, NAMESPACE, flags=0)))
        with pytest.raises(PolicyUnsigned):
            await found.load()
        (desk.folder / "c.sig").write_text(str(CAROL.sign(policy.text, NAMESPACE)))
        (desk.folder / "rubbish.sig").write_bytes(b"\xff\xfe")
        await found.load()
    finally:
        await ledger.close()


async def test_as_many_as_the_token_says(desk: Desk, ledger_url: str) -> None:
    found, _, ledger = await keeper(desk, ledger_url, Module(*PEOPLE, needed=3))
    try:
        desk.put(policy_text(client("alice")), ALICE, BOB)
        with pytest.raises(PolicyUnsigned, match="3 must"):
            await found.load()
        desk.put(policy_text(client("alice")), ALICE, BOB, CAROL)
        await found.load()
    finally:
        await ledger.close()


async def test_a_policy_for_another_module(desk: Desk, ledger_url: str) -> None:
    found, _, ledger = await keeper(desk, ledger_url)
    try:
        desk.put(policy_text(client("alice"), module="other"), ALICE, BOB)
        with pytest.raises(PolicyInvalid, match="for module other"):
            await found.load()
    finally:
        await ledger.close()


async def test_an_older_policy_is_refused_for_ever(desk: Desk, ledger_url: str) -> None:
    """Also by a process that begins anew, and by another appliance on the same ledger."""
    found, authority, ledger = await keeper(desk, ledger_url)
    desk.put(policy_text(client("alice"), number=7), ALICE, BOB)
    await found.load()
    desk.put(policy_text(client("alice"), client("mallory"), number=6), ALICE, BOB)
    with pytest.raises(PolicyOutdated):
        await found.load()
    desk.put(policy_text(client("alice"), client("mallory"), number=7), ALICE, BOB)
    with pytest.raises(PolicyOutdated, match="another policy with number 7"):
        await found.load()
    assert authority.policy is not None
    assert [one.name for one in authority.policy.client] == ["alice"]
    await ledger.close()
    found, authority, ledger = await keeper(desk, ledger_url)
    try:
        desk.put(policy_text(client("alice"), number=6), ALICE, BOB)
        with pytest.raises(PolicyOutdated):
            await found.load()
        desk.put(policy_text(client("alice"), number=7), ALICE, BOB)
        await found.load()
    finally:
        await ledger.close()


async def test_a_token_without_officers(desk: Desk, ledger_url: str) -> None:
    found, _, ledger = await keeper(desk, ledger_url, Module())
    try:
        desk.put(policy_text(client("alice")))
        with pytest.raises(PolicyUnsigned, match="no officers"):
            await found.load()
    finally:
        await ledger.close()
    found, authority, ledger = await keeper(desk, ledger_url, Module(profile=Profile.DEVELOPMENT))
    try:
        await found.load()
        assert authority.policy is not None
    finally:
        await ledger.close()


async def test_a_new_policy_is_taken_over_and_a_bad_one_is_not(
    desk: Desk, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepers, "_LOOK_SECONDS", 0.01)
    found, authority, ledger = await keeper(desk, ledger_url)

    async def until(number: int) -> None:
        async with asyncio.timeout(10):
            while authority.policy is None or authority.policy.number != number:  # noqa: ASYNC110 - of another task
                await asyncio.sleep(0.01)

    try:
        desk.put(policy_text(client("alice"), number=1), ALICE, BOB)
        await found.load()
        watching = asyncio.create_task(found.watch())
        desk.put(policy_text(client("alice"), client("bob"), number=2), ALICE, BOB)
        await until(2)
        desk.put(policy_text(client("mallory"), number=3), ALICE)
        (desk.folder / "policy.toml").write_text("rubbish")
        await asyncio.sleep(0.1)
        assert authority.policy is not None
        assert authority.policy.number == 2
        desk.put(policy_text(client("carol"), number=4), BOB, CAROL)
        await until(4)
        with pytest.raises(NotAuthorised):
            authority.require_client("alice")
        watching.cancel()
    finally:
        await ledger.close()


def test_terms_are_judged_by_the_minute() -> None:
    assert EXPIRED.valid_until < now()


async def test_a_policy_that_a_ceremony_put_in_force(desk: Desk, ledger_url: str) -> None:
    """The token names it: it needs no signatures, and no other of its number or an older one comes into force."""
    module = Module(*PEOPLE)
    found, authority, ledger = await keeper(desk, ledger_url, module)
    try:
        policy = desk.put(policy_text(client("alice"), number=5))
        with pytest.raises(PolicyUnsigned):
            await found.load()
        module.held = replace(module.held, policy_number=5, policy_digest=policy.digest)
        await found.load()
        assert authority.policy == policy
        assert authority.signed_by == ()
        for number, people in ((5, PEOPLE), (4, PEOPLE)):
            desk.put(policy_text(client("alice"), client("mallory"), number=number), *people)
            with pytest.raises(PolicyOutdated, match="ceremony"):
                await found.load()
        assert authority.policy == policy
        # A later one comes with signatures, as ever.
        desk.put(policy_text(client("alice"), client("bob"), number=6), ALICE, BOB)
        await found.load()
        assert authority.signed_by == ("Alice", "Bob")
    finally:
        await ledger.close()


async def test_what_would_change_is_said_before_it_does(desk: Desk, ledger_url: str) -> None:
    found, _, ledger = await keeper(desk, ledger_url)
    try:
        desk.put(policy_text(client("alice")), ALICE, BOB)
        await found.load()
        desk.put(policy_text(client("alice", is_revoked=True), number=2), ALICE)
        with capture_logs() as lines, pytest.raises(PolicyUnsigned):
            await found.load()
        (line,) = [line for line in lines if line["event"] == "policy-found"]
        assert line["changes"] == [
            "- client[alice].is_revoked = False",
            "+ client[alice].is_revoked = True",
            "- number = 1",
            "+ number = 2",
        ]
        assert "policy-in-force" not in [one["event"] for one in lines]
    finally:
        await ledger.close()


async def test_what_may_pass_is_tried_again_and_told_of_once(
    desk: Desk, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revocation that comes in a bad moment is in force as soon as the moment is over."""
    found, authority, ledger = await keeper(desk, ledger_url)
    try:
        desk.put(policy_text(client("alice")), ALICE, BOB)
        await found.look()
        desk.put(policy_text(client("alice", is_revoked=True), number=2), ALICE, BOB)
        with monkeypatch.context() as patch, capture_logs() as lines:

            async def fail(*_: object, **__: object) -> int:
                raise LedgerUnavailable("away for a moment")

            patch.setattr(Ledger, "raise_mark", fail)
            for _ in range(5):
                await found.look()
        assert [line["event"] for line in lines] == ["policy-found", "policy-refused"]
        assert authority.policy is not None
        assert authority.policy.number == 1
        await found.look()
        assert authority.policy.number == 2
        # What is wrong in itself is not tried again.
        (desk.folder / "policy.toml").write_text("rubbish")
        with capture_logs() as lines:
            for _ in range(3):
                await found.look()
        assert [line["event"] for line in lines] == ["policy-refused"]
    finally:
        await ledger.close()


async def test_another_worker_is_a_reason_to_look(desk: Desk, ledger_url: str) -> None:
    module = Module(*PEOPLE)
    found, authority, ledger = await keeper(desk, ledger_url, module)
    try:
        desk.put(policy_text(client("alice")), ALICE, BOB)
        await found.look()
        policy = desk.put(policy_text(client("alice"), client("bob"), number=2))
        await found.look()
        for change in ("connections", "generation"):
            module.held = replace(module.held, policy_number=2, policy_digest=policy.digest)
            setattr(module, change, getattr(module, change) + 1)
            await found.look()
            assert authority.policy == policy
    finally:
        await ledger.close()
