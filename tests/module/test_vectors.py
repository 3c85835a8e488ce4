"""Every official vector through the functionality module in C, over PKCS#11."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from hsm.reasons import Reason
from hsm.requests import IssueItem, KeyChangeItem, Mark, VerifyItem
from hsm.session import ModuleSession
from tests.support import vectors
from tests.support.lab import change, issue, minutes, reference, verify


def clock(vector: dict[str, Any]) -> int:
    return minutes(datetime.fromisoformat(vector["issue_time"]))


@pytest.mark.parametrize("vector", [v for v in vectors.of_kind("token") if v["ea"]], ids=vectors.name)
def test_token(certification: ModuleSession, vector: dict[str, Any]) -> None:
    key = vector["key_context"]
    is_currency = vector["class"] == 0 and vector["subclass"] >= 4
    item = IssueItem(
        token_class=vector["class"],
        subclass=vector["subclass"],
        value=vectors.module_value(vector),
        ea=vector["ea"],
        tct=2,
        random_number=0 if is_currency else vector["rnd"],
        tariff_index=key["ti"],
        pan=key["pan"],
        token_identifier=vector["tid"],
        clock_minutes=clock(vector),
    )
    name = reference(key["sgc"], key["krn"])
    (issued,) = issue(certification, name, item)
    assert issued.reason is Reason.OK
    assert issued.digits == vector["token"]
    assert Mark.CERTIFICATION in issued.marks
    assert Mark.TEST_KEY in issued.marks
    (verified,) = verify(
        certification,
        name,
        VerifyItem(digits=issued.digits, ea=vector["ea"], tct=2, tariff_index=key["ti"], pan=key["pan"]),
    )
    assert (verified.reason, verified.token_identifier, verified.value) == (Reason.OK, vector["tid"], issued.granted)


@pytest.mark.parametrize("vector", [v for v in vectors.of_kind("token") if not v["ea"]], ids=vectors.name)
def test_meter_test_token(certification: ModuleSession, vector: dict[str, Any]) -> None:
    value = int(vector["control"], 16) << 16 | vector["mfr_field"]
    item = IssueItem(token_class=1, subclass=vector["subclass"], value=value, clock_minutes=1)
    (issued,) = issue(certification, None, item)
    assert (issued.reason, issued.digits) == (Reason.OK, vector["token"])
    (verified,) = verify(certification, None, VerifyItem(digits=vector["token"]))
    assert (verified.reason, verified.token_class, verified.value) == (Reason.OK, 1, value)


@pytest.mark.parametrize("vector", vectors.of_kind("kct"), ids=vectors.name)
def test_key_change_set(certification: ModuleSession, vector: dict[str, Any]) -> None:
    old, new = vector["old_context"], vector["new_context"]
    item = KeyChangeItem(
        ea=vector["ea"],
        set_size=vector["set_size"],
        tct=2,
        pan=old["pan"],
        old_tariff_index=old["ti"],
        new_tariff_index=new["ti"],
        new_supply_group_code=new["sgc"],
        new_key_revision_number=new["krn"],
        clock_minutes=minutes(datetime(2024, 1, 1)),
    )
    name = reference(old["sgc"], old["krn"])
    (changed,) = change(certification, name, item)
    assert changed.reason is Reason.OK
    assert list(changed.tokens) == vector["tokens"]
    assert (changed.key_expiry_number, changed.rollover) == (vector["ken"], bool(vector["ro"]))
    for digits in changed.tokens:
        question = VerifyItem(digits=digits, ea=vector["ea"], tct=2, tariff_index=old["ti"], pan=old["pan"])
        (verified,) = verify(certification, name, question)
        assert verified.is_key_change
        assert (verified.value, verified.token_identifier, verified.random_number) == (0, 0, 0)


# A credit of zero is refused by its own reason, see test_rules.
@pytest.mark.parametrize("vector", [v for v in vectors.of_kind("amount") if v["units"]], ids=vectors.name)
def test_amount(online: ModuleSession, vector: dict[str, Any]) -> None:
    from sts.amount import Amount16
    from tests.support.lab import credit

    now = online.status().clock_minutes - minutes(datetime(2014, 1, 1))
    (issued,) = issue(online, reference("201457"), credit(now + (now % 1440 == 1), value=vector["units"]))
    assert issued.granted == Amount16(field=int(vector["field"], 16)).units
