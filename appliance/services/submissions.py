"""From a request of an issuing call to a submission."""

from __future__ import annotations

from keywatt.vending.v1 import vending_pb2

from appliance.errors import FieldMissing
from appliance.issuing.orders import Order, Submission
from appliance.ledger.records import Method
from appliance.services import answers, from_proto, request_ids

IssueRequest = (
    vending_pb2.IssueCreditTokenRequest
    | vending_pb2.IssueManagementTokenRequest
    | vending_pb2.IssueMeterTestTokenRequest
    | vending_pb2.IssueKeyChangeTokensRequest
)


def submission(request: IssueRequest, client: str, deadline: float | None) -> Submission:
    """Read a request; raises StsError or ApplianceError."""
    compose: answers.Composer
    order: Order
    request_id = request_ids.parse(request.request_id)
    match request:
        case vending_pb2.IssueCreditTokenRequest():
            method, order, compose = Method.CREDIT, from_proto.credit_order(request), answers.credit
        case vending_pb2.IssueManagementTokenRequest():
            method, order, compose = Method.MANAGEMENT, from_proto.management_order(request), answers.management
        case vending_pb2.IssueMeterTestTokenRequest():
            order = from_proto.meter_test_order(request)
            method, compose = Method.METER_TEST, answers.meter_test(order)
        case vending_pb2.IssueKeyChangeTokensRequest():
            method, order, compose = Method.KEY_CHANGE, from_proto.key_change_order(request), answers.key_change
    return Submission(
        client=client,
        request_id=request_id,
        fingerprint=request_ids.fingerprint(method, request),
        method=method,
        order=order,
        compose=compose,
        deadline=deadline,
    )


def inner_request(request: vending_pb2.TokenRequest) -> IssueRequest:
    """Return the request inside one of a batch; raises FieldMissing."""
    match request.WhichOneof("request"):
        case "credit":
            return request.credit
        case "management":
            return request.management
        case "meter_test":
            return request.meter_test
        case "key_change":
            return request.key_change
        case _:
            raise FieldMissing("the request is empty", field="request")
