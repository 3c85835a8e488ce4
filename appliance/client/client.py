"""A client of the appliance: channel with mutual TLS, the service stubs, and errors with their reason code."""

from __future__ import annotations

import random
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from keywatt.approval.v1 import approval_pb2_grpc
from keywatt.audit.v1 import audit_pb2_grpc
from keywatt.certification.v1 import certification_pb2_grpc
from keywatt.keys.v1 import keys_pb2_grpc
from keywatt.mandate.v1 import mandate_pb2_grpc
from keywatt.vending.v1 import vending_pb2, vending_pb2_grpc
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.client import request_ids

T = TypeVar("T")
_PAUSE_SECONDS = 0.1
_PAUSE_MAX_SECONDS = 2.0
# The library would wait up to two minutes before it tries a server again that has long been back.
_RECONNECT = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    # In spite of its name: how long one attempt may take, handshake and all.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 2000),
]
# The call may or may not have been carried out; its request id makes repeating it safe.
_UNCERTAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)
_UNFORESEEN = frozenset({"", "INTERNAL_ERROR"})


class ClientError(Exception):
    """A call that failed.

    Attributes:
        code: gRPC status code.
        reason: reason code of docs/errors.md; empty if the answer carries none.
        hint: what to do.
        retryable: whether the same request can succeed later.
        details: further fields.
    """

    def __init__(self, code: grpc.StatusCode, message: str, *, reason: str = "", details: dict[str, str]) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.hint = details.pop("hint", "")
        self.retryable = details.pop("retryable", "false") == "true"
        self.details = details


class ClientProfile(BaseModel):
    """Where the appliance is and who we are; relative paths count from the file's folder.

    Args:
        address: host and port.
        server_ca, certificate, private_key: PEM files.
        timeout_seconds: deadline of one call.
        retry_seconds: for how long an issuing call is repeated, with its request id, after errors that may pass.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str
    server_ca: Path
    certificate: Path
    private_key: Path
    timeout_seconds: float = Field(default=10.0, gt=0, le=300)
    retry_seconds: float = Field(default=30.0, ge=0, le=3600)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a TOML file; raises ValueError with a message for a person."""
        try:
            profile = cls.model_validate(tomllib.loads(path.read_text("utf-8")))
        except OSError as error:
            hint = "name a client profile with --profile or KEYWATT_CLIENT"
            raise ValueError(f"{path}: {error.strerror}; {hint}") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError):
            raise ValueError(f"{path} is no TOML file") from None
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        folder = path.parent
        files = {name: folder / getattr(profile, name) for name in ("server_ca", "certificate", "private_key")}
        return profile.model_copy(update=files)


def _error(error: grpc.RpcError) -> ClientError:
    call: Any = error
    status = rpc_status.from_call(call)
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return ClientError(call.code(), call.details() or "", reason=info.reason, details=dict(info.metadata))
    return ClientError(call.code(), call.details() or "", details={})


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    """Return reason and details of an error inside an answer; empty if it carries none."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            break
    return info


def passing(result: vending_pb2.TokenResult) -> error_details_pb2.ErrorInfo | None:
    """Return the error of one request if it may pass when it is asked again, else None."""
    if result.WhichOneof("result") != "error":
        return None
    info = info_of(result.error)
    return info if info.metadata["retryable"] == "true" else None


class KeywattClient:
    """A connection to one appliance; use it as a context manager.

    Attributes:
        vending, keys, audit, approval, mandate, certification: the generated stubs, to be called through :meth:`call`.
    """

    def __init__(self, profile: ClientProfile) -> None:
        """Open the channel; raises ValueError for certificates that cannot be read."""
        try:
            credentials = grpc.ssl_channel_credentials(
                root_certificates=profile.server_ca.read_bytes(),
                private_key=profile.private_key.read_bytes(),
                certificate_chain=profile.certificate.read_bytes(),
            )
        except OSError as error:
            raise ValueError(f"{error.filename}: {error.strerror}") from None
        self._timeout = profile.timeout_seconds
        self._retry = profile.retry_seconds
        self._address = profile.address
        self._channel = grpc.secure_channel(profile.address, credentials, options=_RECONNECT)
        self.vending = vending_pb2_grpc.VendingServiceStub(self._channel)
        self.keys = keys_pb2_grpc.KeysServiceStub(self._channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(self._channel)
        self.approval = approval_pb2_grpc.ApprovalServiceStub(self._channel)
        self.mandate = mandate_pb2_grpc.MandateServiceStub(self._channel)
        self.certification = certification_pb2_grpc.CertificationServiceStub(self._channel)

    def call(self, method: Callable[..., T], request: object) -> T:
        """Call a stub method with the profile's deadline; raises ClientError."""
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            found = _error(error)
            if found.code is grpc.StatusCode.UNAVAILABLE and not found.reason:
                found.hint = (
                    f"Nothing answers at {self._address} that both sides' certificates agree with; is it running?"
                )
            if found.code is grpc.StatusCode.UNIMPLEMENTED:
                found.hint = "This appliance does not serve the call; some exist in certification mode only."
            raise found from None

    def stream(self, method: Callable[..., Iterable[T]], request: object) -> Iterator[T]:
        """Call a method that sends many answers, for as long as it does; raises ClientError."""
        try:
            yield from method(request)
        except grpc.RpcError as error:
            raise _error(error) from None

    def issue(self, method: Callable[..., T], request: Any) -> T:
        """Call an issuing method until it answers: after errors that may pass it is repeated with its request id.

        A request without an id is given one, in place, so that the caller can repeat it too.

        Raises:
            ClientError: refused, or no answer within the profile's time for retries; in that case the token may have
                been issued, and only repeating the request tells.
        """
        if not request.request_id:
            request.request_id = request_ids.new()
        end = time.monotonic() + self._retry
        pause = _PAUSE_SECONDS
        while True:
            try:
                return self.call(method, request)
            except ClientError as error:
                passes = error.retryable or (error.reason in _UNFORESEEN and error.code in _UNCERTAIN)
                if not passes or time.monotonic() + pause > end:
                    raise
            # Many clients that lost the same server do not come back in step.
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
            pause = min(2 * pause, _PAUSE_MAX_SECONDS)

    def issue_batch(self, requests: Sequence[vending_pb2.TokenRequest]) -> list[vending_pb2.TokenResult]:
        """Issue at most 1,000 requests, each with an id, and repeat what may pass, within the profile's time.

        Returns:
            A result for each request, in order; one that is an error was refused, or did not pass in time.

        Raises:
            ClientError: the call as a whole was not answered; repeating it with the same ids is safe.
        """
        end, pause = time.monotonic() + self._retry, _PAUSE_SECONDS
        results: dict[int, vending_pb2.TokenResult] = {}
        while len(results) < len(requests):
            left = [place for place in range(len(requests)) if place not in results]
            batch = vending_pb2.BatchIssueTokensRequest(requests=[requests[place] for place in left])
            can_wait = time.monotonic() + pause < end
            try:
                response = self.call(self.vending.BatchIssueTokens, batch)
            except ClientError as error:
                if not (error.retryable or error.code in _UNCERTAIN) or not can_wait:
                    raise
            else:
                answered = zip(left, response.results, strict=True)
                results |= {place: result for place, result in answered if not can_wait or passing(result) is None}
            if len(results) < len(requests):
                time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
                pause = min(2 * pause, _PAUSE_MAX_SECONDS)
        return [results[place] for place in range(len(requests))]

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
