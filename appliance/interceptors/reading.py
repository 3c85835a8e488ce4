"""Reads requests from octets, so that octets that are no message are refused by name.

gRPC's own reading answers ``UNKNOWN`` without a reason, before any handler is asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from appliance.errors import FieldInvalid

T = TypeVar("T")


def read_request(read: Callable[[bytes], T], octets: bytes) -> T:
    """Read one request.

    Raises:
        FieldInvalid: the octets are not a message of this call.
    """
    try:
        return read(octets)
    except DecodeError:
        raise FieldInvalid("the request is not a message of this call", field="") from None


async def read_requests(read: Callable[[bytes], Any], stream: AsyncIterable[bytes]) -> AsyncIterator[Any]:
    """Read the requests of a stream as they come; errors as in :func:`read_request`."""
    async for octets in stream:
        yield read_request(read, octets)
