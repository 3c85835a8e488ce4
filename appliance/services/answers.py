"""Answers of issuing calls: from a delivery to the octets that are stored, given out, and given out again."""

from __future__ import annotations

import functools
from collections.abc import Callable

from keywatt.vending.v1 import vending_pb2

from appliance.issuing.orders import Delivery, KeyChangeDelivery, MeterTestOrder, Origin
from appliance.issuing.quantities import Unit, to_decimal
from appliance.services import to_proto

Composer = Callable[[Delivery | KeyChangeDelivery], bytes]


def _single(delivery: Delivery | KeyChangeDelivery) -> Delivery:
    if not isinstance(delivery, Delivery):
        raise TypeError("a key-change set answers no other order")
    return delivery


# All tokens of one key and unit share what does not tell them apart; copying it is cheaper than making it anew.
@functools.lru_cache(maxsize=256)
def _credit_frame(origin: Origin, unit: Unit) -> vending_pb2.IssueCreditTokenResponse:
    return vending_pb2.IssueCreditTokenResponse(unit=to_proto.unit(unit), provenance=to_proto.provenance(origin))


def credit(delivery: Delivery | KeyChangeDelivery) -> bytes:
    """Answer IssueCreditToken."""
    made = _single(delivery)
    response = vending_pb2.IssueCreditTokenResponse()
    response.CopyFrom(_credit_frame(made.origin, made.unit))
    response.effective_amount = to_decimal(made.granted, made.unit)
    to_proto.fill_token(response.token, made.token)
    for token in made.key_change_tokens:
        to_proto.fill_token(response.key_change_tokens.add(), token)
    return response.SerializeToString()


def management(delivery: Delivery | KeyChangeDelivery) -> bytes:
    """Answer IssueManagementToken."""
    made = _single(delivery)
    return vending_pb2.IssueManagementTokenResponse(
        token=to_proto.token(made.token),
        effective_value=to_decimal(made.granted, made.unit),
        unit=to_proto.unit(made.unit),
        provenance=to_proto.provenance(made.origin),
    ).SerializeToString()


def meter_test(order: MeterTestOrder) -> Composer:
    """Answer IssueMeterTestToken."""

    def compose(delivery: Delivery | KeyChangeDelivery) -> bytes:
        made = _single(delivery)
        return vending_pb2.IssueMeterTestTokenResponse(
            token=to_proto.token(made.token),
            control=order.control,
            provenance=to_proto.provenance(made.origin),
        ).SerializeToString()

    return compose


def key_change(delivery: Delivery | KeyChangeDelivery) -> bytes:
    """Answer IssueKeyChangeTokens."""
    if not isinstance(delivery, KeyChangeDelivery):
        raise TypeError("only a key-change set answers an order for one")
    return vending_pb2.IssueKeyChangeTokensResponse(
        tokens=[to_proto.token(token) for token in delivery.tokens],
        provenance=to_proto.provenance(delivery.origin),
        new_key=to_proto.vending_key(delivery.new_key),
        rollover=delivery.rollover,
    ).SerializeToString()
