"""Bad input gets its own reason code and changes nothing."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from keywatt.keys.v1 import keys_pb2
from keywatt.type.v1 import meter_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client.client import ClientError, KeywattClient
from tests.support.system import System

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
NOT_FOUND = grpc.StatusCode.NOT_FOUND


def meter(**changes: Any) -> meter_pb2.MeterConfiguration:
    fields: dict[str, Any] = {
        "meter_pan": "600727000000000009",
        "supply_group_code": "600001",
        "key_revision_number": 1,
        "tariff_index": "01",
        "encryption_algorithm": 11,
    }
    return meter_pb2.MeterConfiguration(**(fields | changes))


def credit(**changes: Any) -> vending_pb2.IssueCreditTokenRequest:
    fields: dict[str, Any] = {"meter": meter(), "credit_type": 1, "amount": "25.6"}
    return vending_pb2.IssueCreditTokenRequest(**(fields | changes))


def counters(client: KeywattClient) -> tuple[int, int]:
    status = client.call(client.keys.GetModuleStatus, keys_pb2.GetModuleStatusRequest())
    return status.issued, status.key_changes


def refusal(client: KeywattClient, method: Any, request: Any) -> ClientError:
    before = counters(client)
    with pytest.raises(ClientError) as refused:
        client.call(method, request)
    assert counters(client) == before
    error = refused.value
    assert error.hint
    assert not error.retryable or error.code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
    return error


CREDIT = [
    ({"meter": meter(meter_pan="12345678904")}, "DRN_CHECK_DIGIT", INVALID),
    ({"meter": meter(meter_pan="11111111113")}, "DRN_CHECK_DIGIT", INVALID),
    ({"meter": meter(meter_pan="600727000000000000")}, "PAN_CHECK_DIGIT", INVALID),
    ({"meter": meter(meter_pan="60072700000000000")}, "PAN_INVALID", INVALID),
    ({"meter": meter(meter_pan="123456000000000009")}, "IIN_INVALID", INVALID),
    ({"meter": meter(meter_pan="٦٠٠٧٢٧٠٠٠٠٠٠٠٠٠٠٠٩")}, "PAN_INVALID", INVALID),
    ({"meter": meter(meter_pan="")}, "PAN_INVALID", INVALID),
    ({"meter": meter(supply_group_code="60001")}, "SGC_INVALID", INVALID),
    ({"meter": meter(supply_group_code="999999")}, "VENDING_KEY_UNKNOWN", NOT_FOUND),
    ({"meter": meter(key_revision_number=0)}, "KEY_REVISION_INVALID", INVALID),
    ({"meter": meter(key_revision_number=2)}, "VENDING_KEY_UNKNOWN", NOT_FOUND),
    ({"meter": meter(tariff_index="1")}, "TARIFF_INDEX_INVALID", INVALID),
    ({"meter": meter(encryption_algorithm=0)}, "FIELD_MISSING", INVALID),
    ({"meter": meter(encryption_algorithm=9)}, "EA09_WITHDRAWN", INVALID),
    ({"meter": meter(encryption_algorithm=10)}, "EA_UNKNOWN", INVALID),
    ({"meter": meter(token_carrier_type=8)}, "TCT_INVALID", INVALID),
    ({"meter": meter(key_expiry_number=256)}, "KEY_EXPIRY_INVALID", INVALID),
    ({"meter": meter(key_type=5)}, "KEY_TYPE_INVALID", INVALID),
    ({"meter": meter(base_date=20)}, "BASE_DATE_INVALID", INVALID),
    ({"meter": None}, "FIELD_MISSING", INVALID),
    ({"credit_type": 0}, "FIELD_MISSING", INVALID),
    ({"credit_type": 9}, "SUBCLASS_RESERVED", INVALID),
    ({"amount": ""}, "FIELD_MISSING", INVALID),
    ({"amount": "0"}, "AMOUNT_ZERO", INVALID),
    ({"amount": "0.00", "credit_type": 5}, "AMOUNT_ZERO", INVALID),
    ({"amount": "-1"}, "AMOUNT_NEGATIVE", INVALID),
    ({"amount": "1820162.5"}, "AMOUNT_TOO_LARGE", INVALID),
    ({"amount": "9" * 40, "credit_type": 5}, "AMOUNT_TOO_LARGE", INVALID),
    ({"amount": "0.05"}, "AMOUNT_TOO_FINE", INVALID),
    ({"amount": "0.000001", "credit_type": 5}, "AMOUNT_TOO_FINE", INVALID),
    ({"amount": "1e5"}, "AMOUNT_INVALID", INVALID),
    ({"amount": "NaN"}, "AMOUNT_INVALID", INVALID),
    ({"amount": "1,5"}, "AMOUNT_INVALID", INVALID),
    ({"amount": "١"}, "AMOUNT_INVALID", INVALID),
    ({"amount": " 1"}, "AMOUNT_INVALID", INVALID),
    ({"reserved_identifier_date": "tomorrow"}, "FIELD_INVALID", INVALID),
    ({"reserved_identifier_date": "2026-02-30"}, "FIELD_INVALID", INVALID),
    ({"reserved_identifier_date": "2015-01-01"}, "TID_OUT_OF_WINDOW", PRECONDITION),
    ({"reserved_identifier_date": "2013-12-31"}, "TIME_OUT_OF_RANGE", INVALID),
    ({"meter": meter(supply_group_code="600002")}, "CREDIT_UNDER_DEFAULT_KEY", PRECONDITION),
    ({"meter": meter(supply_group_code="600003")}, "KEY_EXPIRED", PRECONDITION),
    ({"meter": meter(supply_group_code="600004")}, "KEY_NOT_ACTIVE", PRECONDITION),
    ({"meter": meter(supply_group_code="600005")}, "KEY_ISSUE_PERIOD_OVER", PRECONDITION),
    ({"meter": meter(supply_group_code="600006"), "credit_type": 2}, "CLASS_NOT_ALLOWED", PRECONDITION),
    ({"meter": meter(supply_group_code="600007")}, "EA_DKGA_MISMATCH", INVALID),
    ({"meter": meter(supply_group_code="600008", encryption_algorithm=7)}, "COMMON_KEY_CARRIER", PRECONDITION),
    ({"meter": meter(supply_group_code="600009")}, "TIME_OUT_OF_RANGE", INVALID),
    ({"assignment": meter_pb2.KeyAssignment(supply_group_code="600001")}, "KEY_REVISION_INVALID", INVALID),
]


@pytest.mark.parametrize(("changes", "reason", "code"), CREDIT)
def test_credit(client: KeywattClient, changes: dict[str, Any], reason: str, code: grpc.StatusCode) -> None:
    error = refusal(client, client.vending.IssueCreditToken, credit(**changes))
    assert (error.reason, error.code) == (reason, code), str(error)


def management(**command: Any) -> vending_pb2.IssueManagementTokenRequest:
    return vending_pb2.IssueManagementTokenRequest(**({"meter": meter()} | command))


MANAGEMENT = [
    (management(), "FIELD_MISSING"),
    (management(meter=None, tariff_rate=1), "FIELD_MISSING"),
    (management(clear_credit=0), "FIELD_MISSING"),
    (management(clear_credit=10), "FIELD_OUT_OF_RANGE"),
    (management(maximum_power_limit=18_201_625), "AMOUNT_TOO_LARGE"),
    (management(maximum_power_limit=2**64 - 1), "AMOUNT_TOO_LARGE"),
    (management(tariff_rate=65536), "FIELD_OUT_OF_RANGE"),
    (management(water_meter_factor=65536), "FIELD_OUT_OF_RANGE"),
    (management(extended_set=vending_pb2.ExtendedSet(index=64)), "FIELD_OUT_OF_RANGE"),
    (management(extended_set=vending_pb2.ExtendedSet(data=1024)), "FIELD_OUT_OF_RANGE"),
    (management(proprietary=vending_pb2.Proprietary(subclass=10)), "SUBCLASS_RESERVED"),
    (management(proprietary=vending_pb2.Proprietary(subclass=16)), "SUBCLASS_RESERVED"),
    (management(proprietary=vending_pb2.Proprietary(subclass=11, data=65536)), "FIELD_OUT_OF_RANGE"),
]


@pytest.mark.parametrize(("request_message", "reason"), MANAGEMENT)
def test_management(client: KeywattClient, request_message: Any, reason: str) -> None:
    assert refusal(client, client.vending.IssueManagementToken, request_message).reason == reason


METER_TEST: list[tuple[dict[str, Any], str]] = [
    ({}, "FIELD_MISSING"),
    ({"subclass": 3, "test": 1}, "SUBCLASS_RESERVED"),
    ({"subclass": 16, "test": 1}, "FIELD_OUT_OF_RANGE"),
    ({"test": 37}, "FIELD_OUT_OF_RANGE"),
    ({"subclass": 1, "test": 29}, "FIELD_OUT_OF_RANGE"),
    ({"control": 1 << 36}, "FIELD_OUT_OF_RANGE"),
    ({"test": 1, "manufacturer_code": 256}, "FIELD_OUT_OF_RANGE"),
    ({"subclass": 2, "extended_read_index": 64}, "FIELD_OUT_OF_RANGE"),
    ({"subclass": 0, "extended_read_index": 1}, "FIELD_INVALID"),
]


@pytest.mark.parametrize(("fields", "reason"), METER_TEST)
def test_meter_test(client: KeywattClient, fields: dict[str, Any], reason: str) -> None:
    request = vending_pb2.IssueMeterTestTokenRequest(**fields)
    assert refusal(client, client.vending.IssueMeterTestToken, request).reason == reason


def key_change(**changes: Any) -> vending_pb2.IssueKeyChangeTokensRequest:
    target = meter_pb2.KeyAssignment(supply_group_code="600001", key_revision_number=1, tariff_index="02")
    return vending_pb2.IssueKeyChangeTokensRequest(**({"meter": meter(), "target": target} | changes))


def to(sgc: str) -> meter_pb2.KeyAssignment:
    return meter_pb2.KeyAssignment(supply_group_code=sgc, key_revision_number=1, tariff_index="02")


KEY_CHANGE: list[tuple[dict[str, Any], str]] = [
    ({"meter": None}, "FIELD_MISSING"),
    ({"target": None}, "FIELD_MISSING"),
    ({"set_size": 5}, "KEY_CHANGE_SET_INVALID"),
    ({"set_size": 2}, "KEY_CHANGE_SET_INVALID"),
    ({"target": to("999999")}, "VENDING_KEY_UNKNOWN"),
    ({"target": to("600003")}, "KEY_EXPIRED"),
    ({"target": to("600006")}, "CLASS_NOT_ALLOWED"),
    ({"target": to("600007")}, "EA_DKGA_MISMATCH"),
    ({"target": to("600008"), "meter": meter(encryption_algorithm=7, token_carrier_type=1)}, "KEY_TYPE_TRANSITION"),
]


@pytest.mark.parametrize(("changes", "reason"), KEY_CHANGE)
def test_key_change(client: KeywattClient, changes: dict[str, Any], reason: str) -> None:
    assert refusal(client, client.vending.IssueKeyChangeTokens, key_change(**changes)).reason == reason


VERIFY: list[tuple[str, Any, str]] = [
    ("", meter(), "FIELD_MISSING"),
    ("5862578998699135748", meter(), "TOKEN_NUMBER_FORMAT"),
    ("586257899869913574866", meter(), "TOKEN_NUMBER_FORMAT"),
    ("5862578998699135748x", meter(), "TOKEN_NUMBER_FORMAT"),
    ("5862 5789 9869 91357486", meter(), "TOKEN_NUMBER_FORMAT"),
    ("73786976294838206464", meter(), "TOKEN_NUMBER_RANGE"),
    ("99999999999999999999", meter(), "TOKEN_NUMBER_RANGE"),
    ("00000000000402653184", meter(), "TOKEN_CLASS_RESERVED"),
    ("58625789986991357486", None, "FIELD_MISSING"),
    ("58625789986991357486", meter(supply_group_code="999999"), "VENDING_KEY_UNKNOWN"),
]


@pytest.mark.parametrize(("token", "configuration", "reason"), VERIFY)
def test_verify(client: KeywattClient, token: str, configuration: Any, reason: str) -> None:
    request = vending_pb2.VerifyTokenRequest(token=token, meter=configuration)
    assert refusal(client, client.vending.VerifyToken, request).reason == reason


def test_a_token_for_another_meter_is_an_answer_not_an_error(client: KeywattClient) -> None:
    request = vending_pb2.VerifyTokenRequest(token="5862 5789 9869 9135 7486", meter=meter())
    response = client.call(client.vending.VerifyToken, request)
    assert response.result == vending_pb2.VERIFICATION_RESULT_CRC_ERROR
    assert not response.HasField("token")
    assert not response.HasField("provenance")


CHANGED: list[tuple[dict[str, Any], str]] = [
    ({"assignment": to("600001")}, "tariff_index"),
    ({"assignment": to("600006")}, "supply_group_code, tariff_index"),
    ({"meter": meter(key_expiry_number=0)}, "key_expiry_number"),
]


@pytest.mark.parametrize(("changes", "fields"), CHANGED)
def test_key_change_required(client: KeywattClient, changes: dict[str, Any], fields: str) -> None:
    error = refusal(client, client.vending.IssueCreditToken, credit(**changes))
    assert (error.reason, error.code) == ("KEY_CHANGE_REQUIRED", PRECONDITION)
    assert error.details == {"fields": fields}


@pytest.mark.parametrize("stated", ["key_type", "base_date"])
def test_a_meter_cannot_hold_another_type_or_base_date_of_its_key(client: KeywattClient, stated: str) -> None:
    wrong = meter(**{stated: {"key_type": 1, "base_date": 93}[stated]})
    for method, request in (
        (client.vending.IssueCreditToken, credit(meter=wrong)),
        (client.vending.IssueManagementToken, management(meter=wrong, tariff_rate=1)),
        (client.vending.IssueKeyChangeTokens, key_change(meter=wrong)),
    ):
        error = refusal(client, method, request)
        assert (error.reason, error.details) == ("METER_KEY_MISMATCH", {"fields": stated})


def test_a_refusal_gives_its_identifier_back(client: KeywattClient) -> None:
    own = meter(meter_pan="11111111115")
    first = client.call(client.vending.IssueCreditToken, credit(meter=own)).token.token_identifier
    for _ in range(5):
        refusal(client, client.vending.IssueCreditToken, credit(meter=own, amount="0"))
    assert client.call(client.vending.IssueCreditToken, credit(meter=own)).token.token_identifier == first + 1


def test_look_ahead_is_bounded_and_says_when_to_retry(client: KeywattClient) -> None:
    own = meter(meter_pan="600727111111111153")
    with pytest.raises(ClientError) as refused:
        for _ in range(40):
            client.call(client.vending.IssueCreditToken, credit(meter=own))
    assert (refused.value.reason, refused.value.code) == (
        "IDENTIFIER_LOOK_AHEAD",
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )
    assert refused.value.retryable


def test_validate_only_issues_nothing_and_takes_no_identifier(client: KeywattClient) -> None:
    before = counters(client)
    response = client.call(client.vending.IssueCreditToken, credit(validate_only=True))
    assert (response.token.digits, response.token.grouped, response.effective_amount) == ("", "", "25.6")
    again = client.call(client.vending.IssueCreditToken, credit(validate_only=True))
    assert again.token.token_identifier == response.token.token_identifier
    changed = client.call(client.vending.IssueKeyChangeTokens, key_change(validate_only=True))
    assert not changed.tokens
    request = management(tariff_rate=7, validate_only=True)
    assert client.call(client.vending.IssueManagementToken, request).token.digits == ""
    test = vending_pb2.IssueMeterTestTokenRequest(test=1, validate_only=True)
    assert client.call(client.vending.IssueMeterTestToken, test).token.digits == ""
    assert counters(client) == before


def test_rounding_up_when_asked(client: KeywattClient) -> None:
    request = credit(amount="0.05", rounding=vending_pb2.ROUNDING_UP, meter=meter(meter_pan="000001000000000082"))
    assert client.call(client.vending.IssueCreditToken, request).effective_amount == "0.1"


def test_pages_of_keys(client: KeywattClient) -> None:
    names, token = [], ""
    while True:
        request = keys_pb2.ListVendingKeysRequest(page_size=4, page_token=token)
        page = client.call(client.keys.ListVendingKeys, request)
        names += [(k.reference.supply_group_code, k.reference.key_revision_number) for k in page.keys]
        token = page.next_page_token
        if not token:
            break
    assert len(names) == 15
    assert names == sorted(names)
    with pytest.raises(ClientError) as refused:
        client.call(client.keys.ListVendingKeys, keys_pb2.ListVendingKeysRequest(page_token="x"))
    assert refused.value.reason == "PAGE_TOKEN_INVALID"
    with pytest.raises(ClientError) as refused:
        client.call(client.keys.ListVendingKeys, keys_pb2.ListVendingKeysRequest(page_size=1001))
    assert refused.value.reason == "FIELD_INVALID"


def test_no_digits_in_any_log(client: KeywattClient, online_system: System) -> None:
    import re

    response = client.call(client.vending.IssueCreditToken, credit())
    with pytest.raises(ClientError):
        client.call(client.vending.VerifyToken, vending_pb2.VerifyTokenRequest(token="12345678901234567890123"))
    logs = online_system.log("appliance") + online_system.log("module")
    assert "IssueCreditToken" in logs
    assert response.token.digits not in logs
    assert not re.search(r"(?<![0-9.])\d{20}(?!\d)", logs)
    assert "600727000000000009" not in logs
