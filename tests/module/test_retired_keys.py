"""Retired keys issue nothing; meters are led away from them, never to them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from hsm.ceremony import Ceremony
from hsm.ceremony_requests import KeyNameItem
from hsm.officers import CeremonyKind, action_digest
from hsm.reasons import Reason
from hsm.requests import KeyChangeItem, Operation, VerifyItem
from hsm.session import ModuleSession
from tests.module.test_officers import Table, enrol, refusal
from tests.module.test_rules import now
from tests.support.lab import DEVELOPMENT_160, PAN, Lab, change, credit, issue, key_item, minutes, reference, verify
from tests.support.lab import refused as issue_refused
from tests.support.officers import ALICE, BOB, officers

KEY = reference("600001")
ITEM = KeyNameItem(supply_group_code="600001", key_revision_number=1)


def change_to(sgc: str, old_ti: str = "01") -> KeyChangeItem:
    return KeyChangeItem(
        ea=11,
        set_size=4,
        tct=2,
        pan=PAN,
        old_tariff_index=old_ti,
        new_tariff_index="01",
        new_supply_group_code=sgc,
        new_key_revision_number=1,
    )


def retire(lab: Lab) -> None:
    lab.configure("ceremony")
    with lab.session() as session:
        Ceremony(session).retire_key(ITEM)
    lab.configure("online")


def token_of(session: ModuleSession) -> str:
    (issued,) = issue(session, KEY, credit(now(session)))
    assert issued.reason is Reason.OK
    return issued.digits


def test_a_retired_key_verifies_and_is_left_and_does_nothing_else(lab: Lab) -> None:
    lab.load([key_item("600400", key=DEVELOPMENT_160)])
    with lab.session() as session:
        digits = token_of(session)
    retire(lab)
    with lab.session() as session:
        (key,) = [one for one in session.keys if one.reference == KEY]
        assert key.is_retired
        assert not any(one.is_retired for one in session.keys if one.reference != KEY)
        assert issue_refused(session, KEY, credit(now(session) + 1)) is Reason.KEY_RETIRED
        assert issue_refused(session, KEY, replace(credit(now(session) + 1), validate_only=True)) is Reason.KEY_RETIRED
        (found,) = verify(session, KEY, VerifyItem(digits=digits, ea=11, tct=2, tariff_index="01", pan=PAN))
        assert found.reason is Reason.OK
        (away,) = change(session, KEY, change_to("600400"))
        assert away.reason is Reason.OK
        (back,) = change(session, reference("600400"), change_to("600001"))
        assert back.reason is Reason.KEY_RETIRED


def test_a_key_is_retired_once_and_stays_so(lab: Lab) -> None:
    retire(lab)
    lab.configure("ceremony")
    with lab.session() as session:
        ceremony = Ceremony(session)
        assert refusal(ceremony.retire_key, ITEM) is Reason.KEY_RETIRED
        assert refusal(ceremony.retire_key, replace(ITEM, supply_group_code="999999")) is Reason.KEY_UNKNOWN
        ceremony.destroy_key(ITEM)
        ceremony.load_key(key_item("600001", key=DEVELOPMENT_160))
        assert next(one for one in session.keys if one.reference == KEY).is_retired
        ceremony.destroy_key(ITEM)
        # Another key under the name is another key.
        ceremony.load_key(key_item("600001", key=bytes(range(1, 21))))
        assert not next(one for one in session.keys if one.reference == KEY).is_retired


def test_retiring_is_approved_as_such(lab: Lab) -> None:
    lab.configure("ceremony")
    with lab.session() as session:
        ceremony = Ceremony(session)
        ceremony.make_audit_key()
        enrol(ceremony, officers(), ALICE, BOB)
        digest = action_digest(Operation.RETIRE_KEY, ITEM.pack())
        Table(ceremony, CeremonyKind.DESTROY_KEY, digest).approve(ALICE, BOB)
        assert refusal(ceremony.retire_key, ITEM) is Reason.ACTION_NOT_APPROVED
        table = Table(ceremony, CeremonyKind.RETIRE_KEY, digest)
        table.approve(ALICE)
        assert refusal(ceremony.retire_key, ITEM) is Reason.CEREMONY_NOT_APPROVED
        table.approve(BOB)
        ceremony.retire_key(ITEM)


def test_a_key_whose_time_of_refresh_has_come_waits_for_its_centre(lab: Lab) -> None:
    lab.load(
        [
            key_item("600401", key=DEVELOPMENT_160, refresh_until=minutes(datetime(2020, 1, 1))),
            key_item("600402", key=DEVELOPMENT_160, refresh_until=minutes(datetime(2040, 1, 1))),
        ]
    )
    with lab.session() as session:
        assert issue_refused(session, reference("600401"), credit(now(session))) is Reason.KEY_REFRESH_DUE
        assert issue_refused(session, reference("600402"), credit(now(session))) is Reason.OK
        (to,) = change(session, KEY, change_to("600401"))
        assert to.reason is Reason.KEY_REFRESH_DUE


@pytest.mark.parametrize(
    ("subclass", "value", "reason"),
    [
        (0, 1000, Reason.OK),
        (0, 1001, Reason.KEY_VALUE_LIMIT),
        (3, 1001, Reason.KEY_VALUE_LIMIT),
        (4, 2000, Reason.OK),
        (4, 2001, Reason.KEY_VALUE_LIMIT),
        (4, -5000, Reason.OK),
    ],
)
def test_one_token_grants_no_more_than_the_record_allows(lab: Lab, subclass: int, value: int, reason: Reason) -> None:
    lab.load([key_item("600403", key=DEVELOPMENT_160, unit_limit=1000, currency_limit=2000)])
    with lab.session() as session:
        item = credit(now(session), subclass=subclass, value=value, random_number=5 if subclass < 4 else 0)
        assert issue_refused(session, reference("600403"), item) is reason
        # Management tokens grant nothing.
        limit = credit(now(session), token_class=2, subclass=0, value=5000)
        assert issue_refused(session, reference("600403"), limit) is Reason.OK
