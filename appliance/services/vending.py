"""keywatt.vending.v1.VendingService."""

from __future__ import annotations

from typing import Any

from keywatt.vending.v1 import vending_pb2, vending_pb2_grpc

from appliance.errors import FieldMissing
from appliance.issuing.issuer import Issuer
from appliance.issuing.quantities import to_decimal
from appliance.services import from_proto, to_proto
from sts.token_number import TokenNumber


class VendingService(vending_pb2_grpc.VendingServiceServicer):
    """Converts, and lets the issuer work. Errors are raised as they are; an interceptor maps them."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    async def IssueCreditToken(
        self, request: vending_pb2.IssueCreditTokenRequest, context: Any
    ) -> vending_pb2.IssueCreditTokenResponse:
        """Issue a credit token."""
        delivery = await self._issuer.issue_credit(from_proto.credit_order(request))
        return vending_pb2.IssueCreditTokenResponse(
            token=to_proto.token(delivery.token),
            effective_amount=to_decimal(delivery.granted, delivery.unit),
            unit=to_proto.unit(delivery.unit),
            provenance=to_proto.provenance(delivery.origin),
            key_change_tokens=[to_proto.token(token) for token in delivery.key_change_tokens],
        )

    async def IssueManagementToken(
        self, request: vending_pb2.IssueManagementTokenRequest, context: Any
    ) -> vending_pb2.IssueManagementTokenResponse:
        """Issue a management token."""
        delivery = await self._issuer.issue_management(from_proto.management_order(request))
        return vending_pb2.IssueManagementTokenResponse(
            token=to_proto.token(delivery.token),
            effective_value=to_decimal(delivery.granted, delivery.unit),
            unit=to_proto.unit(delivery.unit),
            provenance=to_proto.provenance(delivery.origin),
        )

    async def IssueMeterTestToken(
        self, request: vending_pb2.IssueMeterTestTokenRequest, context: Any
    ) -> vending_pb2.IssueMeterTestTokenResponse:
        """Issue a meter test token."""
        order = from_proto.meter_test_order(request)
        delivery = await self._issuer.issue_meter_test(order)
        return vending_pb2.IssueMeterTestTokenResponse(
            token=to_proto.token(delivery.token),
            control=order.control,
            provenance=to_proto.provenance(delivery.origin),
        )

    async def IssueKeyChangeTokens(
        self, request: vending_pb2.IssueKeyChangeTokensRequest, context: Any
    ) -> vending_pb2.IssueKeyChangeTokensResponse:
        """Make a key-change set."""
        delivery = await self._issuer.issue_key_change(from_proto.key_change_order(request))
        return vending_pb2.IssueKeyChangeTokensResponse(
            tokens=[to_proto.token(token) for token in delivery.tokens],
            provenance=to_proto.provenance(delivery.origin),
            new_key=to_proto.vending_key(delivery.new_key),
            rollover=delivery.rollover,
        )

    async def VerifyToken(
        self, request: vending_pb2.VerifyTokenRequest, context: Any
    ) -> vending_pb2.VerifyTokenResponse:
        """Verify a token."""
        if not request.token:
            raise FieldMissing("token is missing", field="token")
        number = TokenNumber.parse(request.token)
        if number.token_class in {0, 2} and not request.HasField("meter"):
            raise FieldMissing("a token of class 0 or 2 is verified for a meter: meter is missing", field="meter")
        meter = from_proto.meter(request.meter) if request.HasField("meter") else None
        found = await self._issuer.verify(number, meter)
        if not found.genuine or found.origin is None:
            return vending_pb2.VerifyTokenResponse(result=vending_pb2.VERIFICATION_RESULT_CRC_ERROR)
        response = vending_pb2.VerifyTokenResponse(
            result=vending_pb2.VERIFICATION_RESULT_GENUINE,
            key_change=found.key_change,
            key_expired=found.key_expired,
            provenance=to_proto.provenance(found.origin),
        )
        response.token.token_class, response.token.subclass = found.token_class, found.subclass
        if found.identifier is not None:
            response.token.token_identifier = found.identifier.minutes
            response.token.token_time = found.identifier.local_time.isoformat(timespec="minutes")
        if found.random_number is not None:
            response.random_number = found.random_number
        if found.token_class == 1:
            response.control, response.manufacturer_code = found.value >> 16, found.value & 0xFFFF
        elif not found.key_change:
            response.effective_amount = to_decimal(found.value, found.unit)
            response.unit = to_proto.unit(found.unit)
        return response
