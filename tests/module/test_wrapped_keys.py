"""Keys that a centre has wrapped: opened inside the module, for this token and once, with what is bound to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hsm.ceremony import Ceremony
from hsm.ceremony_requests import Centre as EnrolledCentre
from hsm.ceremony_requests import CentresItem, LoadWrappedItem, transport_text
from hsm.officers import CeremonyKind, action_digest
from hsm.reasons import Reason
from hsm.requests import Operation
from keyloader.exchange.centre import Centre, ClearKey
from keyloader.exchange.request_file import KeyRequest
from keyloader.key_attributes import KeyAttributes
from tests.module.test_officers import Table, enrol, refusal
from tests.support.lab import DEVELOPMENT_160, DEVELOPMENT_DES, Lab, key_item
from tests.support.officers import ALICE, BOB, CAROL, officers

CENTRE = Centre(name="Centre One", private=Ed25519PrivateKey.from_private_bytes(bytes([91]) * 32))
STRANGER = Centre(name="Centre One", private=Ed25519PrivateKey.from_private_bytes(bytes([92]) * 32))
CENTRES = CentresItem(centres=[EnrolledCentre(name=CENTRE.name, key=CENTRE.key.public)])


def attributes(**changes: object) -> KeyAttributes:
    fields: dict[str, object] = {
        "supply_group_code": "600200",
        "key_revision_number": 1,
        "key_type": 2,
        "dkga": 4,
        "base_date": 14,
        "key_expiry_number": 255,
    }
    return KeyAttributes(**(fields | changes))  # type: ignore[arg-type]


def clear(key: bytes = DEVELOPMENT_160, **changes: object) -> ClearKey:
    return ClearKey(attributes=attributes(**({"dkga": 4 if len(key) == 20 else 2} | changes)), key=key)


@pytest.fixture
def ceremony(lab: Lab) -> Iterator[Ceremony]:
    """A token without officers, in development: each operation is judged by itself."""
    lab.configure("ceremony")
    with lab.session() as session:
        ceremony = Ceremony(session)
        ceremony.make_audit_key()
        ceremony.set_centres(CENTRES)
        yield ceremony


def request(ceremony: Ceremony) -> KeyRequest:
    made = ceremony.make_transport_key()
    status = ceremony.session.status()
    asked = KeyRequest(
        module=status.module_id,
        serial=status.token_serial,
        profile="development",
        transport=made.point.hex(),
        audit_key=ceremony.session.audit_key().hex(),
        signature=made.signature.hex(),
    )
    asked.verify(ceremony.session.audit_key())
    return asked


def send(ceremony: Ceremony, *keys: ClearKey, centre: Centre = CENTRE) -> list[LoadWrappedItem]:
    file = centre.send(request(ceremony), keys)
    file.require_signed()
    return [file.item(key) for key in file.keys]


@pytest.mark.parametrize("key", [DEVELOPMENT_160, DEVELOPMENT_DES], ids=["DKGA04", "DKGA02"])
def test_a_key_arrives_with_its_attributes(ceremony: Ceremony, key: bytes) -> None:
    limits = {"unit_limit": "500.5", "currency_limit": "1000.00001"}
    (item,) = send(ceremony, clear(key, **limits))
    checked, is_new = ceremony.load_wrapped(item)
    assert is_new
    assert checked.octets == item.load.expected
    (label,) = [label for label in ceremony.session.labels if "sgc=600200" in label]
    assert label.startswith("keywatt-vk/2 ")
    assert " rfr=- ulm=5005 clm=100000001 " in label
    found = next(one for one in ceremony.session.keys if one.reference.supply_group_code.digits == "600200")
    assert (found.unit_limit, found.currency_limit) == (5005, 100000001)
    assert ceremony.session.check_value(found.reference).octets == checked.octets


def test_it_is_the_same_key_as_one_that_was_typed(lab: Lab, ceremony: Ceremony) -> None:
    (item,) = send(ceremony, clear())
    ceremony.load_wrapped(item)
    typed = key_item("600200", key=DEVELOPMENT_160)
    assert ceremony.load_key(typed)[1] is False


def test_nothing_is_opened_before_there_is_a_transport_key(ceremony: Ceremony) -> None:
    (item,) = send(ceremony, clear())
    ceremony.end_transport()
    assert refusal(ceremony.load_wrapped, item) is Reason.TRANSPORT_KEY_MISSING
    assert refusal(ceremony.end_transport) is Reason.TRANSPORT_KEY_MISSING


def test_a_file_for_an_earlier_request_is_refused(ceremony: Ceremony) -> None:
    (item,) = send(ceremony, clear())
    ceremony.make_transport_key()
    assert refusal(ceremony.load_wrapped, item) is Reason.SIGNATURE_WRONG


def test_a_transport_key_outlives_the_login(ceremony: Ceremony) -> None:
    (item,) = send(ceremony, clear())
    ceremony.session.close()
    ceremony.session.open("0123456789abcdef" * 2)
    assert ceremony.load_wrapped(item)[1]


def test_a_centre_that_is_not_enrolled_is_refused(ceremony: Ceremony) -> None:
    (item,) = send(ceremony, clear(), centre=STRANGER)
    assert refusal(ceremony.load_wrapped, item) is Reason.CENTRE_UNKNOWN
    assert refusal(ceremony.load_wrapped, replace(item, centre=CENTRE.key.public)) is Reason.SIGNATURE_WRONG
    ceremony.set_centres(CentresItem(centres=[]))
    (item,) = send(ceremony, clear())
    assert refusal(ceremony.load_wrapped, item) is Reason.CENTRE_UNKNOWN


ALTERATIONS: list[Callable[[LoadWrappedItem], LoadWrappedItem]] = [
    lambda item: replace(item, load=replace(item.load, key_expiry_number=10)),
    lambda item: replace(item, load=replace(item.load, supply_group_code="600201")),
    lambda item: replace(item, load=replace(item.load, unit_limit=1)),
    lambda item: replace(item, load=replace(item.load, issued_until=1 << 24)),
    lambda item: replace(item, load=replace(item.load, expected=b"abc")),
    lambda item: replace(item, wrapped=bytes([item.wrapped[0] ^ 1]) + item.wrapped[1:]),
    lambda item: replace(item, signature=bytes(64)),
]


@pytest.mark.parametrize("alter", ALTERATIONS)
def test_an_altered_key_is_refused(ceremony: Ceremony, alter: Callable[[LoadWrappedItem], LoadWrappedItem]) -> None:
    (item,) = send(ceremony, clear())
    before = ceremony.session.labels
    assert refusal(ceremony.load_wrapped, alter(item)) is Reason.SIGNATURE_WRONG
    ceremony.session.reload_keys()
    assert ceremony.session.labels == before


def resigned(item: LoadWrappedItem, asked: KeyRequest) -> LoadWrappedItem:
    """Return the item as a centre would sign it that does not know what it binds."""
    from hsm.ceremony_requests import KEY_LOAD_NAMESPACE, key_load_text
    from hsm.ssh_signatures import sign

    text = key_load_text(
        asked.module, asked.serial, bytes.fromhex(asked.transport), item.load, item.point, item.wrapped
    )
    return replace(item, signature=sign(CENTRE.private, KEY_LOAD_NAMESPACE, text.encode()).signature)


@pytest.mark.parametrize("alter", ALTERATIONS[:6])
def test_attributes_that_contradict_the_key_are_refused_though_signed(
    ceremony: Ceremony, alter: Callable[[LoadWrappedItem], LoadWrappedItem]
) -> None:
    asked = request(ceremony)
    file = CENTRE.send(asked, [clear()])
    item = resigned(alter(file.item(file.keys[0])), asked)
    assert refusal(ceremony.load_wrapped, item) is Reason.WRAPPED_KEY_WRONG


def test_a_key_for_another_token_is_refused(lab: Lab, ceremony: Ceremony) -> None:
    asked = request(ceremony).model_copy(update={"serial": "0000000000000000"})
    file = CENTRE.send(asked, [clear()])
    assert refusal(ceremony.load_wrapped, file.item(file.keys[0])) is Reason.SIGNATURE_WRONG


def test_a_point_that_is_not_on_the_curve_opens_nothing(ceremony: Ceremony) -> None:
    asked = request(ceremony)
    file = CENTRE.send(asked, [clear()])
    item = file.item(file.keys[0])
    off = resigned(replace(item, point=item.point[:-1] + bytes([item.point[-1] ^ 1])), asked)
    assert refusal(ceremony.load_wrapped, off) is Reason.WRAPPED_KEY_WRONG
    ceremony.session.reload_keys()
    assert not [label for label in ceremony.session.labels if "sgc=600200" in label]


def test_a_name_that_is_taken_by_another_key_is_refused(ceremony: Ceremony) -> None:
    ceremony.load_key(key_item("600200", key=bytes(range(1, 21))))
    (item,) = send(ceremony, clear())
    assert refusal(ceremony.load_wrapped, item) is Reason.KEY_EXISTS


def test_a_refresh_moves_dates_and_limits_of_the_very_same_key(ceremony: Ceremony) -> None:
    from datetime import datetime

    first, second = datetime(2030, 1, 1), datetime(2031, 1, 1)
    (item,) = send(ceremony, clear(refresh_until=first, unit_limit="100"))
    ceremony.load_wrapped(item)
    (item,) = send(ceremony, clear(refresh_until=second, unit_limit="200", issued_until=second))
    assert ceremony.load_wrapped(item)[1]
    labels = [label for label in ceremony.session.labels if "sgc=600200" in label]
    assert len(labels) == 1
    assert "rfr=2031-01-01T00:00 ulm=2000" in labels[0]
    # The same once more changes nothing; another expiry is no refresh, nor is another key.
    (item,) = send(ceremony, clear(refresh_until=second, unit_limit="200", issued_until=second))
    assert ceremony.load_wrapped(item)[1] is False
    (item,) = send(ceremony, clear(refresh_until=second, key_expiry_number=3))
    assert refusal(ceremony.load_wrapped, item) is Reason.KEY_EXISTS
    (item,) = send(ceremony, clear(bytes(range(1, 21)), refresh_until=first))
    assert refusal(ceremony.load_wrapped, item) is Reason.KEY_EXISTS


def test_the_request_is_signed_by_the_audit_key(ceremony: Ceremony) -> None:
    asked = request(ceremony)
    text = transport_text(asked.module, asked.serial, 1, bytes.fromhex(asked.transport))
    key = Ed25519PublicKey.from_public_bytes(ceremony.session.audit_key())
    key.verify(bytes.fromhex(asked.signature), text.encode())


def test_without_an_audit_key_there_is_no_request(lab: Lab) -> None:
    lab.configure("ceremony")
    with lab.session() as session:
        assert refusal(Ceremony(session).make_transport_key) is Reason.AUDIT_KEY_MISSING


def test_officers_approve_each_key_of_a_file(ceremony: Ceremony) -> None:
    items = send(ceremony, clear(), clear(key_revision_number=2))
    enrol(ceremony, officers(), ALICE, CAROL)
    assert refusal(ceremony.load_wrapped, items[0]) is Reason.ACTION_NOT_APPROVED
    digests = [action_digest(Operation.LOAD_WRAPPED, items[0].pack()), action_digest(Operation.END_TRANSPORT, b"")]
    table = Table(ceremony, CeremonyKind.LOAD_KEY, *digests)
    table.approve(ALICE, BOB)
    assert refusal(ceremony.load_wrapped, items[0]) is Reason.ACTION_NOT_APPROVED
    table = Table(ceremony, CeremonyKind.KEY_FILE, *digests)
    table.approve(ALICE)
    assert refusal(ceremony.load_wrapped, items[0]) is Reason.CEREMONY_NOT_APPROVED
    table.approve(BOB)
    assert refusal(ceremony.load_wrapped, items[1]) is Reason.ACTION_NOT_APPROVED
    ceremony.load_wrapped(items[0])
    ceremony.end_transport()
    assert refusal(ceremony.load_wrapped, items[0]) is Reason.TRANSPORT_KEY_MISSING


def test_centres_are_enrolled_by_those_who_change_officers(ceremony: Ceremony) -> None:
    enrol(ceremony, officers(OFFICERS=3), ALICE, CAROL)
    other = CentresItem(centres=[EnrolledCentre(name="Other", key=STRANGER.key.public)])
    digest = action_digest(Operation.SET_CENTRES, other.pack())
    table = Table(ceremony, CeremonyKind.KEY_FILE, digest)
    table.approve(ALICE, BOB)
    assert refusal(ceremony.set_centres, other) is Reason.ACTION_NOT_APPROVED
    table = Table(ceremony, CeremonyKind.OFFICERS, digest)
    table.approve(ALICE, BOB)
    assert refusal(ceremony.set_centres, other) is Reason.CEREMONY_NOT_APPROVED
    table.approve(CAROL)
    ceremony.set_centres(other)
    assert ceremony.centres() == other


@pytest.mark.parametrize(
    "centres",
    [
        [EnrolledCentre(name="", key=bytes([1]) * 32)],
        [EnrolledCentre(name="A", key=bytes(32))],
        [EnrolledCentre(name="A", key=bytes([1]) * 32), EnrolledCentre(name="A", key=bytes([2]) * 32)],
        [EnrolledCentre(name="A", key=bytes([1]) * 32), EnrolledCentre(name="B", key=bytes([1]) * 32)],
    ],
)
def test_centres_that_are_none(ceremony: Ceremony, centres: list[EnrolledCentre]) -> None:
    assert refusal(ceremony.set_centres, CentresItem(centres=centres)) is Reason.CENTRES_INVALID
    assert ceremony.centres() == CENTRES
