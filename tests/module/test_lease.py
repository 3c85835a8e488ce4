"""The lease inside the module: who signs it, what it stops, and that it does not come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hsm.ceremony import Ceremony
from hsm.leases import mandate_of
from hsm.mandate import LEASE_DAYS_MAX, LEASE_NAMESPACE, Lease, Mandate, PolicyItem, PresentedLease
from hsm.officers import NAMESPACE, Approval, CeremonyKind, action_digest
from hsm.reasons import Reason
from hsm.requests import HEADER_LENGTH, CheckValue, IssueItem, Operation, VerifyItem, pack_request
from hsm.session import ModuleSession
from tests.module.test_officers import Table, enrol, refusal
from tests.module.test_retired_keys import change_to
from tests.module.test_rules import now as minute_now
from tests.support.lab import PAN, Lab, change, credit, issue, reference, refused, verify
from tests.support.officers import ALICE, BOB, CAROL, DAY, Person, now, officers

KEY = reference("600001")
MODULE = "lab"


def lease(number: int = 1, since: int = -1, until: int = DAY) -> Lease:
    return Lease(number=number, valid_from=now() + since, valid_until=now() + until)


def signed(
    item: Lease,
    *people: Person,
    latest: int = 0,
    is_new: bool = True,
    text: str = "",
    namespace: str = LEASE_NAMESPACE,
) -> bytes:
    lines = text or item.text(MODULE)
    signatures = [person.sign(lines, namespace) for person in people]
    approvals = [
        Approval(key=one.key.public, signature=one.signature, flags=one.flags, counter=one.counter)
        for one in signatures
    ]
    return PresentedLease(lease=item, signatures=approvals, latest=latest, is_new=is_new).pack()


class _Octets:
    def __init__(self, octets: bytes) -> None:
        self.octets = octets

    def pack(self) -> bytes:
        return self.octets


def present(session: ModuleSession, octets: bytes) -> Reason:
    answer = session.operate(Operation.PRESENT_LEASE, pack_request(Operation.PRESENT_LEASE, [_Octets(octets)]))
    return CheckValue.unpack(answer[HEADER_LENGTH:]).reason


def issued(session: ModuleSession) -> Reason:
    return refused(session, KEY, credit(minute_now(session)))


@pytest.fixture
def governed(lab: Lab) -> Lab:
    """A token with officers, of whom two sign a lease."""
    lab.configure("ceremony")
    with lab.session() as session:
        ceremony = Ceremony(session)
        ceremony.make_audit_key()
        enrol(ceremony, officers(), ALICE, BOB)
    lab.configure("online")
    return lab


@pytest.fixture
def session(governed: Lab) -> Iterator[ModuleSession]:
    with governed.session() as session:
        yield session


def test_the_text_that_officers_sign_is_readable() -> None:
    item = Lease(number=7, valid_from=29_000_000, valid_until=29_043_200)
    assert item.text(MODULE) == (
        "keywatt lease 1\nmodule lab\nnumber 7\nfrom 2025-02-19T21:20\nuntil 2025-03-21T21:20\n"
    )
    assert f"{item.until:%Y-%m-%d %H:%M}" == "2025-03-21 21:20"


def test_in_development_nothing_needs_a_lease_until_there_is_one(session: ModuleSession) -> None:
    found = mandate_of(session)
    assert found == Mandate(
        lease_required=False, lease=None, policy_number=0, policy_digest=bytes(32), latest=found.latest
    )
    assert found.latest in (now(), now() - 1)
    assert issued(session) is Reason.OK
    item = lease()
    assert present(session, signed(item, ALICE, CAROL)) is Reason.OK
    assert issued(session) is Reason.OK
    found = mandate_of(session)
    assert found.lease_required
    assert found.lease == item
    assert found.latest == now()


def over(session: ModuleSession) -> None:
    """Put a lease in force that is over."""
    assert present(session, signed(lease(until=0), ALICE, BOB)) is Reason.OK


def _meter_test(session: ModuleSession) -> Reason:
    return refused(session, None, IssueItem(token_class=1, subclass=0, value=1 << 16))


def _change(session: ModuleSession) -> Reason:
    (made,) = change(session, KEY, change_to("201457"))
    return made.reason


def _validation(session: ModuleSession) -> Reason:
    (answer,) = issue(session, KEY, replace(credit(minute_now(session)), validate_only=True))
    return answer.reason


@pytest.mark.parametrize("ask", [issued, _meter_test, _change, _validation])
def test_after_its_end_nothing_is_issued_at_all(session: ModuleSession, ask: Callable[[ModuleSession], Reason]) -> None:
    assert ask(session) is Reason.OK
    over(session)
    assert ask(session) is Reason.LEASE_OVER
    assert present(session, signed(lease(2), ALICE, BOB)) is Reason.OK
    assert ask(session) is Reason.OK


def test_what_was_issued_can_be_verified_without_a_lease(session: ModuleSession) -> None:
    (made,) = issue(session, KEY, credit(minute_now(session)))
    over(session)
    (found,) = verify(session, KEY, VerifyItem(digits=made.digits, ea=11, tct=2, tariff_index="01", pan=PAN))
    assert found.reason is Reason.OK
    assert session.audit_key()


@pytest.mark.parametrize(
    "octets",
    [
        signed(lease(), ALICE),
        signed(lease(), ALICE, ALICE),
        signed(lease(), ALICE, Person.make("Alice", 77)),
        signed(lease(), ALICE, BOB, namespace=NAMESPACE),
        signed(lease(), ALICE, BOB, text=lease().text("another")),
        signed(lease(), ALICE, BOB, text=lease(2).text(MODULE)),
        signed(lease(), ALICE, BOB, text=lease(until=DAY + 1).text(MODULE)),
        signed(lease()),
    ],
    ids=["one", "one twice", "a stranger", "purpose", "module", "number", "end", "nobody"],
)
def test_two_officers_sign_this_very_lease(session: ModuleSession, octets: bytes) -> None:
    assert present(session, octets) is Reason.LEASE_NOT_SIGNED
    assert mandate_of(session).lease is None


def test_a_signature_that_proves_nothing_does_not_spoil_those_that_do(session: ModuleSession) -> None:
    stranger = Person.make("Eve", 66)
    assert present(session, signed(lease(), stranger, ALICE, ALICE, BOB)) is Reason.OK


def test_a_fido2_signature_without_a_touch_does_not_count(session: ModuleSession) -> None:
    item = lease()
    touched, untouched = (
        CAROL.sign(item.text(MODULE), LEASE_NAMESPACE),
        CAROL.sign(item.text(MODULE), LEASE_NAMESPACE, flags=0),
    )
    alice = ALICE.sign(item.text(MODULE), LEASE_NAMESPACE)
    for one, reason in ((untouched, Reason.LEASE_NOT_SIGNED), (touched, Reason.OK)):
        signatures = [
            Approval(key=found.key.public, signature=found.signature, flags=found.flags, counter=found.counter)
            for found in (alice, one)
        ]
        assert present(session, PresentedLease(lease=item, signatures=signatures).pack()) is reason


def test_officers_count_within_their_terms_only(lab: Lab) -> None:
    past = Person.make("Past", 44, valid_until=now() - 1)
    lab.configure("ceremony")
    with lab.session() as session:
        ceremony = Ceremony(session)
        ceremony.make_audit_key()
        enrol(ceremony, officers(ALICE, BOB, past), ALICE, BOB)
    lab.configure("online")
    with lab.session() as session:
        assert present(session, signed(lease(), ALICE, past)) is Reason.LEASE_NOT_SIGNED
        assert present(session, signed(lease(), ALICE, BOB)) is Reason.OK


def test_terms_of_officers_are_judged_by_what_is_known_of_the_time(lab: Lab) -> None:
    """The clock was set back to when somebody was an officer still: what the caller knows to have passed counts."""
    past = Person.make("Past", 44, valid_until=now() + 30)
    lab.configure("ceremony")
    with lab.session() as session:
        ceremony = Ceremony(session)
        ceremony.make_audit_key()
        enrol(ceremony, officers(ALICE, BOB, past), ALICE, BOB)
    lab.configure("online")
    with lab.session() as session:
        assert present(session, signed(lease(), ALICE, past, latest=now() + 40)) is Reason.LEASE_NOT_SIGNED
        assert present(session, signed(lease(), ALICE, BOB, latest=now() + 40)) is Reason.OK
        # A new lease begins the count anew: it is not bound by that.
        assert issued(session) is Reason.OK
        assert present(session, signed(lease(2), ALICE, past, latest=now() + 20)) is Reason.OK


def test_as_many_sign_as_the_token_says_for_leases(lab: Lab) -> None:
    lab.configure("ceremony")
    with lab.session() as session:
        ceremony = Ceremony(session)
        ceremony.make_audit_key()
        enrol(ceremony, officers(LEASE=3), ALICE, BOB)
    lab.configure("online")
    with lab.session() as session:
        assert present(session, signed(lease(), ALICE, BOB)) is Reason.LEASE_NOT_SIGNED
        assert present(session, signed(lease(), ALICE, BOB, CAROL)) is Reason.OK


def test_an_older_lease_does_not_come_back(session: ModuleSession) -> None:
    first, second = signed(lease(4), ALICE, BOB), signed(lease(5), ALICE, BOB)
    assert present(session, first) is Reason.OK
    assert present(session, second) is Reason.OK
    assert present(session, first) is Reason.LEASE_OUTDATED
    assert present(session, second) is Reason.OK
    assert present(session, signed(lease(5, until=2 * DAY), ALICE, BOB)) is Reason.LEASE_OUTDATED


@pytest.mark.parametrize(
    "item",
    [
        lease(0),
        lease(1 << 40),
        lease(since=10, until=9),
        lease(until=(LEASE_DAYS_MAX + 1) * DAY),
        Lease(number=1, valid_from=1 << 62, valid_until=1 << 62),
    ],
)
def test_a_lease_that_is_none(session: ModuleSession, item: Lease) -> None:
    text = "keywatt lease 1\n"
    assert present(session, signed(item, ALICE, BOB, text=text)) is Reason.LEASE_INVALID


def test_octets_that_are_no_lease(session: ModuleSession) -> None:
    good = signed(lease(), ALICE, BOB)
    for place, octet in (
        (24, 17),
        (25, 2),
        (26, 1),
        (31, 1),
        (32, 0x80),
        (40 + 37, 1),
        (40 + 2 * 104, 1),
        (len(good) - 1, 1),
    ):
        wrong = bytearray(good)
        wrong[place] = octet
        assert present(session, bytes(wrong)) is Reason.REQUEST_MALFORMED
    assert present(session, good) is Reason.OK


def test_a_token_without_officers_takes_no_lease(lab: Lab) -> None:
    with lab.session() as session:
        assert present(session, signed(lease(), ALICE, BOB)) is Reason.OFFICERS_MISSING


def test_a_clock_behind_what_is_known_issues_nothing(session: ModuleSession) -> None:
    item = lease()
    assert present(session, signed(item, ALICE, BOB, latest=now() + 8, is_new=False)) is Reason.OK
    assert issued(session) is Reason.OK
    assert present(session, signed(item, ALICE, BOB, latest=now() + 60, is_new=False)) is Reason.OK
    assert issued(session) is Reason.LEASE_CLOCK
    # The same lease does not bring the time back; the officers' next one does.
    assert present(session, signed(item, ALICE, BOB, latest=0, is_new=False)) is Reason.OK
    assert issued(session) is Reason.LEASE_CLOCK
    assert present(session, signed(lease(2), ALICE, BOB, latest=0)) is Reason.OK
    assert issued(session) is Reason.OK


def test_a_lease_that_begins_later_does_not_take_the_place_of_one_that_counts(session: ModuleSession) -> None:
    assert present(session, signed(lease(), ALICE, BOB)) is Reason.OK
    assert present(session, signed(lease(2, since=60, until=120), ALICE, BOB)) is Reason.LEASE_CLOCK
    assert issued(session) is Reason.OK
    # Clocks of officers may be some minutes ahead.
    assert present(session, signed(lease(2, since=8, until=120), ALICE, BOB)) is Reason.OK
    assert issued(session) is Reason.OK


def test_a_ceremony_puts_a_lease_into_the_token(governed: Lab) -> None:
    item = lease(3)
    governed.configure("ceremony")
    with governed.session() as session:
        ceremony = Ceremony(session)
        digest = action_digest(Operation.SET_LEASE, item.pack())
        Table(ceremony, CeremonyKind.POLICY, digest).approve(ALICE, BOB)
        assert refusal(ceremony.set_lease, item) is Reason.ACTION_NOT_APPROVED
        table = Table(ceremony, CeremonyKind.LEASE, digest)
        table.approve(ALICE)
        assert refusal(ceremony.set_lease, item) is Reason.CEREMONY_NOT_APPROVED
        table.approve(BOB)
        assert refusal(ceremony.set_lease, lease(4)) is Reason.ACTION_NOT_APPROVED
        ceremony.set_lease(item)
        assert refusal(ceremony.set_lease, item) is Reason.ACTION_NOT_APPROVED
        assert refusal(ceremony.set_lease, lease(2)) is Reason.LEASE_OUTDATED
        assert refusal(ceremony.set_lease, lease(9, until=-5)) is Reason.LEASE_INVALID
        assert refusal(ceremony.set_lease, lease(9, since=60, until=90)) is Reason.LEASE_CLOCK
    governed.configure("online")
    with governed.session() as session:
        assert mandate_of(session).lease == item
        assert issued(session) is Reason.OK
        assert present(session, signed(lease(2), ALICE, BOB)) is Reason.LEASE_OUTDATED
        assert present(session, signed(lease(4, until=0), ALICE, BOB)) is Reason.OK
        assert issued(session) is Reason.LEASE_OVER
    # What was presented is for a login; what a ceremony wrote is for good.
    with governed.session() as session:
        assert mandate_of(session).lease == item


def test_a_ceremony_puts_a_policy_in_force(governed: Lab) -> None:
    first, second = PolicyItem(number=3, digest=b"\1" * 32), PolicyItem(number=4, digest=b"\2" * 32)
    governed.configure("ceremony")
    with governed.session() as session:
        ceremony = Ceremony(session)
        for item, kind in ((first, CeremonyKind.LEASE), (first, CeremonyKind.POLICY), (second, CeremonyKind.POLICY)):
            table = Table(ceremony, kind, action_digest(Operation.SET_POLICY, item.pack()))
            table.approve(ALICE, BOB)
            if kind is CeremonyKind.LEASE:
                assert refusal(ceremony.set_policy, item) is Reason.ACTION_NOT_APPROVED
            else:
                ceremony.set_policy(item)
        assert refusal(ceremony.set_policy, first) is Reason.POLICY_OUTDATED
        assert refusal(ceremony.set_policy, replace(second, digest=bytes(32))) is Reason.POLICY_OUTDATED
        assert refusal(ceremony.set_policy, PolicyItem(number=0, digest=bytes(32))) is Reason.REQUEST_MALFORMED
    governed.configure("online")
    with governed.session() as session:
        found = mandate_of(session)
        assert (found.policy_number, found.policy_digest, found.lease) == (4, second.digest, None)
        assert issued(session) is Reason.OK


@pytest.mark.root
def test_production_issues_nothing_without_a_lease(governed: Lab, production_library: Path) -> None:
    governed.configure("online", "production")
    with governed.session(library=production_library) as session:
        assert mandate_of(session).lease_required
        assert _meter_test(session) is Reason.LEASE_MISSING
        assert present(session, signed(lease(), ALICE, BOB)) is Reason.OK
        assert _meter_test(session) is Reason.OK
