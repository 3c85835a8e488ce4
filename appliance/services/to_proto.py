"""From deliveries to protobuf."""

from __future__ import annotations

import functools

from keywatt.type.v1 import meter_pb2, token_pb2

from appliance.issuing.orders import DeliveredToken, Origin
from appliance.issuing.quantities import Unit
from hsm.keys import VendingKey
from hsm.requests import Mark
from sts.token_identifier import BaseDate, TokenIdentifier

_UNITS = {
    Unit.KILOWATT_HOUR: token_pb2.UNIT_KILOWATT_HOUR,
    Unit.CUBIC_METRE: token_pb2.UNIT_CUBIC_METRE,
    Unit.MINUTE: token_pb2.UNIT_MINUTE,
    Unit.CURRENCY: token_pb2.UNIT_CURRENCY,
    Unit.WATT: token_pb2.UNIT_WATT,
    Unit.NUMBER: token_pb2.UNIT_NUMBER,
}


def unit(value: Unit) -> token_pb2.Unit.ValueType:
    """Name a unit."""
    return _UNITS[value]


def token(delivered: DeliveredToken) -> token_pb2.Token:
    """Show a token; one that was only validated has no digits."""
    message = token_pb2.Token()
    fill_token(message, delivered)
    return message


def fill_token(message: token_pb2.Token, delivered: DeliveredToken) -> None:
    """Show a token inside another message."""
    digits, identifier = delivered.digits, delivered.identifier
    if digits:
        message.digits = digits
        message.grouped = f"{digits[:4]} {digits[4:8]} {digits[8:12]} {digits[12:16]} {digits[16:]}"
    message.token_class = delivered.token_class
    message.subclass = delivered.subclass
    if delivered.log_index is not None:
        message.log_index = delivered.log_index
    if identifier is not None:
        message.token_identifier = identifier.minutes
        message.token_time = _time(identifier.base_date, identifier.minutes)


# Nearly all tokens of a minute carry that minute.
@functools.lru_cache(maxsize=256)
def _time(base_date: BaseDate, minutes: int) -> str:
    return TokenIdentifier(minutes=minutes, base_date=base_date).local_time.isoformat(timespec="minutes")


def vending_key(key: VendingKey) -> meter_pb2.VendingKeyReference:
    """Show a vending key by name and attributes."""
    return meter_pb2.VendingKeyReference(
        supply_group_code=key.reference.supply_group_code.digits,
        key_revision_number=key.reference.key_revision_number.number,
        key_type=meter_pb2.KeyType.ValueType(key.key_type),
        base_date=meter_pb2.BaseDate.ValueType(key.base_date),
        key_expiry_number=key.key_expiry_number.number,
        decoder_key_generation_algorithm=key.dkga,
        check_value=key.check_value.hex().upper(),
        check_value_algorithm=key.check_value_algorithm.label,
        test_key=key.is_test_key,
    )


# Told apart by identity: the tokens of one key share theirs.
@functools.lru_cache(maxsize=256)
def provenance(origin: Origin) -> token_pb2.Provenance:
    """Show where and with what tokens were made."""
    return token_pb2.Provenance(
        key=vending_key(origin.key) if origin.key is not None else None,
        module_id=origin.module_id,
        certification=Mark.CERTIFICATION in origin.marks,
        sample_tables=Mark.SAMPLE_TABLES in origin.marks,
    )
