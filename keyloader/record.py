"""Records of ceremonies: what was planned, approved, done and seen; sealed by the module's audit key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hsm.errors import HsmError
from hsm.officers import NAMESPACE, BeginItem, CeremonyKind, approval_text, record_text
from keyloader import plan as plans
from keyloader.errors import KeyLoaderError, RecordInvalid
from keyloader.ssh_signatures import OfficerSignature, signed_octets

FORMAT = "keywatt-record/1"
_RECORD_MAX = 4 * 1024 * 1024


def now() -> str:
    """Return the time as records have it: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def canonical(value: object) -> bytes:
    """Return the octets that are hashed: JSON with its names in order, no blanks, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(slots=True)
class Record:
    """A record while it is written; ``fields`` is what is sealed.

    Args:
        fields: as in docs/ceremony-guide.md.
        audit_key: public, 32 octets; empty if there was none to seal with.
        signature: of the audit key over :func:`hsm.officers.record_text`.
    """

    fields: dict[str, Any]
    audit_key: bytes = b""
    signature: bytes = b""
    steps: list[dict[str, object]] = field(default_factory=list)

    @property
    def digest(self) -> bytes:
        """SHA-256 of what is sealed."""
        return hashlib.sha256(canonical(self.fields)).digest()

    def pack(self) -> bytes:
        """Return the file."""
        sealed = {"record": self.fields, "audit_key": self.audit_key.hex(), "signature": self.signature.hex()}
        return json.dumps(sealed, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a record proves."""

    fields: dict[str, Any]
    audit_key: bytes
    officers: tuple[str, ...]

    @property
    def is_done(self) -> bool:
        """Whether the ceremony came to its end; else it was refused or stopped, and changed nothing."""
        return bool(self.fields["outcome"] == "done")


def read(path: Path) -> Record:
    """Read a record; raises RecordInvalid. Nothing of it is proven yet."""
    try:
        if path.stat().st_size > _RECORD_MAX:
            raise RecordInvalid(f"{path}: too large to be a record")
        document = json.loads(path.read_bytes())
        fields, audit_key, signature = document["record"], document["audit_key"], document["signature"]
        if fields["format"] != FORMAT or set(document) != {"record", "audit_key", "signature"}:
            raise RecordInvalid(f"{path}: this is no {FORMAT}")
        return Record(fields, bytes.fromhex(audit_key), bytes.fromhex(signature))
    except OSError as error:
        raise RecordInvalid(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RecordInvalid(f"{path}: this is no {FORMAT}") from None


def verify(record: Record, audit_key: bytes | None = None) -> Verified:
    """Prove a record with nothing but itself and the module's public audit key.

    Args:
        record: as it was read.
        audit_key: that is trusted, 32 octets; None to believe the one in the record.

    Raises:
        RecordInvalid: it is not proven.
    """
    try:
        return _verify(record, audit_key)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordInvalid(f"the record lacks something: {type(error).__name__}") from None
    except (KeyLoaderError, HsmError) as error:
        raise RecordInvalid(str(error)) from None


def _verify(record: Record, audit_key: bytes | None) -> Verified:
    fields = record.fields
    if audit_key is not None and audit_key != record.audit_key:
        raise RecordInvalid("the record was sealed with another audit key")
    if not record.signature:
        raise RecordInvalid("the record was not sealed: the ceremony did not come so far")
    text = str(fields["plan"])
    if hashlib.sha256(text.encode()).hexdigest() != fields["plan_sha256"]:
        raise RecordInvalid("the plan in the record is another than was approved")
    plan = plans.parse(text, "the plan")
    if plan.module != fields["module"]["id"]:
        raise RecordInvalid("the record is of another module than its plan")
    item = BeginItem(
        kind=CeremonyKind(fields["kind"]),
        plan=bytes.fromhex(fields["plan_sha256"]),
        actions=[bytes.fromhex(action["digest"]) for action in fields["actions"]],
    )
    if item.kind is not plan.ceremony.code:
        raise RecordInvalid("the record is of another kind than its plan")
    nonce = bytes.fromhex(fields["nonce"])
    keys = _verify_approvals(fields, approval_text(plan.module, item, nonce))
    sealed = record_text(plan.module, item, nonce, keys, int(fields["needed"]), record.digest)
    try:
        Ed25519PublicKey.from_public_bytes(record.audit_key).verify(record.signature, sealed.encode())
    except InvalidSignature:
        raise RecordInvalid("the seal of the audit key is wrong: the record was altered") from None
    if fields["outcome"] == "done" and len(keys) < int(fields["needed"]):
        raise RecordInvalid("fewer officers have approved than had to")
    return Verified(
        fields=fields, audit_key=record.audit_key, officers=tuple(str(one["officer"]) for one in fields["approvals"])
    )


def _verify_approvals(fields: dict[str, Any], text: str) -> Sequence[bytes]:
    """Verify what officers signed, apart from the module; return their keys in the order of enrolment."""
    order = [bytes.fromhex(key) for key in fields["enrolled"]]
    keys = []
    for approval in fields["approvals"]:
        signature = OfficerSignature.parse(approval["signature"])
        message = signed_octets(NAMESPACE, text.encode())
        if signature.key.application:
            head = hashlib.sha256(signature.key.application.encode()).digest() + bytes([signature.flags])
            message = head + signature.counter.to_bytes(4, "big") + hashlib.sha256(message).digest()
        try:
            Ed25519PublicKey.from_public_bytes(signature.key.public).verify(signature.signature, message)
        except InvalidSignature:
            raise RecordInvalid(f"the approval of {approval['officer']} is wrong") from None
        keys.append(signature.key.public)
    if len(set(keys)) != len(keys) or not set(keys) <= set(order):
        raise RecordInvalid("an approval is of nobody who was enrolled")
    return sorted(keys, key=order.index)
