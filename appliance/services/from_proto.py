"""From protobuf to orders: every field is checked here or by the type that it becomes."""

from __future__ import annotations

import functools
import re
from datetime import datetime

from keywatt.type.v1 import meter_pb2, token_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.errors import FieldInvalid, FieldMissing
from appliance.issuing.meter import KeyAssignment, Meter
from appliance.issuing.orders import NOW, CreditOrder, KeyChangeOrder, ManagementOrder, MeterTestOrder, Timing
from appliance.issuing.quantities import to_units, unit_of
from hsm.keys import KeyReference
from sts import errors as sts_errors
from sts.amount import AMOUNT16_MAX_UNITS
from sts.credit import CreditSubClass
from sts.fields import require_bits
from sts.identifiers import (
    EncryptionAlgorithm,
    KeyExpiryNumber,
    KeyRevisionNumber,
    KeyType,
    MeterPAN,
    SupplyGroupCode,
    TariffIndex,
    TokenCarrierType,
)
from sts.management import ClearCreditRegister, ManagementSubClass
from sts.meter_test import InitiateMeterTest
from sts.token_identifier import BaseDate

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _moment(text: str, shape: re.Pattern[str], field: str, form: str) -> datetime:
    refusal = FieldInvalid(f"{field} has the form {form}", field=field)
    if shape.fullmatch(text) is None:
        raise refusal
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise refusal from None


def reference(sgc: str, krn: int) -> KeyReference:
    """Read the name of a vending key; raises StsError."""
    return KeyReference(
        supply_group_code=SupplyGroupCode(digits=sgc), key_revision_number=KeyRevisionNumber(number=krn)
    )


# Looking a member up by its value costs more than the rest of reading a field; what is refused is not kept.
_encryption_algorithm = functools.cache(EncryptionAlgorithm.from_number)
_token_carrier_type = functools.cache(TokenCarrierType.from_number)
_credit_subclass = functools.cache(CreditSubClass.from_number)


# Few groups, many meters: what is valid once is valid again.
@functools.lru_cache(maxsize=1024)
def _assignment(sgc: str, krn: int, ti: str) -> KeyAssignment:
    return KeyAssignment(reference=reference(sgc, krn), tariff_index=TariffIndex(digits=ti))


def assignment(message: meter_pb2.KeyAssignment) -> KeyAssignment:
    """Read an assignment; raises StsError."""
    return _assignment(message.supply_group_code, message.key_revision_number, message.tariff_index)


def meter(message: meter_pb2.MeterConfiguration) -> Meter:
    """Read a meter; raises StsError, or FieldMissing for an algorithm that is not given."""
    if message.encryption_algorithm == meter_pb2.ENCRYPTION_ALGORITHM_UNSPECIFIED:
        raise FieldMissing("meter.encryption_algorithm is missing", field="meter.encryption_algorithm")
    ken = KeyExpiryNumber(number=message.key_expiry_number) if message.HasField("key_expiry_number") else None
    return Meter(
        pan=MeterPAN.parse(message.meter_pan),
        holds=_assignment(message.supply_group_code, message.key_revision_number, message.tariff_index),
        ea=_encryption_algorithm(message.encryption_algorithm),
        carrier=_token_carrier_type(message.token_carrier_type or TokenCarrierType.NUMERIC),
        key_type=KeyType.from_number(message.key_type) if message.key_type else None,
        base_date=BaseDate.from_number(message.base_date) if message.base_date else None,
        key_expiry_number=ken,
    )


def _issue_time(has_context: bool, context: token_pb2.CertificationContext) -> datetime | None:
    if not has_context:
        return None
    return _moment(context.issue_time, _TIME, "certification.issue_time", "2014-03-01T13:00")


def _timing(
    request: vending_pb2.IssueCreditTokenRequest | vending_pb2.IssueManagementTokenRequest,
) -> Timing:
    date = request.reserved_identifier_date
    if not date and not request.validate_only and not request.HasField("certification"):
        return NOW
    return Timing(
        reserved_date=_moment(date, _DATE, "reserved_identifier_date", "2026-12-01") if date else None,
        issue_time=_issue_time(request.HasField("certification"), request.certification),
        validate_only=request.validate_only,
    )


def credit_order(request: vending_pb2.IssueCreditTokenRequest) -> CreditOrder:
    """Read a credit request; raises StsError or ApplianceError."""
    if not request.HasField("meter"):
        raise FieldMissing("meter is missing", field="meter")
    if request.credit_type == vending_pb2.CREDIT_TYPE_UNSPECIFIED:
        raise FieldMissing("credit_type is missing", field="credit_type")
    if not request.amount:
        raise FieldMissing("amount is missing", field="amount")
    subclass = _credit_subclass(request.credit_type - 1)
    round_up = request.rounding == vending_pb2.ROUNDING_UP
    units = to_units(request.amount, unit_of(0, subclass), round_up=round_up)
    if units == 0:
        raise sts_errors.AmountZero("a credit of zero")
    if units < 0 and not subclass.is_currency:
        raise sts_errors.AmountNegative("only currency credit may be negative")
    if units > AMOUNT16_MAX_UNITS and not subclass.is_currency:
        raise sts_errors.AmountTooLarge(f"at most {AMOUNT16_MAX_UNITS / 10} fit into one token")
    return CreditOrder(
        meter=meter(request.meter),
        assignment=assignment(request.assignment) if request.HasField("assignment") else None,
        subclass=subclass,
        units=units,
        timing=_timing(request),
    )


def _command(  # noqa: C901 - one case for each command of the message
    request: vending_pb2.IssueManagementTokenRequest,
) -> tuple[int, int]:
    match request.WhichOneof("command"):
        case "maximum_power_limit":
            return ManagementSubClass.SET_MAXIMUM_POWER_LIMIT, _watts(request.maximum_power_limit)
        case "clear_credit":
            return ManagementSubClass.CLEAR_CREDIT, _register(request.clear_credit)
        case "tariff_rate":
            return ManagementSubClass.SET_TARIFF_RATE, _sixteen_bits("tariff_rate", request.tariff_rate)
        case "clear_tamper":
            return ManagementSubClass.CLEAR_TAMPER_CONDITION, 0
        case "maximum_phase_power_unbalance_limit":
            subclass = ManagementSubClass.SET_MAXIMUM_PHASE_POWER_UNBALANCE_LIMIT
            return subclass, _watts(request.maximum_phase_power_unbalance_limit)
        case "water_meter_factor":
            return ManagementSubClass.SET_WATER_METER_FACTOR, _sixteen_bits(
                "water_meter_factor", request.water_meter_factor
            )
        case "extended_set":
            if request.extended_set.index > 63 or request.extended_set.data > 1023:
                raise sts_errors.FieldOutOfRange("extended_set: index is 0 to 63, data 0 to 1023")
            value = request.extended_set.index << 10 | request.extended_set.data
            return ManagementSubClass.EXTENDED_SET, value
        case "proprietary":
            if not 11 <= request.proprietary.subclass <= 15:
                raise sts_errors.ReservedSubClass("proprietary management is subclass 11 to 15")
            return request.proprietary.subclass, _sixteen_bits("proprietary.data", request.proprietary.data)
        case _:
            raise FieldMissing("command is missing", field="command")


def _watts(limit: int) -> int:
    if limit > AMOUNT16_MAX_UNITS:
        raise sts_errors.AmountTooLarge(f"a power limit is at most {AMOUNT16_MAX_UNITS} W")
    return limit


def _sixteen_bits(name: str, value: int) -> int:
    require_bits(name, value, 16)
    return value


def _register(register: vending_pb2.CreditRegister.ValueType) -> int:
    if register == vending_pb2.CREDIT_REGISTER_UNSPECIFIED:
        raise FieldMissing("clear_credit names no register", field="clear_credit")
    if register == vending_pb2.CREDIT_REGISTER_ALL:
        return ClearCreditRegister.ALL
    return ClearCreditRegister.from_number(register - 1)


def management_order(request: vending_pb2.IssueManagementTokenRequest) -> ManagementOrder:
    """Read a management request; raises StsError or ApplianceError."""
    if not request.HasField("meter"):
        raise FieldMissing("meter is missing", field="meter")
    subclass, value = _command(request)
    return ManagementOrder(
        meter=meter(request.meter),
        assignment=assignment(request.assignment) if request.HasField("assignment") else None,
        subclass=subclass,
        value=value,
        timing=_timing(request),
    )


def meter_test_order(request: vending_pb2.IssueMeterTestTokenRequest) -> MeterTestOrder:
    """Read a meter-test request; raises StsError or ApplianceError."""
    match request.WhichOneof("selection"):
        case "test":
            token = InitiateMeterTest.for_test(
                request.test, subclass=request.subclass, manufacturer_code=request.manufacturer_code
            )
        case "control":
            token = InitiateMeterTest(
                subclass=request.subclass, control=request.control, manufacturer_code=request.manufacturer_code
            )
        case "extended_read_index":
            if request.subclass != 2 or request.manufacturer_code:
                raise FieldInvalid("an extended read has subclass 2 and no manufacturer code", field="subclass")
            token = InitiateMeterTest.extended_read(request.extended_read_index)
        case _:
            raise FieldMissing("selection is missing", field="selection")
    return MeterTestOrder(
        subclass=token.subclass,
        control=token.control,
        manufacturer_code=token.manufacturer_code,
        validate_only=request.validate_only,
    )


def key_change_order(request: vending_pb2.IssueKeyChangeTokensRequest) -> KeyChangeOrder:
    """Read a key-change request; raises StsError or ApplianceError."""
    for name in ("meter", "target"):
        if not request.HasField(name):
            raise FieldMissing(f"{name} is missing", field=name)
    if request.set_size not in (0, 2, 3, 4):
        raise sts_errors.KeyChangeSetInvalid("a key-change set has two, three or four tokens")
    return KeyChangeOrder(
        meter=meter(request.meter),
        target=assignment(request.target),
        set_size=request.set_size,
        issue_time=_issue_time(request.HasField("certification"), request.certification),
        validate_only=request.validate_only,
    )
