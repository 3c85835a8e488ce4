"""Officers inside the module: who may approve what, and that nothing else is done."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hsm.ceremony import Ceremony
from hsm.ceremony_requests import InstallTablesItem, KeyNameItem, KeySource
from hsm.errors import ModuleRefusal
from hsm.officers import (
    ACTIONS_MAX,
    Approval,
    BeginItem,
    CeremonyKind,
    ComponentPart,
    OfficersItem,
    action_digest,
    approval_text,
    record_text,
)
from hsm.reasons import Reason
from hsm.requests import Operation
from tests.module.test_rules import now as minute_now
from tests.support.lab import DEVELOPMENT_160, DEVELOPMENT_DES, Lab, credit, issue, key_item, reference
from tests.support.officers import ALICE, BOB, CAROL, PEOPLE, Person, now, officers

PLAN = hashlib.sha256(b"a plan").digest()
MODULE = "lab"
OTHER_160 = bytes(range(1, 21))


def refusal(call: object, *arguments: object) -> Reason:
    with pytest.raises(ModuleRefusal) as refused:
        call(*arguments)  # type: ignore[operator]
    return refused.value.code


class Table:
    """A ceremony on the table: begun, and what is signed of it."""

    def __init__(self, ceremony: Ceremony, kind: CeremonyKind, *actions: bytes) -> None:
        self.ceremony = ceremony
        self.item = BeginItem(kind=kind, plan=PLAN, actions=actions)
        self.begun = ceremony.begin(self.item)
        self.text = approval_text(MODULE, self.item, self.begun.nonce)

    def approve(self, *people: Person) -> None:
        for person in people:
            self.ceremony.approve(person.approve(self.text))


def enrol(ceremony: Ceremony, item: OfficersItem, *people: Person) -> None:
    """Initialise: propose, approve, enrol."""
    table = Table(ceremony, CeremonyKind.INITIALISE, action_digest(Operation.SET_OFFICERS, item.pack()))
    ceremony.set_officers(item)
    table.approve(*people)
    ceremony.set_officers(item)


@pytest.fixture
def ceremony(lab: Lab) -> Iterator[Ceremony]:
    lab.configure("ceremony")
    with lab.session() as session:
        ceremony = Ceremony(session)
        ceremony.make_audit_key()
        yield ceremony


@pytest.fixture
def enrolled(ceremony: Ceremony) -> Ceremony:
    enrol(ceremony, officers(LOAD_KEY=3), ALICE, CAROL)
    return ceremony


def test_officers_enrol_themselves_on_a_token_without_any(ceremony: Ceremony) -> None:
    assert ceremony.officers() is None
    enrol(ceremony, officers(), ALICE, BOB)
    found = ceremony.officers()
    assert found is not None
    assert [(one.name, one.key) for one in found.officers] == [(one.name, one.public) for one in PEOPLE]
    assert found.officers[2].application_digest == hashlib.sha256(b"ssh:").digest()
    assert found.thresholds[CeremonyKind.POLICY] == 2


def test_enrolment_outlives_the_login(lab: Lab, ceremony: Ceremony) -> None:
    enrol(ceremony, officers(), ALICE, BOB)
    before = ceremony.officers()
    ceremony._session.close()
    ceremony._session.open("0123456789abcdef" * 2)
    assert ceremony.officers() == before


def test_before_enough_have_approved_nobody_is_enrolled(ceremony: Ceremony) -> None:
    item = officers()
    table = Table(ceremony, CeremonyKind.INITIALISE, action_digest(Operation.SET_OFFICERS, item.pack()))
    assert refusal(ceremony.approve, ALICE.approve(table.text)) is Reason.OFFICERS_MISSING
    assert refusal(ceremony.set_officers, officers(ALICE, BOB)) is Reason.ACTION_NOT_APPROVED
    ceremony.set_officers(item)
    assert refusal(ceremony.set_officers, item) is Reason.CEREMONY_NOT_APPROVED
    table.approve(ALICE)
    assert refusal(ceremony.set_officers, item) is Reason.CEREMONY_NOT_APPROVED
    assert ceremony.officers() is None
    table.approve(CAROL)
    ceremony.set_officers(item)
    assert refusal(ceremony.set_officers, item) is Reason.ACTION_NOT_APPROVED


@pytest.mark.parametrize("kind", [kind for kind in CeremonyKind if kind is not CeremonyKind.INITIALISE])
def test_without_officers_there_is_one_ceremony(ceremony: Ceremony, kind: CeremonyKind) -> None:
    assert refusal(ceremony.begin, BeginItem(kind=kind, plan=PLAN, actions=())) is Reason.OFFICERS_MISSING


@pytest.mark.parametrize(
    "item",
    [
        officers(ALICE),
        officers(ALICE, BOB, LOAD_KEY=1),
        officers(ALICE, BOB, LOAD_KEY=3),
        officers(ALICE, BOB, POLICY=0),
        officers(ALICE, BOB, replace(BOB, name="Bob again")),
        officers(ALICE, BOB, Person.make("Bob", 209)),
        officers(ALICE, replace(BOB, name="")),
        officers(ALICE, replace(BOB, name=" Bob")),
        officers(ALICE, replace(BOB, name="Bob\x07")),
        officers(ALICE, replace(BOB, valid_from=10, valid_until=10)),
    ],
)
def test_lists_that_are_none(ceremony: Ceremony, item: OfficersItem) -> None:
    ceremony.begin(BeginItem(kind=CeremonyKind.INITIALISE, plan=PLAN, actions=()))
    assert refusal(ceremony.set_officers, item) is Reason.OFFICERS_INVALID


# --- approvals --------------------------------------------------------------------------------------------------------


def generate(sgc: str = "700001", **changes: object) -> object:
    return key_item(sgc, key=b"", source=KeySource.GENERATE, dkga=4, **changes)


def test_the_quorum_is_that_of_the_kind(enrolled: Ceremony) -> None:
    item = generate()
    table = Table(enrolled, CeremonyKind.GENERATE_KEY, action_digest(Operation.LOAD_KEY, item.pack()))  # type: ignore[attr-defined]
    assert (table.begun.needed, table.begun.enrolled) == (2, 3)
    assert enrolled.approve(ALICE.approve(table.text)) == (1, 2)
    assert refusal(enrolled.load_key, item) is Reason.CEREMONY_NOT_APPROVED
    assert enrolled.approve(BOB.approve(table.text)) == (2, 2)
    checked, is_new = enrolled.load_key(item)  # type: ignore[arg-type]
    assert is_new
    assert checked.octets != bytes(3)
    assert Table(enrolled, CeremonyKind.LOAD_KEY).begun.needed == 3


def test_one_officer_counts_once(enrolled: Ceremony) -> None:
    table = Table(enrolled, CeremonyKind.GENERATE_KEY)
    table.approve(ALICE)
    assert refusal(enrolled.approve, ALICE.approve(table.text)) is Reason.OFFICER_REPEATED


def test_signatures_that_are_none(enrolled: Ceremony) -> None:
    table = Table(enrolled, CeremonyKind.GENERATE_KEY)
    stranger = Person.make("Mallory", 210)
    approve = enrolled.approve
    assert refusal(approve, stranger.approve(table.text)) is Reason.OFFICER_UNKNOWN
    assert refusal(approve, replace(stranger.approve(table.text), key=ALICE.public)) is Reason.SIGNATURE_WRONG
    assert refusal(approve, ALICE.approve(table.text + "\n")) is Reason.SIGNATURE_WRONG
    assert refusal(approve, ALICE.approve(table.text.replace("kind 4", "kind 3"))) is Reason.SIGNATURE_WRONG
    other = ALICE.sign(table.text, "file")
    assert refusal(approve, Approval(key=ALICE.public, signature=other.signature)) is Reason.SIGNATURE_WRONG
    # A plain key has no counter; a FIDO2 key that nobody touched has signed nothing.
    assert refusal(approve, replace(ALICE.approve(table.text), counter=1)) is Reason.SIGNATURE_WRONG
    assert refusal(approve, CAROL.approve(table.text, flags=0)) is Reason.SIGNATURE_WRONG
    assert refusal(approve, replace(CAROL.approve(table.text), counter=8)) is Reason.SIGNATURE_WRONG
    as_plain = Person("Carol", CAROL.private)
    assert refusal(approve, as_plain.approve(table.text)) is Reason.SIGNATURE_WRONG
    assert enrolled.approve(CAROL.approve(table.text, flags=5)) == (1, 2)


def test_an_approval_is_for_one_ceremony(enrolled: Ceremony) -> None:
    first = Table(enrolled, CeremonyKind.GENERATE_KEY)
    first.approve(ALICE, BOB)
    second = Table(enrolled, CeremonyKind.GENERATE_KEY)
    assert first.begun.nonce != second.begun.nonce
    assert refusal(enrolled.approve, ALICE.approve(first.text)) is Reason.SIGNATURE_WRONG
    assert refusal(enrolled.load_key, generate()) is Reason.CEREMONY_NOT_APPROVED


def test_an_officer_whose_term_is_over(ceremony: Ceremony) -> None:
    over = Person.make("Over", 211, valid_until=now() - 1)
    early = Person.make("Early", 212, valid_from=now() + 10)
    enrol(ceremony, officers(ALICE, BOB, over, early), ALICE, BOB)
    table = Table(ceremony, CeremonyKind.GENERATE_KEY)
    assert refusal(ceremony.approve, over.approve(table.text)) is Reason.OFFICER_NOT_VALID
    assert refusal(ceremony.approve, early.approve(table.text)) is Reason.OFFICER_NOT_VALID


def test_without_a_ceremony_nothing_is_done(enrolled: Ceremony) -> None:
    enrolled._session.close()
    enrolled._session.open("0123456789abcdef" * 2)
    tables = InstallTablesItem(name="t", tables=bytes(96))
    for call, argument in (
        (enrolled.load_key, generate()),
        (enrolled.load_key, key_item("700001", key=DEVELOPMENT_160)),
        (enrolled.destroy_key, KeyNameItem(supply_group_code="201457", key_revision_number=1)),
        (enrolled.approve, ALICE.approve("")),
        (enrolled.set_officers, officers()),
        (enrolled.sign_record, bytes(32)),
    ):
        assert refusal(call, argument) is Reason.CEREMONY_NOT_BEGUN, argument
    assert refusal(enrolled.install_tables, tables) is Reason.STA_TABLES_INVALID


def test_nothing_but_what_was_approved_is_done_and_once(enrolled: Ceremony) -> None:
    item = generate("700001")
    table = Table(enrolled, CeremonyKind.GENERATE_KEY, action_digest(Operation.LOAD_KEY, item.pack()))  # type: ignore[attr-defined]
    table.approve(ALICE, BOB)
    assert refusal(enrolled.load_key, generate("700002")) is Reason.ACTION_NOT_APPROVED
    assert refusal(enrolled.load_key, generate("700001", issued_until=70_000_000)) is Reason.ACTION_NOT_APPROVED
    assert refusal(enrolled.set_officers, officers()) is Reason.ACTION_NOT_APPROVED
    assert enrolled.load_key(item)[1]  # type: ignore[arg-type]
    assert refusal(enrolled.load_key, item) is Reason.ACTION_NOT_APPROVED


def test_a_kind_serves_for_nothing_else(enrolled: Ceremony) -> None:
    """Else the kind that needs the fewest officers would serve for everything."""
    item = key_item("700001", key=DEVELOPMENT_160)
    destroy = KeyNameItem(supply_group_code="201457", key_revision_number=1)
    actions = [
        action_digest(Operation.LOAD_KEY, item.pack()),
        action_digest(Operation.DESTROY_KEY, destroy.pack()),
        action_digest(Operation.SET_OFFICERS, officers().pack()),
    ]
    table = Table(enrolled, CeremonyKind.GENERATE_KEY, *actions)
    table.approve(ALICE, BOB)
    assert refusal(enrolled.load_key, item) is Reason.ACTION_NOT_APPROVED
    assert refusal(enrolled.destroy_key, destroy) is Reason.ACTION_NOT_APPROVED
    assert refusal(enrolled.set_officers, officers()) is Reason.ACTION_NOT_APPROVED


def test_officers_are_replaced_by_officers(enrolled: Ceremony) -> None:
    successor = Person.make("Dora", 213)
    item = officers(ALICE, successor)
    table = Table(enrolled, CeremonyKind.OFFICERS, action_digest(Operation.SET_OFFICERS, item.pack()))
    assert refusal(enrolled.approve, successor.approve(table.text)) is Reason.OFFICER_UNKNOWN
    table.approve(ALICE, BOB)
    enrolled.set_officers(item)
    after = Table(enrolled, CeremonyKind.GENERATE_KEY)
    assert refusal(enrolled.approve, BOB.approve(after.text)) is Reason.OFFICER_UNKNOWN
    after.approve(ALICE, successor)


def test_a_key_is_destroyed(enrolled: Ceremony) -> None:
    item = KeyNameItem(supply_group_code="201457", key_revision_number=1)
    assert refusal(enrolled.destroy_key, replace(item, supply_group_code="999999")) is Reason.KEY_UNKNOWN
    table = Table(enrolled, CeremonyKind.DESTROY_KEY, action_digest(Operation.DESTROY_KEY, item.pack()))
    table.approve(BOB, CAROL)
    assert enrolled._session.key(reference("201457")) is not None
    enrolled.destroy_key(item)
    assert enrolled._session.key(reference("201457")) is None
    assert refusal(enrolled.destroy_key, item) is Reason.KEY_UNKNOWN


def test_a_ceremony_has_as_many_actions_as_it_has(enrolled: Ceremony) -> None:
    Table(enrolled, CeremonyKind.GENERATE_KEY, *[bytes([n]) * 32 for n in range(ACTIONS_MAX)])


# --- components -------------------------------------------------------------------------------------------------------


def xor(*octets: bytes) -> bytes:
    whole = bytes(len(octets[0]))
    for one in octets:
        whole = bytes(a ^ b for a, b in zip(whole, one, strict=True))
    return whole


def parts(person: Person, number: int, octets: bytes, total: int = 2, step: int = 2) -> list[ComponentPart]:
    return [
        ComponentPart(
            number=number,
            total=total,
            offset=at,
            key_length=len(octets),
            officer=person.public,
            octets=octets[at : at + step],
        )
        for at in range(0, len(octets), step)
    ]


def enter(ceremony: Ceremony, person: Person, number: int, octets: bytes, total: int = 2) -> bytes:
    for part in parts(person, number, octets, total):
        checked = ceremony.enter_component(part)
    return checked.octets


def component_key(key: bytes, **changes: object) -> object:
    item = key_item("700001", key=key, **changes)
    return replace(item, key=b"", source=KeySource.COMPONENTS, components=2)


@pytest.fixture
def loading(enrolled: Ceremony) -> Ceremony:
    expected = hashlib.sha256(b"\x01" + DEVELOPMENT_160).digest()[:3]
    item = component_key(DEVELOPMENT_160, expected=expected)
    table = Table(enrolled, CeremonyKind.LOAD_KEY, action_digest(Operation.LOAD_KEY, item.pack()))  # type: ignore[attr-defined]
    table.approve(*PEOPLE)
    return enrolled


EXPECTED = hashlib.sha256(b"\x01" + DEVELOPMENT_160).digest()[:3]
ITEM = component_key(DEVELOPMENT_160, expected=EXPECTED)
SHARES = [OTHER_160, xor(OTHER_160, DEVELOPMENT_160)]


def test_components_make_the_key_inside(loading: Ceremony, lab: Lab) -> None:
    for number, (person, share) in enumerate(zip((ALICE, BOB), SHARES, strict=True), 1):
        assert refusal(loading.load_key, ITEM) is Reason.COMPONENTS_MISSING
        assert enter(loading, person, number, share) == hashlib.sha256(b"\x01" + share).digest()[:3]
    checked, is_new = loading.load_key(ITEM)  # type: ignore[arg-type]
    assert is_new
    assert checked.octets == EXPECTED
    # They are gone with that.
    assert refusal(loading.load_key, ITEM) is Reason.ACTION_NOT_APPROVED
    loading._session.finalize()
    lab.configure("online")
    with lab.session() as session:
        (made,) = issue(session, reference("700001"), credit(minute_now(session)))
        assert made.reason is Reason.OK


def test_des_components_keep_the_parity(enrolled: Ceremony) -> None:
    item = replace(key_item("700001", key=DEVELOPMENT_DES), key=b"", source=KeySource.COMPONENTS, components=2)
    table = Table(enrolled, CeremonyKind.LOAD_KEY, action_digest(Operation.LOAD_KEY, item.pack()))
    table.approve(*PEOPLE)
    shares = [b"\x01\x02\x03\x04\x05\x06\x07\x08", xor(b"\x01\x02\x03\x04\x05\x06\x07\x08", DEVELOPMENT_DES)]
    for number, (person, share) in enumerate(zip((ALICE, BOB), shares, strict=True), 1):
        enter(enrolled, person, number, share)
    checked, _ = enrolled.load_key(item)
    from tests.support import vectors

    assert checked.octets == vectors.des_block(DEVELOPMENT_DES, bytes(8))[:3]


def test_nobody_enters_two_components(loading: Ceremony) -> None:
    enter(loading, ALICE, 1, SHARES[0])
    assert refusal(loading.enter_component, parts(ALICE, 2, SHARES[1])[0]) is Reason.OFFICER_REPEATED
    assert refusal(loading.enter_component, parts(BOB, 1, SHARES[1])[0]) is Reason.OFFICER_REPEATED
    stranger = Person.make("Mallory", 210)
    assert refusal(loading.enter_component, parts(stranger, 2, SHARES[1])[0]) is Reason.OFFICER_UNKNOWN


def test_wrong_components_load_nothing(loading: Ceremony) -> None:
    enter(loading, ALICE, 1, SHARES[0])
    enter(loading, BOB, 2, SHARES[0])
    assert refusal(loading.load_key, ITEM) in {Reason.CHECK_VALUE_DIFFERS, Reason.KEY_INVALID}
    enter(loading, BOB, 2, bytes(19) + b"\x01")
    assert refusal(loading.load_key, ITEM) is Reason.CHECK_VALUE_DIFFERS
    # Entered again, and right this time.
    enter(loading, BOB, 2, SHARES[1])
    assert loading.load_key(ITEM)[1]  # type: ignore[arg-type]


def test_parts_follow_each_other(loading: Ceremony) -> None:
    first, second, third, *_ = parts(ALICE, 1, SHARES[0])
    enter_part = loading.enter_component
    assert refusal(enter_part, second) is Reason.COMPONENT_INVALID
    enter_part(first)
    assert refusal(enter_part, third) is Reason.COMPONENT_INVALID
    enter_part(second)
    enter_part(first)
    assert refusal(enter_part, third) is Reason.COMPONENT_INVALID
    for wrong in (
        replace(first, number=0),
        replace(first, number=3),
        replace(first, total=1),
        replace(first, total=9),
        replace(first, total=3),
        replace(first, key_length=8),
        replace(first, key_length=16),
        replace(first, octets=b""),
        replace(first, offset=19),
    ):
        assert refusal(enter_part, wrong) is Reason.COMPONENT_INVALID, wrong
    for part in parts(ALICE, 1, bytes(20))[:-1]:
        enter_part(part)
    assert refusal(enter_part, parts(ALICE, 1, bytes(20))[-1]) is Reason.COMPONENT_INVALID


def test_components_are_for_loading_and_after_approval(enrolled: Ceremony) -> None:
    part = parts(ALICE, 1, SHARES[0])[0]
    Table(enrolled, CeremonyKind.LOAD_KEY).approve(ALICE)
    assert refusal(enrolled.enter_component, part) is Reason.CEREMONY_NOT_APPROVED
    Table(enrolled, CeremonyKind.GENERATE_KEY).approve(ALICE, BOB)
    assert refusal(enrolled.enter_component, part) is Reason.ACTION_NOT_APPROVED


def test_generated_keys_differ_and_have_parity(enrolled: Ceremony) -> None:
    items = [
        key_item("700001", key=b"", dkga=4, source=KeySource.GENERATE),
        key_item("700002", key=b"", dkga=4, source=KeySource.GENERATE),
        key_item("700003", key=b"", dkga=2, source=KeySource.GENERATE),
    ]
    digests = [action_digest(Operation.LOAD_KEY, item.pack()) for item in items]
    Table(enrolled, CeremonyKind.GENERATE_KEY, *digests).approve(ALICE, BOB)
    values = [enrolled.load_key(item)[0].octets for item in items]
    assert len(set(values)) == 3


# --- records ----------------------------------------------------------------------------------------------------------


def test_records_say_who_approved_and_what_was_done(enrolled: Ceremony) -> None:
    public = Ed25519PublicKey.from_public_bytes(enrolled._session.audit_key())
    record = hashlib.sha256(b"a record").digest()
    item = generate()
    for approved, does in (((), False), ((BOB,), False), ((BOB, CAROL), False), ((ALICE, BOB), True)):
        table = Table(enrolled, CeremonyKind.GENERATE_KEY, action_digest(Operation.LOAD_KEY, item.pack()))  # type: ignore[attr-defined]
        table.approve(*approved)
        if does:
            enrolled.load_key(item)  # type: ignore[arg-type]
        signature = enrolled.sign_record(record)
        people = [(person.public, person.name) for person in approved]
        text = record_text(MODULE, table.item, table.begun.nonce, int(does), people, 2, record)
        public.verify(signature, text.encode())
        # A ceremony has one record, and ends with it.
        assert refusal(enrolled.sign_record, record) is Reason.CEREMONY_NOT_BEGUN
        assert refusal(enrolled.approve, CAROL.approve(table.text)) is Reason.CEREMONY_NOT_BEGUN


def test_a_token_with_officers_is_not_initialised_again(enrolled: Ceremony) -> None:
    """Else they could be replaced by as many as an initialisation needs."""
    begin = BeginItem(kind=CeremonyKind.INITIALISE, plan=PLAN, actions=())
    assert refusal(enrolled.begin, begin) is Reason.ACTION_NOT_APPROVED
    item = officers(ALICE, BOB)
    table = Table(enrolled, CeremonyKind.LEASE, action_digest(Operation.SET_OFFICERS, item.pack()))
    table.approve(ALICE, BOB)
    assert refusal(enrolled.set_officers, item) is Reason.ACTION_NOT_APPROVED


def test_a_hand_over_needs_as_many_officers_as_replacing_them(ceremony: Ceremony) -> None:
    enrol(ceremony, officers(OFFICERS=3, HAND_OVER=2), ALICE, CAROL)
    item = officers(ALICE, BOB)
    table = Table(ceremony, CeremonyKind.HAND_OVER, action_digest(Operation.SET_OFFICERS, item.pack()))
    assert table.begun.needed == 3
    table.approve(ALICE, BOB)
    assert refusal(ceremony.set_officers, item) is Reason.CEREMONY_NOT_APPROVED
    table.approve(CAROL)
    ceremony.set_officers(item)
    found = ceremony.officers()
    assert found is not None
    assert [one.name for one in found.officers] == ["Alice", "Bob"]


def test_a_kind_that_an_older_enrolment_does_not_name_needs_the_most(ceremony: Ceremony) -> None:
    """Tokens enrolled before there were retirements have a zero in that place."""
    enrol(ceremony, officers(RETIRE_KEY=0, DESTROY_KEY=3), ALICE, CAROL, BOB)
    assert Table(ceremony, CeremonyKind.RETIRE_KEY).begun.needed == 3


def test_officers_cannot_lock_themselves_out(enrolled: Ceremony) -> None:
    over = [replace(person, valid_until=now() - 1) for person in (ALICE, BOB)]
    for item in (
        officers(*over),
        officers(ALICE, over[1]),
        officers(ALICE, BOB, replace(CAROL, valid_until=1), LEASE=3),
    ):
        Table(enrolled, CeremonyKind.OFFICERS, action_digest(Operation.SET_OFFICERS, item.pack())).approve(ALICE, BOB)
        assert refusal(enrolled.set_officers, item) is Reason.OFFICERS_INVALID


def test_components_are_as_many_and_as_approved(enrolled: Ceremony) -> None:
    values = b"".join(hashlib.sha256(b"\x01" + share).digest()[:3] for share in SHARES)
    other = hashlib.sha256(b"\x01" + OTHER_160).digest()[:3] * 2
    for count, known, reason in (
        (3, b"", Reason.COMPONENTS_MISSING),
        (2, other, Reason.CHECK_VALUE_DIFFERS),
        (2, values, None),
    ):
        item = replace(ITEM, components=count, component_values=known)  # type: ignore[type-var]
        Table(enrolled, CeremonyKind.LOAD_KEY, action_digest(Operation.LOAD_KEY, item.pack())).approve(*PEOPLE)
        for number, (person, share) in enumerate(zip((ALICE, BOB), SHARES, strict=True), 1):
            enter(enrolled, person, number, share)
        if reason is None:
            assert enrolled.load_key(item)[1]
        else:
            assert refusal(enrolled.load_key, item) is reason
