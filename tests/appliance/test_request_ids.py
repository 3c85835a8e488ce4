"""Request ids, batches, streams and lists over the real API, on the real module."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import grpc
import pytest
from keywatt.type.v1 import meter_pb2
from keywatt.vending.v1 import vending_pb2, vending_pb2_grpc

from appliance.client import request_ids
from appliance.client.client import ClientError, KeywattClient
from sts import luhn
from sts.identifiers import MeterPAN
from tests.appliance.test_bad_input import credit
from tests.support import oracle
from tests.support.load import Sale
from tests.support.system import System

# Meters of this module's own: one takes only so many tokens within the look-ahead.
METERS = [number + luhn.check_digit(number) for number in (f"77{serial:08d}" for serial in range(5))]


def sale(meter: str = METERS[0], **changes: object) -> vending_pb2.IssueCreditTokenRequest:
    request = credit()
    request.meter.meter_pan = meter
    request.request_id = request_ids.new()
    for name, value in changes.items():
        setattr(request, name, value)
    return request


def batch(*requests: vending_pb2.IssueCreditTokenRequest) -> list[vending_pb2.TokenRequest]:
    return [vending_pb2.TokenRequest(credit=request) for request in requests]


@pytest.fixture
def raw(online_system: System) -> Iterator[grpc.Channel]:
    profile = online_system.profile
    credentials = grpc.ssl_channel_credentials(
        profile.server_ca.read_bytes(), profile.private_key.read_bytes(), profile.certificate.read_bytes()
    )
    with grpc.secure_channel(profile.address, credentials) as channel:
        yield channel


def test_new_ids_are_uuids_of_version_7_in_order() -> None:
    ids = [request_ids.new() for _ in range(100)]
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in ids} == {(7, uuid.RFC_4122)}
    assert [one[:13] for one in ids] == sorted(one[:13] for one in ids)
    assert len(set(ids)) == 100


def test_the_answer_is_the_same_octet_for_octet(raw: grpc.Channel) -> None:
    method = raw.unary_unary(
        "/keywatt.vending.v1.VendingService/IssueCreditToken",
        request_serializer=vending_pb2.IssueCreditTokenRequest.SerializeToString,
        response_deserializer=None,
    )
    request = sale()
    first = method(request, timeout=10)
    assert {method(request, timeout=10) for _ in range(5)} == {first}
    # However the id is spelt, it is the same one; the body is not, and says so.
    request.request_id = request.request_id.upper()
    with pytest.raises(grpc.RpcError) as refusal:
        method(request, timeout=10)
    assert refusal.value.code() is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "FIELD_MISSING"),
        ("1", "FIELD_INVALID"),
        ("00000000-0000-0000-0000-000000000000", "FIELD_INVALID"),
        ("01976c4e7a1070008000" + "3f2a9c5d1b7e", "FIELD_INVALID"),
        ("01976c4e-7a10-7000-8000-3f2a9c5d1b7é", "FIELD_INVALID"),
        ("{01976c4e-7a10-7000-8000-3f2a9c5d1b7e}", "FIELD_INVALID"),
    ],
)
def test_a_request_without_a_good_id_is_refused(raw: grpc.Channel, text: str, reason: str) -> None:
    stub = vending_pb2_grpc.VendingServiceStub(raw)
    for call in (
        lambda: stub.IssueCreditToken(sale(request_id=text), timeout=10),
        lambda: stub.GetIssuance(vending_pb2.GetIssuanceRequest(request_id=text), timeout=10),
    ):
        with pytest.raises(grpc.RpcError) as refusal:
            call()
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason.encode() in dict(refusal.value.trailing_metadata())["grpc-status-details-bin"]


def test_another_request_under_the_same_id_is_refused(client: KeywattClient) -> None:
    first = sale()
    client.call(client.vending.IssueCreditToken, first)
    for other in (sale(amount="1"), sale(METERS[1])):
        other.request_id = first.request_id
        with pytest.raises(ClientError) as refusal:
            client.call(client.vending.IssueCreditToken, other)
        assert refusal.value.reason == "REQUEST_ID_REUSED"
        assert refusal.value.code is grpc.StatusCode.ALREADY_EXISTS
    test = vending_pb2.IssueMeterTestTokenRequest(test=1, request_id=first.request_id)
    with pytest.raises(ClientError, match="another request"):
        client.call(client.vending.IssueMeterTestToken, test)


def test_every_issuing_call_is_found_again(client: KeywattClient) -> None:
    meter = sale(METERS[1]).meter
    vending = client.vending
    management = vending_pb2.IssueManagementTokenRequest(meter=meter, maximum_power_limit=5000)
    meter_test = vending_pb2.IssueMeterTestTokenRequest(test=0)
    target = meter_pb2.KeyAssignment(
        supply_group_code=meter.supply_group_code, key_revision_number=meter.key_revision_number, tariff_index="02"
    )
    change = vending_pb2.IssueKeyChangeTokensRequest(meter=meter, target=target)
    for name, method, request, values in (
        ("credit", vending.IssueCreditToken, sale(METERS[1]), ["25.6"]),
        ("management", vending.IssueManagementToken, management, ["5000"]),
        ("meter_test", vending.IssueMeterTestToken, meter_test, [""]),
        ("key_change", vending.IssueKeyChangeTokens, change, [""] * 4),
    ):
        request.request_id = request_ids.new()
        response = client.call(method, request)
        found = client.call(vending.GetIssuance, vending_pb2.GetIssuanceRequest(request_id=request.request_id))
        assert found.WhichOneof("answer") == name
        assert getattr(found, name) == response
        assert found.issuance.request_id == request.request_id
        assert [token.effective_value for token in found.issuance.tokens] == values
        assert client.call(method, request) == response
    with pytest.raises(ClientError) as refusal:
        client.call(vending.GetIssuance, vending_pb2.GetIssuanceRequest(request_id=request_ids.new()))
    assert refusal.value.reason == "ISSUANCE_UNKNOWN"
    assert refusal.value.code is grpc.StatusCode.NOT_FOUND


def test_a_batch_answers_each_request_as_the_single_call_would(client: KeywattClient) -> None:
    good, again, wrong, refused = sale(METERS[2]), sale(METERS[2]), sale(METERS[2], amount=""), sale("12345678901")
    requests = [*batch(good, again, good, wrong, refused), vending_pb2.TokenRequest()]
    response = client.call(client.vending.BatchIssueTokens, vending_pb2.BatchIssueTokensRequest(requests=requests))
    results = response.results
    assert [result.index for result in results] == list(range(6))
    assert [result.WhichOneof("result") for result in results] == ["credit"] * 3 + ["error"] * 3
    assert results[0].credit == results[2].credit == client.call(client.vending.IssueCreditToken, good)
    assert results[0].credit.token.digits != results[1].credit.token.digits
    assert [result.request_id for result in results[:5]] == [r.request_id for r in (good, again, good, wrong, refused)]
    assert results[3].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert b"FIELD_MISSING" in results[3].error.details[0].value
    assert b"DRN_CHECK_DIGIT" in results[4].error.details[0].value
    for result in results[:2]:
        oracle.check(Sale(pan=MeterPAN.parse(METERS[2]).digits, sgc="600001", ea=11, digits=result.credit.token.digits))


@pytest.mark.parametrize("size", [0, 1001])
def test_a_batch_has_1_to_1000_requests(client: KeywattClient, size: int) -> None:
    request = vending_pb2.BatchIssueTokensRequest(requests=batch(sale()) * size)
    with pytest.raises(ClientError) as refusal:
        client.call(client.vending.BatchIssueTokens, request)
    assert refusal.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_batch_of_1000_repeats_itself(client: KeywattClient) -> None:
    meters = [f"{number:010d}" for number in range(5_000_000_000, 5_000_000_000 + 1000)]
    requests = vending_pb2.BatchIssueTokensRequest(
        requests=batch(*(sale(meter + luhn.check_digit(meter)) for meter in meters))
    )
    first = client.call(client.vending.BatchIssueTokens, requests)
    assert {result.WhichOneof("result") for result in first.results} == {"credit"}
    assert client.call(client.vending.BatchIssueTokens, requests) == first


def test_a_stream_answers_everything_and_counts_on(client: KeywattClient) -> None:
    messages = [
        vending_pb2.StreamIssueTokensRequest(requests=batch(*(sale(meter) for meter in METERS))) for _ in range(3)
    ]
    messages.insert(1, vending_pb2.StreamIssueTokensRequest())
    results = {
        result.index: result
        for response in client.vending.StreamIssueTokens(iter(messages), timeout=20)
        for result in response.results
    }
    assert sorted(results) == list(range(15))
    wanted = [request.credit.request_id for message in messages for request in message.requests]
    assert [results[index].request_id for index in range(15)] == wanted
    assert len({result.credit.token.digits for result in results.values()}) == 15
    # Cut off and sent again, it gives the same tokens.
    again = {
        result.index: result
        for response in client.vending.StreamIssueTokens(iter(messages), timeout=20)
        for result in response.results
    }
    assert again == results


def test_a_stream_that_sends_too_much_at_once_is_ended(client: KeywattClient) -> None:
    message = vending_pb2.StreamIssueTokensRequest(requests=batch(sale()) * 1001)
    with pytest.raises(grpc.RpcError) as refusal:
        list(client.vending.StreamIssueTokens(iter([message]), timeout=20))
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_lists_filter_and_page(client: KeywattClient) -> None:
    made, first, second = [], "55555555550", "66666666665"
    for number in range(7):
        request = sale((first, second)[number % 2])
        client.call(client.vending.IssueCreditToken, request)
        made.append(request.request_id)

    def pages(**filters: object) -> list[list[str]]:
        request, found = vending_pb2.ListIssuancesRequest(**filters), []  # type: ignore[arg-type]
        while True:
            response = client.call(client.vending.ListIssuances, request)
            found.append([issuance.request_id for issuance in response.issuances])
            request.page_token = response.next_page_token
            if not request.page_token:
                return found

    assert pages(meter_pan=first, page_size=2) == [made[0:4:2], made[4:7:2]]
    assert pages(meter_pan=second) == [made[1::2]]
    assert pages(meter_pan=second, supply_group_code="999999", key_revision_number=1) == [[]]
    start = client.call(client.vending.GetIssuance, vending_pb2.GetIssuanceRequest(request_id=made[2]))
    late = {"start_time": start.issuance.create_time}
    assert pages(meter_pan=first, **late) == [made[2::2]]
    assert pages(meter_pan=first, start_time={"seconds": 253_402_300_799}) == [[]]
    assert pages(meter_pan=first, end_time=start.issuance.create_time) == [made[0:2:2]]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"page_size": 1001}, "FIELD_INVALID"),
        ({"page_token": "nonsense"}, "PAGE_TOKEN_INVALID"),
        ({"page_token": "AAAAAAAAAAAAAAAAAAAAAA=="}, "PAGE_TOKEN_INVALID"),
        ({"meter_pan": "1"}, "PAN_INVALID"),
        ({"supply_group_code": "201457"}, "FIELD_INVALID"),
        ({"supply_group_code": "1", "key_revision_number": 1}, "SGC_INVALID"),
        ({"start_time": {"seconds": -1}}, "FIELD_INVALID"),
        ({"end_time": {"seconds": 1 << 60}}, "FIELD_INVALID"),
    ],
)
def test_bad_lists_are_refused(client: KeywattClient, fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ClientError) as refusal:
        client.call(client.vending.ListIssuances, vending_pb2.ListIssuancesRequest(**fields))  # type: ignore[arg-type]
    assert refusal.value.reason == reason


def test_a_page_token_goes_with_its_filters(client: KeywattClient) -> None:
    for _ in range(2):
        client.call(client.vending.IssueCreditToken, sale(METERS[0]))
    request = vending_pb2.ListIssuancesRequest(meter_pan=METERS[0], page_size=1)
    token = client.call(client.vending.ListIssuances, request).next_page_token
    assert token
    with pytest.raises(ClientError) as refusal:
        client.call(
            client.vending.ListIssuances, vending_pb2.ListIssuancesRequest(meter_pan=METERS[1], page_token=token)
        )
    assert refusal.value.reason == "PAGE_TOKEN_INVALID"
