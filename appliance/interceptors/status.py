"""The one mapping of errors to gRPC: every reason code has one status code."""

from __future__ import annotations

from datetime import timedelta

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from appliance.errors import ApplianceError
from hsm.errors import HsmError
from sts.errors import StsError

DOMAIN = "keywatt.dev"
RETRY_AFTER = timedelta(milliseconds=200)

INTERNAL_REASON = "INTERNAL_ERROR"
_INTERNAL_HINT = "See the log of the appliance."

_STATUS: dict[str, grpc.StatusCode] = dict.fromkeys(
    (
        "MODULE_UNAVAILABLE",
        "MODULE_INTERRUPTED",
        "MODULE_TIMEOUT",
        "MODULE_FAULT",
        "LOG_UNAVAILABLE",
        "LOG_NOT_WITNESSED",
        "LOG_ENTRY_UNWITNESSED",
        "SELF_TEST_FAILED",
        "MODULE_CHANGED",
        "LEDGER_UNAVAILABLE",
        "LOG_UNREADABLE",
        "CLOCK_STOPPED",
    ),
    grpc.StatusCode.UNAVAILABLE,
)
_STATUS |= dict.fromkeys(
    ("MODULE_BUSY", "QUEUE_FULL", "IDENTIFIER_LOOK_AHEAD", "LIMIT_EXCEEDED", "VERIFICATION_LIMIT"),
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
_STATUS |= dict.fromkeys(
    ("VENDING_KEY_UNKNOWN", "NEW_KEY_UNKNOWN", "ISSUANCE_UNKNOWN", "LOG_ENTRY_UNKNOWN", "PROPOSAL_UNKNOWN"),
    grpc.StatusCode.NOT_FOUND,
)
_STATUS |= dict.fromkeys(("IDENTIFIER_USED", "REQUEST_ID_REUSED"), grpc.StatusCode.ALREADY_EXISTS)
_STATUS |= {
    "DEADLINE_PASSED": grpc.StatusCode.DEADLINE_EXCEEDED,
    "LEDGER_CONFLICT": grpc.StatusCode.ABORTED,
    "AUDITOR_REQUIRED": grpc.StatusCode.PERMISSION_DENIED,
    "CLIENT_REVOKED": grpc.StatusCode.PERMISSION_DENIED,
    "SIGNAL_REFUSED": grpc.StatusCode.PERMISSION_DENIED,
    "PROPOSAL_DIFFERS": grpc.StatusCode.ABORTED,
    "CERTIFICATE_REVOKED": grpc.StatusCode.UNAUTHENTICATED,
    "REVOCATION_UNKNOWN": grpc.StatusCode.UNAVAILABLE,
    "LEASE_NOT_SIGNED": grpc.StatusCode.PERMISSION_DENIED,
    "NOT_AUTHORISED": grpc.StatusCode.PERMISSION_DENIED,
    "CLIENT_UNNAMED": grpc.StatusCode.UNAUTHENTICATED,
}
_STATUS |= dict.fromkeys(
    (
        "KEY_CHANGE_REQUIRED",
        "METER_KEY_MISMATCH",
        "CLASS_NOT_ALLOWED",
        "CREDIT_UNDER_DEFAULT_KEY",
        "COMMON_KEY_CARRIER",
        "TID_OUT_OF_WINDOW",
        "KEY_EXPIRED",
        "KEY_NOT_ACTIVE",
        "KEY_ISSUE_PERIOD_OVER",
        "KEY_REFRESH_DUE",
        "KEY_RETIRED",
        "KEY_VALUE_LIMIT",
        "KEY_TYPE_TRANSITION",
        "CERTIFICATION_KEY",
        "CLOCK_NOT_SETTABLE",
        "SAMPLE_TABLES_REFUSED",
        "TEST_KEY_REFUSED",
        "LEASE_MISSING",
        "LEASE_OVER",
        "LEASE_CLOCK",
        "LEASE_OUTDATED",
        "APPROVAL_REQUIRED",
        "PROPOSAL_CLOSED",
    ),
    grpc.StatusCode.FAILED_PRECONDITION,
)
_STATUS |= dict.fromkeys(
    (
        INTERNAL_REASON,
        "CIPHER_FAULT",
        "LIBRARY_FAULT",
        "REQUEST_MALFORMED",
        "FRAME_INVALID",
        "KEY_RECORD_INVALID",
        "CONFIGURATION_INVALID",
        "ANSWER_UNREADABLE",
        "AUDIT_KEY_MISSING",
        "LOG_INCONSISTENT",
    ),
    grpc.StatusCode.INTERNAL,
)


def status_code(reason: str) -> grpc.StatusCode:
    """Return the gRPC code of a reason; whatever is not listed is the fault of the request."""
    return _STATUS.get(reason, grpc.StatusCode.INVALID_ARGUMENT)


def _pack(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def to_status(error: Exception) -> tuple[str, status_pb2.Status]:
    """Return the reason and the google.rpc.Status of an error.

    An error that is none of ours says nothing of itself: its text could hold what a client must not see.
    """
    retryable, details = False, dict[str, str]()
    if isinstance(error, StsError | HsmError | ApplianceError):
        reason, hint, message, retryable = error.reason, error.hint, str(error), error.retryable
        if isinstance(error, ApplianceError):
            details = error.details
    else:
        reason, hint, message = INTERNAL_REASON, _INTERNAL_HINT, "internal error"
    metadata = {"hint": hint, "retryable": "true" if retryable else "false"} | details
    status = status_pb2.Status(code=code_pb2.Code.Value(status_code(reason).name), message=message)
    status.details.append(_pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)))
    if retryable:
        delay = Duration()
        delay.FromTimedelta(RETRY_AFTER)
        status.details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return reason, status
