"""Request ids and fingerprints: what makes a request safe to repeat."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from uuid import UUID

from appliance.errors import FieldInvalid, FieldMissing
from appliance.ledger.records import Method

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NIL = bytes(16)


def parse(text: str) -> bytes:
    """Return the 16 octets of a UUID; raises FieldMissing or FieldInvalid."""
    if not text:
        raise FieldMissing("request_id is missing: a UUID of the client's own making", field="request_id")
    octets = bytes.fromhex(text.replace("-", "")) if _UUID.fullmatch(text) else _NIL
    if octets == _NIL:
        raise FieldInvalid("request_id is a UUID, such as 01976c4e-7a10-7000-8000-3f2a9c5d1b7e", field="request_id")
    return octets


def show(octets: bytes) -> str:
    """Return the UUID in its usual form."""
    return str(UUID(bytes=octets))


def fingerprint(method: Method, request: Any) -> bytes:
    """Return 32 octets that stand for the call and every field of its request."""
    return hashlib.sha256(bytes([method]) + request.SerializeToString(deterministic=True)).digest()
