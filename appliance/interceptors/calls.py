"""The interceptor around every call of our own services: maps errors, logs one line, shows no digits."""

from __future__ import annotations

import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog
from keywatt.vending.v1 import vending_pb2

from appliance.interceptors.status import INTERNAL_REASON, to_status

logger = structlog.get_logger("keywatt.appliance")
_OWN_PACKAGES = "/" + vending_pb2.DESCRIPTOR.package.split(".", 1)[0] + "."


def peer_name(context: Any) -> str:
    """Return the first subject alternative name (or the common name) of the client's certificate."""
    authentication = context.auth_context()
    for field in ("x509_subject_alternative_name", "x509_common_name"):
        for value in authentication.get(field, ()):
            return str(value.decode("utf-8", "replace"))
    return ""


def _places(error: BaseException) -> list[str]:
    # Frames only: the text of an unexpected error may quote a request.
    return [f"{frame.filename}:{frame.lineno}:{frame.name}" for frame in traceback.extract_tb(error.__traceback__)][-5:]


def _log_failure(method: str, error: Exception) -> None:
    logger.error("call-failed", method=method, error=type(error).__name__, at=_places(error))


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Surrounds the unary calls of ``keywatt.*``; health and reflection pass through."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler."""
        handler: grpc.RpcMethodHandler[Any, Any] | None = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or handler.unary_unary is None or not method.startswith(_OWN_PACKAGES):
            return handler
        inner: Callable[[Any, Any], Awaitable[Any]] = handler.unary_unary

        async def handle(request: Any, context: Any) -> Any:
            started = time.monotonic()
            reason = "CANCELLED"
            try:
                response = await inner(request, context)
            except Exception as error:  # noqa: BLE001 - every error must become a status, and none may leak
                reason, status = to_status(error)
                if reason == INTERNAL_REASON:
                    _log_failure(method, error)
                await context.abort(
                    grpc.StatusCode[_code_name(status.code)],
                    status.message,
                    (("grpc-status-details-bin", status.SerializeToString()),),
                )
            else:
                reason = "OK"
                return response
            finally:
                milliseconds = round((time.monotonic() - started) * 1000, 2)
                logger.info("call", method=method, peer=peer_name(context), reason=reason, milliseconds=milliseconds)

        return grpc.unary_unary_rpc_method_handler(
            handle, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


_CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


def _code_name(number: int) -> str:
    return _CODE_NAMES[number]
