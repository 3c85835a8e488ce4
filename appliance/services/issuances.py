"""From the ledger's records to protobuf, and page tokens."""

from __future__ import annotations

import base64
import hashlib
import struct

from keywatt.type.v1 import meter_pb2, token_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.errors import FieldInvalid, PageTokenInvalid
from appliance.issuing.quantities import to_decimal, unit_of
from appliance.ledger.records import Filter, Issuance, Method, TokenEntry
from appliance.services import from_proto, request_ids, to_proto
from sts.identifiers import MeterPAN
from sts.management import KEY_CHANGE_SUBCLASSES

_PAGE_DEFAULT = 100
_PAGE_MAX = 1000
_PAGE_TOKEN = struct.Struct(">q8s")
_YEAR_MAX = 253_402_300_799  # 9999-12-31, the end of protobuf's time


def issuance(found: Issuance) -> vending_pb2.Issuance:
    """Show an issuance."""
    message = vending_pb2.Issuance(
        request_id=request_ids.show(found.request_id), tokens=[_token(token) for token in found.tokens]
    )
    message.create_time.FromDatetime(found.created)
    return message


def _token(entry: TokenEntry) -> vending_pb2.IssuedToken:
    message = vending_pb2.IssuedToken(token_class=entry.token_class, subclass=entry.subclass)
    if entry.meter is not None:
        message.meter_pan = f"{entry.meter:018d}"
    if entry.supply_group_code is not None and entry.key_revision_number is not None:
        message.supply_group_code = f"{entry.supply_group_code:06d}"
        message.key_revision_number = entry.key_revision_number
    if entry.base_date is not None and entry.identifier is not None:
        message.base_date = meter_pb2.BaseDate.ValueType(entry.base_date)
        message.token_identifier = entry.identifier
    if entry.token_class == 0 or (entry.token_class == 2 and entry.subclass not in KEY_CHANGE_SUBCLASSES):
        unit = unit_of(entry.token_class, entry.subclass)
        message.effective_value = to_decimal(entry.value, unit)
        message.unit = to_proto.unit(unit)
    else:
        message.unit = token_pb2.UNIT_UNSPECIFIED
    return message


def with_answer(found: Issuance) -> vending_pb2.GetIssuanceResponse:
    """Show an issuance with its answer."""
    response = vending_pb2.GetIssuanceResponse(issuance=issuance(found))
    match found.method:
        case Method.CREDIT:
            response.credit.MergeFromString(found.answer)
        case Method.MANAGEMENT:
            response.management.MergeFromString(found.answer)
        case Method.METER_TEST:
            response.meter_test.MergeFromString(found.answer)
        case Method.KEY_CHANGE:
            response.key_change.MergeFromString(found.answer)
    return response


def _digest(request: vending_pb2.ListIssuancesRequest) -> bytes:
    """Return what binds a page token to its filters."""
    bare = vending_pb2.ListIssuancesRequest()
    bare.CopyFrom(request)
    bare.page_token, bare.page_size = "", 0
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).digest()[:8]


def read_filter(request: vending_pb2.ListIssuancesRequest, client: str) -> tuple[Filter, int]:
    """Return filter and page size; raises StsError or ApplianceError."""
    if request.page_size > _PAGE_MAX:
        raise FieldInvalid(f"page_size is at most {_PAGE_MAX}", field="page_size")
    if bool(request.supply_group_code) != bool(request.key_revision_number):
        raise FieldInvalid("supply_group_code and key_revision_number go together", field="key_revision_number")
    vending_key = None
    if request.supply_group_code:
        reference = from_proto.reference(request.supply_group_code, request.key_revision_number)
        vending_key = (int(reference.supply_group_code.digits), int(reference.key_revision_number))
    wanted = Filter(
        client=client,
        meter=int(MeterPAN.parse(request.meter_pan).digits) if request.meter_pan else None,
        vending_key=vending_key,
        since=_milliseconds(request, "start_time"),
        until=_milliseconds(request, "end_time"),
        after=_after(request),
    )
    return wanted, request.page_size or _PAGE_DEFAULT


def _milliseconds(request: vending_pb2.ListIssuancesRequest, field: str) -> int | None:
    if not request.HasField(field):  # type: ignore[arg-type]  # one of two literals
        return None
    moment = getattr(request, field)
    if not 0 <= moment.seconds <= _YEAR_MAX or not 0 <= moment.nanos < 1_000_000_000:
        raise FieldInvalid(f"{field} is an instant from 1970 on", field=field)
    return int(moment.seconds * 1000 + -(-moment.nanos // 1_000_000))


def _after(request: vending_pb2.ListIssuancesRequest) -> int | None:
    if not request.page_token:
        return None
    refusal = PageTokenInvalid("the page token is none of this service, or of a list with other filters")
    try:
        row, digest = _PAGE_TOKEN.unpack(base64.urlsafe_b64decode(request.page_token))
    except (ValueError, struct.error):
        raise refusal from None
    if digest != _digest(request):
        raise refusal
    return int(row)


def page_token(request: vending_pb2.ListIssuancesRequest, last: Issuance) -> str:
    """Return the token of the page after ``last``."""
    return base64.urlsafe_b64encode(_PAGE_TOKEN.pack(last.row, _digest(request))).decode()
