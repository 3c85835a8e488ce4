"""What is around every call of our own services: maps errors, logs one line, shows no digits."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

import grpc
import structlog
from google.rpc import status_pb2

from appliance.errors import ClientUnnamed
from appliance.interceptors.peer import peer_name
from appliance.interceptors.reading import read_request, read_requests
from appliance.interceptors.status import INTERNAL_REASON, to_status
from appliance.policy.authority import Authority
from appliance.tls.clients import ClientCertificates

logger = structlog.get_logger("keywatt.appliance")


def _places(error: BaseException) -> list[str]:
    # Frames only: the text of an unexpected error may quote a request.
    return [f"{frame.filename}:{frame.lineno}:{frame.name}" for frame in traceback.extract_tb(error.__traceback__)][-5:]


def _log_failure(method: str, error: Exception) -> None:
    logger.error("call-failed", method=method, error=type(error).__name__, at=_places(error))


class Calls:
    """Wraps the handlers of our own services; health and reflection are left as they are.

    A gRPC interceptor would be asked anew at every call, which costs a tenth of what the call does; handlers are
    wrapped once.

    Args:
        log_calls: whether a call that succeeds makes a line in the log.
        authority: whom the policy knows; nobody else gets any further than this.
        certificates: whose certificates are good still.
    """

    def __init__(self, *, log_calls: bool, authority: Authority, certificates: ClientCertificates) -> None:
        self._log_calls = log_calls
        self._authority = authority
        self._certificates = certificates
        self.counts: Counter[tuple[str, str]] = Counter()
        """Calls that ended, by method and reason."""

    def register(self, register: Callable[[Any, Any], None], servicer: object, server: grpc.aio.Server) -> None:
        """Add a servicer to a server by its generated function, with every handler wrapped.

        Calls that the servicer names in ``UNREAD`` get the octets of their request.
        """
        register(servicer, _Registry(self, server, getattr(servicer, "UNREAD", frozenset())))

    def wrap(self, method: str, handler: Any, *, unread: bool = False) -> Any:
        """Return a handler that maps errors and logs; ``unread``: it takes octets."""
        read = handler.request_deserializer
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(method, handler.unary_unary if unread else _reading(read, handler.unary_unary)),
                response_serializer=None if unread else handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(method, _reading(read, handler.unary_stream)),
                response_serializer=handler.response_serializer,
            )
        return grpc.stream_stream_rpc_method_handler(
            self._stream(method, _reading_all(read, handler.stream_stream, self._require_client)),
            response_serializer=handler.response_serializer,
        )

    def _unary(self, method: str, inner: Any) -> Any:
        async def handle(request: Any, context: Any) -> Any:
            started = time.monotonic()
            reason = "CANCELLED"
            try:
                self._require_client(context)
                response = await inner(request, context)
            except Exception as error:  # noqa: BLE001 - every error must become a status, and none may leak
                reason, status = _status_of(method, error)
                await _abort(context, status)
            else:
                reason = "OK"
                return response
            finally:
                self._log(method, context, reason, started)

        return handle

    def _stream(self, method: str, inner: Any) -> Any:
        async def handle(requests: Any, context: Any) -> Any:
            started = time.monotonic()
            reason = "CANCELLED"
            try:
                self._require_client(context)
                async for response in inner(requests, context):
                    # A stream lasts: who was revoked meanwhile gets nothing more.
                    self._require_client(context)
                    yield response
                reason = "OK"
            except Exception as error:  # noqa: BLE001 - as above
                reason, status = _status_of(method, error)
                await _abort(context, status)
            finally:
                self._log(method, context, reason, started)

        return handle

    def _require_client(self, context: Any) -> None:
        name = peer_name(context)
        self._certificates.require_good(context.auth_context(), name)
        self._authority.require_client(name)

    def _log(self, method: str, context: Any, reason: str, started: float) -> None:
        self.counts[method, reason] += 1
        if reason == "OK" and not self._log_calls:
            return
        milliseconds = round((time.monotonic() - started) * 1000, 2)
        logger.info("call", method=method, peer=_peer(context), reason=reason, milliseconds=milliseconds)


def _reading(read: Callable[[bytes], Any], inner: Callable[[Any, Any], Any]) -> Callable[[bytes, Any], Any]:
    return lambda octets, context: inner(read_request(read, octets), context)


def _reading_all(
    read: Callable[[bytes], Any], inner: Callable[[Any, Any], Any], require: Callable[[Any], None]
) -> Callable[[Any, Any], Any]:
    async def checked(stream: AsyncIterable[bytes], context: Any) -> AsyncIterator[bytes]:
        async for octets in stream:
            # A stream lasts: who was revoked meanwhile has no work done.
            require(context)
            yield octets

    return lambda stream, context: inner(read_requests(read, checked(stream, context)), context)


class _Registry:
    """Stands for a server while generated code registers handlers."""

    def __init__(self, calls: Calls, server: grpc.aio.Server, unread: frozenset[str]) -> None:
        self._calls = calls
        self._server = server
        self._unread = unread

    def add_generic_rpc_handlers(self, _: object) -> None:
        """Leave out: what comes next is found first."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Wrap and pass on."""
        wrapped = {
            name: self._calls.wrap(f"/{service}/{name}", handler, unread=name in self._unread)
            for name, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))
        self._server.add_registered_method_handlers(service, wrapped)


def _peer(context: Any) -> str:
    try:
        return peer_name(context)
    except ClientUnnamed:
        return ""


def _status_of(method: str, error: Exception) -> tuple[str, status_pb2.Status]:
    reason, status = to_status(error)
    if reason == INTERNAL_REASON:
        _log_failure(method, error)
    return reason, status


async def _abort(context: Any, status: status_pb2.Status) -> None:
    await context.abort(
        grpc.StatusCode[_code_name(status.code)],
        status.message,
        (("grpc-status-details-bin", status.SerializeToString()),),
    )


_CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


def _code_name(number: int) -> str:
    return _CODE_NAMES[number]
