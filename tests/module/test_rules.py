"""Rules that the module enforces whoever asks; an attacker here speaks the module's own language correctly."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from hsm.errors import ModuleFault, VendingKeyUnknown
from hsm.keys import KeyReference
from hsm.reasons import Reason
from hsm.requests import IssueItem, KeyChangeItem, Mark, Operation, VerifyItem, pack_request
from hsm.session import ModuleSession
from sts.token_identifier import skip_reserved
from tests.support.lab import (
    PAN,
    Lab,
    change,
    credit,
    issue,
    key_item,
    minutes,
    reference,
    refused,
    verify,
)

BASE = {14: minutes(datetime(2014, 1, 1)), 35: minutes(datetime(2035, 1, 1)), 93: minutes(datetime(1993, 1, 1))}
GOOD = reference("600001")


def now(session: ModuleSession, base: int = 14) -> int:
    return skip_reserved(session.status().clock_minutes - BASE[base])


def test_good_request_is_issued(online: ModuleSession) -> None:
    (issued,) = issue(online, GOOD, credit(now(online)))
    assert issued.reason is Reason.OK
    assert len(issued.digits) == 20
    assert issued.marks == Mark.TEST_KEY
    assert issued.granted == 256


FIELDS: list[tuple[dict[str, Any], Reason]] = [
    ({"pan": "6007270000000000xx"}, Reason.PAN_INVALID),
    ({"pan": "600727000000000000"}, Reason.PAN_CHECK_DIGIT),
    ({"pan": "600727123456789040"}, Reason.DRN_CHECK_DIGIT),
    ({"pan": "123456000000000009"}, Reason.IIN_INVALID),
    ({"tariff_index": "0x"}, Reason.TARIFF_INDEX_INVALID),
    ({"ea": 9}, Reason.EA09_WITHDRAWN),
    ({"ea": 8}, Reason.EA_UNKNOWN),
    ({"tct": 0}, Reason.TCT_INVALID),
    ({"tct": 8}, Reason.TCT_INVALID),
    ({"value": 0}, Reason.AMOUNT_ZERO),
    ({"value": -1}, Reason.AMOUNT_NEGATIVE),
    ({"value": 18_201_625}, Reason.AMOUNT_TOO_LARGE),
    ({"value": 1 << 126}, Reason.AMOUNT_TOO_LARGE),
    ({"value": -(1 << 127), "subclass": 4, "random_number": 0}, Reason.AMOUNT_TOO_LARGE),
    ({"subclass": 4}, Reason.REQUEST_MALFORMED),
    ({"random_number": 16}, Reason.REQUEST_MALFORMED),
    ({"subclass": 8}, Reason.SUBCLASS_RESERVED),
    ({"subclass": 15}, Reason.SUBCLASS_RESERVED),
    ({"subclass": 16}, Reason.REQUEST_MALFORMED),
    ({"token_class": 1}, Reason.REQUEST_MALFORMED),
    ({"token_class": 3}, Reason.TOKEN_CLASS_RESERVED),
    ({"token_class": 4}, Reason.REQUEST_MALFORMED),
    ({"token_class": 2, "subclass": 1, "value": 8}, Reason.FIELD_OUT_OF_RANGE),
    ({"token_class": 2, "subclass": 5, "value": 1}, Reason.FIELD_OUT_OF_RANGE),
    ({"token_class": 2, "subclass": 2, "value": 0x10000}, Reason.FIELD_OUT_OF_RANGE),
    ({"token_class": 2, "subclass": 2, "value": -1}, Reason.FIELD_OUT_OF_RANGE),
    ({"token_class": 2, "subclass": 0, "value": 18_201_625}, Reason.AMOUNT_TOO_LARGE),
    ({"clock_minutes": 1}, Reason.CLOCK_NOT_SETTABLE),
    ({"tid": 1 << 24}, Reason.TID_INVALID),
]


@pytest.mark.parametrize(("changes", "reason"), FIELDS)
def test_bad_field(online: ModuleSession, changes: dict[str, Any], reason: Reason) -> None:
    assert refused(online, GOOD, credit(**({"tid": now(online)} | changes))) is reason


@pytest.mark.parametrize("subclass", [3, 4, 8, 9])
def test_key_change_block_through_issue(online: ModuleSession, subclass: int) -> None:
    item = credit(now(online), token_class=2, subclass=subclass, value=0)
    assert refused(online, GOOD, item) is Reason.KEY_CHANGE_NOT_ISSUABLE


def test_cross_algorithm(online: ModuleSession) -> None:
    assert refused(online, reference("600007"), credit(now(online), ea=11)) is Reason.EA_DKGA_MISMATCH


@pytest.mark.parametrize(
    ("sgc", "reason"),
    [
        ("600002", Reason.CREDIT_UNDER_DEFAULT_KEY),
        ("600003", Reason.KEY_EXPIRED),
        ("600004", Reason.KEY_NOT_ACTIVE),
        ("600005", Reason.KEY_ISSUE_PERIOD_OVER),
    ],
)
def test_key_record_rules(online: ModuleSession, sgc: str, reason: Reason) -> None:
    assert refused(online, reference(sgc), credit(now(online))) is reason


def test_allowed_classes_of_the_record(online: ModuleSession) -> None:
    key = reference("600006")
    assert refused(online, key, credit(now(online))) is Reason.OK
    assert refused(online, key, credit(now(online), subclass=1)) is Reason.CLASS_NOT_ALLOWED
    assert refused(online, key, credit(now(online), token_class=2, subclass=0)) is Reason.OK
    assert refused(online, key, credit(now(online), token_class=2, subclass=1)) is Reason.CLASS_NOT_ALLOWED


def test_common_key_is_for_cards_and_settled_meters(online: ModuleSession) -> None:
    key = reference("600008")
    assert refused(online, key, credit(now(online), ea=7)) is Reason.COMMON_KEY_CARRIER
    assert refused(online, key, credit(now(online), ea=7, tct=1)) is Reason.OK
    other = credit(now(online), ea=7, tct=1, pan="000001000000000082")
    assert refused(online, key, other) is Reason.COMMON_KEY_UNSETTLED


def test_default_key_takes_management(online: ModuleSession) -> None:
    assert refused(online, reference("600002"), credit(now(online), token_class=2, subclass=0)) is Reason.OK


@pytest.mark.parametrize(
    ("offset", "reason"),
    [
        (-9, Reason.OK),
        (-14, Reason.TID_OUT_OF_WINDOW),
        (58, Reason.OK),
        (65, Reason.TID_OUT_OF_WINDOW),
        (100_000, Reason.TID_OUT_OF_WINDOW),
    ],
)
def test_identifier_window(online: ModuleSession, offset: int, reason: Reason) -> None:
    assert refused(online, GOOD, credit(skip_reserved(now(online) + offset))) is reason


def test_reserved_identifier_only_when_asked(online: ModuleSession) -> None:
    today = now(online) // 1440 * 1440 + 1
    assert refused(online, GOOD, credit(today)) is Reason.TID_RESERVED
    assert refused(online, GOOD, credit(today, reserved=True)) is Reason.OK
    assert refused(online, GOOD, credit(today + 1, reserved=True)) is Reason.TID_RESERVED
    assert refused(online, GOOD, credit(today - 40 * 1440, reserved=True)) is Reason.TID_OUT_OF_WINDOW


def test_base_date_is_the_record_s(online: ModuleSession) -> None:
    # The key of base date 2035 has no identifiers yet: whatever is asked is far from the clock.
    assert refused(online, reference("600009"), credit(now(online))) is Reason.TID_OUT_OF_WINDOW


def test_foreign_supply_group_cannot_be_named(online: ModuleSession) -> None:
    with pytest.raises(VendingKeyUnknown):
        issue(online, reference("999999"), credit(now(online)))


def test_validation_makes_no_token(online: ModuleSession) -> None:
    before = online.status()
    (answer,) = issue(online, GOOD, credit(now(online), validate_only=True))
    assert (answer.reason, answer.digits, answer.granted) == (Reason.OK, "", 256)
    assert online.status().issued == before.issued
    (test,) = issue(online, None, IssueItem(token_class=1, subclass=0, value=1 << 16, validate_only=True))
    assert (test.reason, test.digits) == (Reason.OK, "")
    item = credit(now(online), ea=9, validate_only=True)
    assert refused(online, GOOD, item) is Reason.EA09_WITHDRAWN


def test_batch_gives_each_item_its_own_reason(online: ModuleSession) -> None:
    tid = now(online)
    answers = issue(online, GOOD, credit(tid), credit(tid, value=0), credit(tid, ea=9), credit(tid, ea=7))
    reasons = [answer.reason for answer in answers]
    assert reasons == [Reason.OK, Reason.AMOUNT_ZERO, Reason.EA09_WITHDRAWN, Reason.OK]
    assert [bool(answer.digits) for answer in answers] == [True, False, False, True]


def change_item(**changes: Any) -> KeyChangeItem:
    fields: dict[str, Any] = {
        "ea": 11,
        "set_size": 4,
        "tct": 2,
        "pan": PAN,
        "old_tariff_index": "01",
        "new_tariff_index": "02",
        "new_supply_group_code": "201457",
        "new_key_revision_number": 1,
    }
    return KeyChangeItem(**(fields | changes))


CHANGES: list[tuple[KeyReference, dict[str, Any], Reason]] = [
    (GOOD, {}, Reason.OK),
    (GOOD, {"new_supply_group_code": "600002"}, Reason.OK),
    (reference("600002"), {}, Reason.OK),
    (reference("600003"), {}, Reason.OK),  # an expired old key may be changed away from
    (reference("600005"), {}, Reason.OK),
    (reference("600007"), {"ea": 7, "set_size": 2}, Reason.OK),
    (reference("600007"), {"ea": 7, "set_size": 3}, Reason.OK),
    (reference("600004"), {}, Reason.KEY_NOT_ACTIVE),
    (GOOD, {"new_supply_group_code": "600003"}, Reason.KEY_EXPIRED),
    (GOOD, {"new_supply_group_code": "600004"}, Reason.KEY_NOT_ACTIVE),
    (GOOD, {"new_supply_group_code": "600005"}, Reason.KEY_ISSUE_PERIOD_OVER),
    (GOOD, {"new_supply_group_code": "600006"}, Reason.CLASS_NOT_ALLOWED),
    (GOOD, {"new_supply_group_code": "999999"}, Reason.NEW_KEY_UNKNOWN),
    (GOOD, {"new_supply_group_code": "600007"}, Reason.EA_DKGA_MISMATCH),
    (GOOD, {"new_supply_group_code": "600009"}, Reason.TID_INVALID),
    (GOOD, {"ea": 7, "set_size": 2, "tct": 1, "new_supply_group_code": "600008"}, Reason.KEY_TYPE_TRANSITION),
    (reference("600008"), {"ea": 7, "set_size": 2, "tct": 1}, Reason.KEY_TYPE_TRANSITION),
    (
        reference("600008"),
        {"ea": 7, "set_size": 2, "tct": 1, "new_supply_group_code": "600010", "new_key_revision_number": 2},
        Reason.OK,
    ),
    (GOOD, {"set_size": 2}, Reason.KEY_CHANGE_SET_INVALID),
    (GOOD, {"ea": 7, "set_size": 4}, Reason.KEY_CHANGE_SET_INVALID),
    (GOOD, {"ea": 7, "set_size": 0}, Reason.KEY_CHANGE_SET_INVALID),
    (GOOD, {"pan": "600727000000000000"}, Reason.PAN_CHECK_DIGIT),
    (GOOD, {"new_tariff_index": "x1"}, Reason.TARIFF_INDEX_INVALID),
    (GOOD, {"clock_minutes": 5}, Reason.CLOCK_NOT_SETTABLE),
]


@pytest.mark.parametrize(("old", "changes", "reason"), CHANGES)
def test_key_change(online: ModuleSession, old: KeyReference, changes: dict[str, Any], reason: Reason) -> None:
    (answer,) = change(online, old, change_item(**changes))
    assert answer.reason is reason
    assert len(answer.tokens) == (change_item(**changes).set_size if reason is Reason.OK else 0)
    (validated,) = change(online, old, change_item(**changes, validate_only=True))
    assert (validated.reason, validated.tokens) == (reason, ())


VERIFICATIONS: list[tuple[dict[str, Any], Reason]] = [
    ({"digits": "7378697629483820646x"}, Reason.TOKEN_NUMBER_FORMAT),
    ({"digits": "73786976294838206464"}, Reason.TOKEN_NUMBER_RANGE),
    ({"digits": "99999999999999999999"}, Reason.TOKEN_NUMBER_RANGE),
    ({"digits": "00000000000402653184"}, Reason.TOKEN_CLASS_RESERVED),
    ({"digits": "00000000000000000000"}, Reason.CRC_MISMATCH),
    ({"digits": "00000000000150997584"}, Reason.REQUEST_MALFORMED),  # class 1 is verified without a key
    ({"ea": 9}, Reason.EA09_WITHDRAWN),
    ({"pan": "600727000000000000"}, Reason.PAN_CHECK_DIGIT),
    ({"tariff_index": "02"}, Reason.CRC_MISMATCH),
]


@pytest.mark.parametrize(("changes", "reason"), VERIFICATIONS)
def test_verification(online: ModuleSession, changes: dict[str, Any], reason: Reason) -> None:
    (issued,) = issue(online, GOOD, credit(now(online)))
    fields: dict[str, Any] = {"digits": issued.digits, "ea": 11, "tct": 2, "tariff_index": "01", "pan": PAN}
    (good,) = verify(online, GOOD, VerifyItem(**fields))
    assert (good.reason, good.value) == (Reason.OK, 256)
    (found,) = verify(online, GOOD, VerifyItem(**(fields | changes)))
    assert found.reason is reason
    assert (found.value, found.token_identifier) == (0, 0)


MALFORMED = [
    b"",
    b"\1",
    pack_request(Operation.ISSUE),  # no item
    pack_request(Operation.VERIFY, [VerifyItem(digits="0" * 20)]),  # another operation
    pack_request(Operation.ISSUE, [credit(2)])[:-1],
    pack_request(Operation.ISSUE, [credit(2)]) + b"\0",
    b"\2" + pack_request(Operation.ISSUE, [credit(2)])[1:],  # another version
    b"\1\1\xff\xff\0\0\0\0" + b"\0" * 64,  # a count that is not there
]


@pytest.mark.parametrize("request_octets", MALFORMED)
def test_malformed_request(online: ModuleSession, request_octets: bytes) -> None:
    with pytest.raises(ModuleFault, match=r"DataInvalid|ArgumentsBad"):
        online.operate(Operation.ISSUE, request_octets, GOOD)
    # The session is in order afterwards.
    assert refused(online, GOOD, credit(now(online))) is Reason.OK


def test_ceremony_mode_issues_nothing(lab: Lab) -> None:
    lab.configure("ceremony")
    with lab.session() as session:
        with pytest.raises(ModuleFault, match="MechanismInvalid"):
            issue(session, GOOD, credit(1000))
        with pytest.raises(ModuleFault, match="MechanismInvalid"):
            change(session, GOOD, change_item())


def test_online_mode_loads_nothing(online: ModuleSession) -> None:
    with pytest.raises(ModuleFault, match="MechanismInvalid"):
        online.operate(Operation.LOAD_KEY, pack_request(Operation.LOAD_KEY, [key_item("700000")]))


def test_certification_mode_takes_public_keys_only(lab: Lab) -> None:
    lab.configure("certification")
    with lab.session() as session:
        names = {str(key.reference) for key in session.keys}
        assert names == {"201457/1", "203557/6", "123457/1", "123456/1", "888888/1"}
        assert session.status().keys_refused == 10
        assert refused(session, reference("201457"), credit(2)) is Reason.CLOCK_MISSING
