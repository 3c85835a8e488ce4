"""Every official vector through the gRPC API in certification mode, given as a laboratory gives it: the time, naive."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from keywatt.certification.v1 import certification_pb2
from keywatt.type.v1 import meter_pb2, token_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client.client import ClientError, KeywattClient
from tests.support import vectors

KEYED = [v for v in vectors.of_kind("token") if v["ea"]]


def meter(fields: dict[str, Any], ea: int) -> meter_pb2.MeterConfiguration:
    return meter_pb2.MeterConfiguration(
        meter_pan=fields["pan"],
        supply_group_code=fields["sgc"],
        key_revision_number=fields["krn"],
        tariff_index=fields["ti"],
        encryption_algorithm=meter_pb2.EncryptionAlgorithm.ValueType(ea),
    )


def at(time: str) -> token_pb2.CertificationContext:
    return token_pb2.CertificationContext(issue_time=time.replace(" ", "T"))


def amount(vector: dict[str, Any]) -> str:
    if "currency_amount" in vector:
        return str(vector["currency_amount"])
    return str(Decimal(vector["amount_units"]) / 10)


@pytest.mark.parametrize("vector", [v for v in KEYED if v["class"] == 0], ids=vectors.name)
def test_credit(certification_client: KeywattClient, vector: dict[str, Any]) -> None:
    client = certification_client
    request = vending_pb2.IssueCreditTokenRequest(
        meter=meter(vector["key_context"], vector["ea"]),
        credit_type=vending_pb2.CreditType.ValueType(vector["subclass"] + 1),
        amount=amount(vector),
        certification=at(vector["issue_time"]),
    )
    response = client.call(client.vending.IssueCreditToken, request)
    assert response.token.digits == vector["token"]
    assert response.token.token_identifier == vector["tid"]
    assert Decimal(response.effective_amount) >= Decimal(amount(vector))
    assert response.provenance.certification
    assert response.provenance.key.test_key
    question = vending_pb2.VerifyTokenRequest(meter=request.meter, token=response.token.grouped)
    found = client.call(client.vending.VerifyToken, question)
    assert found.result == vending_pb2.VERIFICATION_RESULT_GENUINE
    assert (found.effective_amount, found.unit) == (response.effective_amount, response.unit)
    assert found.token.digits == ""
    is_currency = vector["subclass"] >= 4
    assert found.HasField("random_number") != is_currency
    assert found.random_number == (0 if is_currency else 5)


REGISTERS = {0: 1, 1: 2, 2: 3, 0xFFFF: 9}


@pytest.mark.parametrize("vector", [v for v in KEYED if v["class"] == 2], ids=vectors.name)
def test_management(certification_client: KeywattClient, vector: dict[str, Any]) -> None:
    client = certification_client
    request = vending_pb2.IssueManagementTokenRequest(
        meter=meter(vector["key_context"], vector["ea"]), certification=at(vector["issue_time"])
    )
    if vector["subclass"] == 0:
        request.maximum_power_limit = vector["amount_units"]
    else:
        request.clear_credit = vending_pb2.CreditRegister.ValueType(REGISTERS[vector["raw_value"]])
    response = client.call(client.vending.IssueManagementToken, request)
    assert response.token.digits == vector["token"]


@pytest.mark.parametrize("vector", [v for v in vectors.of_kind("token") if not v["ea"]], ids=vectors.name)
def test_meter_test(certification_client: KeywattClient, vector: dict[str, Any]) -> None:
    client = certification_client
    request = vending_pb2.IssueMeterTestTokenRequest(subclass=vector["subclass"], control=int(vector["control"], 16))
    assert client.call(client.vending.IssueMeterTestToken, request).token.digits == vector["token"]
    found = client.call(client.vending.VerifyToken, vending_pb2.VerifyTokenRequest(token=vector["token"]))
    assert found.result == vending_pb2.VERIFICATION_RESULT_GENUINE
    assert (found.control, found.manufacturer_code) == (int(vector["control"], 16), vector["mfr_field"])
    assert (found.effective_amount, found.HasField("random_number")) == ("", False)


@pytest.mark.parametrize("vector", vectors.of_kind("kct"), ids=vectors.name)
def test_key_change(certification_client: KeywattClient, vector: dict[str, Any]) -> None:
    client = certification_client
    new = vector["new_context"]
    request = vending_pb2.IssueKeyChangeTokensRequest(
        meter=meter(vector["old_context"], vector["ea"]),
        target=meter_pb2.KeyAssignment(
            supply_group_code=new["sgc"], key_revision_number=new["krn"], tariff_index=new["ti"]
        ),
        certification=at("2024-03-28 09:00"),
    )
    response = client.call(client.vending.IssueKeyChangeTokens, request)
    assert [token.digits for token in response.tokens] == vector["tokens"]
    assert response.rollover == bool(vector["ro"])
    for token in response.tokens:
        question = vending_pb2.VerifyTokenRequest(meter=request.meter, token=token.digits)
        found = client.call(client.vending.VerifyToken, question)
        assert found.key_change
        assert (found.effective_amount, found.token.token_time) == ("", "")


def test_key_change_needs_no_time_and_rolls_over(certification_client: KeywattClient) -> None:
    client = certification_client
    vector = vectors.of_kind("kct")[0]
    groups = [("123457", 1), ("201457", 1), ("203557", 6)]
    for position, (sgc, krn) in enumerate(groups):
        for new_position, (new_sgc, new_krn) in enumerate(groups):
            old = meter(vector["old_context"] | {"sgc": sgc, "krn": krn}, 11)
            target = meter_pb2.KeyAssignment(supply_group_code=new_sgc, key_revision_number=new_krn, tariff_index="02")
            request = vending_pb2.IssueKeyChangeTokensRequest(meter=old, target=target)
            response = client.call(client.vending.IssueKeyChangeTokens, request)
            assert len(response.tokens) == 4
            assert response.rollover == (new_position > position)


def test_second_token_of_a_minute_takes_the_next_identifier_until_reset(certification_client: KeywattClient) -> None:
    client = certification_client
    vector = KEYED[0]
    request = vending_pb2.IssueCreditTokenRequest(
        meter=meter(vector["key_context"], vector["ea"]),
        credit_type=vending_pb2.CREDIT_TYPE_ELECTRICITY,
        amount="0.1",
        certification=at(vector["issue_time"]),
    )
    issued = [client.call(client.vending.IssueCreditToken, request).token.token_identifier for _ in range(3)]
    assert issued == [vector["tid"], vector["tid"] + 1, vector["tid"] + 2]
    reset = client.call(client.certification.ResetTokenIdentifiers, certification_pb2.ResetTokenIdentifiersRequest())
    assert reset.meters == 1
    assert client.call(client.vending.IssueCreditToken, request).token.digits == vector["token"]


def test_one_minute_past_midnight_is_skipped(certification_client: KeywattClient) -> None:
    client = certification_client
    request = vending_pb2.IssueCreditTokenRequest(
        meter=meter(KEYED[0]["key_context"], 11),
        credit_type=vending_pb2.CREDIT_TYPE_ELECTRICITY,
        amount="1",
        certification=at("2014-03-01 00:01"),
    )
    token = client.call(client.vending.IssueCreditToken, request).token
    assert token.token_time == "2014-03-01T00:02"
    request.reserved_identifier_date = "2014-03-01"
    token = client.call(client.vending.IssueCreditToken, request).token
    assert token.token_time == "2014-03-01T00:01"
    with pytest.raises(ClientError) as refusal:
        client.call(client.vending.IssueCreditToken, request)
    assert refusal.value.reason == "IDENTIFIER_USED"


def test_time_is_needed_here_and_refused_elsewhere(certification_client: KeywattClient, client: KeywattClient) -> None:
    request = vending_pb2.IssueCreditTokenRequest(
        meter=meter(KEYED[0]["key_context"], 11), credit_type=vending_pb2.CREDIT_TYPE_ELECTRICITY, amount="1"
    )
    with pytest.raises(ClientError) as refusal:
        certification_client.call(certification_client.vending.IssueCreditToken, request)
    assert refusal.value.reason == "CLOCK_MISSING"
    request.certification.CopyFrom(at("2014-03-01 13:00"))
    with pytest.raises(ClientError) as refusal:
        client.call(client.vending.IssueCreditToken, request)
    assert refusal.value.reason == "CLOCK_NOT_SETTABLE"
