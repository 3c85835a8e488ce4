"""Records of ceremonies: what was planned, approved, done and seen; sealed by the module's audit key."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hsm.errors import HsmError
from hsm.officers import (
    ACCEPTANCE_NAMESPACE,
    NAMESPACE,
    BeginItem,
    CeremonyKind,
    acceptance_text,
    approval_text,
    record_text,
)
from hsm.ssh_signatures import OfficerKey, OfficerSignature
from keyloader import plan as plans
from keyloader.ceremonies.hand_over import HandOver
from keyloader.errors import KeyLoaderError, RecordInvalid

FORMAT = "keywatt-record/2"
_EARLIER = "keywatt-record/1"
"""Of versions whose requests had another form: everything is proven but that the actions follow from the plan."""
_ACCEPTING = frozenset({"taken over", "acceptance refused"})
_RECORD_MAX = 4 * 1024 * 1024


def now() -> str:
    """Return the time as records have it: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def taken_line(steps: Sequence[dict[str, Any]]) -> str:
    """Return the line by which those who take a module over sign what was seen before the first of them signed."""
    seen = list(itertools.takewhile(lambda step: step["what"] not in _ACCEPTING, steps))
    return f"taken {hashlib.sha256(canonical(seen)).hexdigest()}\n"


def canonical(value: object) -> bytes:
    """Return the octets that are hashed: JSON with its names in order, no blanks, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


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
    done: int

    @property
    def is_done(self) -> bool:
        """Whether the ceremony came to its end; else it was refused or stopped, and changed nothing."""
        return bool(self.fields["outcome"] == "done")


def read(path: Path) -> Record:
    """Read a record; raises RecordInvalid. Nothing of it is proven yet."""
    try:
        if path.stat().st_size > _RECORD_MAX:
            raise RecordInvalid(f"{path}: too large to be a record")
        octets = path.read_bytes()
        document = json.loads(octets)
        fields, audit_key, signature = document["record"], document["audit_key"], document["signature"]
        if fields["format"] not in {FORMAT, _EARLIER} or set(document) != {"record", "audit_key", "signature"}:
            raise RecordInvalid(f"{path}: this is no {FORMAT}")
        found = Record(fields, bytes.fromhex(audit_key), bytes.fromhex(signature))
        # One text for one record: what another reader would take for something else is none.
        if found.pack() != octets:
            raise RecordInvalid(f"{path}: this is not as a record is written")
    except OSError as error:
        raise RecordInvalid(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RecordInvalid(f"{path}: this is no {FORMAT}") from None
    return found


def verify(record: Record, audit_key: bytes | None = None, files: Path | None = None) -> Verified:
    """Prove a record with nothing but itself and the module's public audit key.

    Args:
        record: as it was read.
        audit_key: that is trusted, 32 octets; None to believe the one in the record.
        files: folder of the files that lay beside the plan, where its type needs any; None to leave them out.

    Raises:
        RecordInvalid: it is not proven.
    """
    try:
        return _verify(record, audit_key, files)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise RecordInvalid(f"the record lacks something: {type(error).__name__}") from None
    except (KeyLoaderError, HsmError) as error:
        raise RecordInvalid(str(error)) from None


def _verify(record: Record, audit_key: bytes | None, files: Path | None) -> Verified:
    fields = record.fields
    if audit_key is not None and audit_key != record.audit_key:
        raise RecordInvalid("the record was sealed with another audit key")
    if not record.signature:
        raise RecordInvalid("the record was not sealed: the ceremony did not come so far")
    for name in ("title", "begun", "ended", "outcome", "store_before", "store_after"):
        if not isinstance(fields[name], str):
            raise RecordInvalid(f"{name} is no text")
    if not isinstance(fields["rehearsal"], bool) or not all(one["facts"] is not None for one in fields["steps"]):
        raise RecordInvalid("the record lacks what every record has")
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
    _verify_actions(plan, fields, files)
    officers = _verify_approvals(fields, approval_text(plan.module, item, nonce))
    _verify_acceptances(plan, fields, acceptance_text(plan.module, item, nonce))
    done = _verify_seal(record, plan.module, item, nonce, officers)
    if fields["outcome"] == "done" and (len(officers) < int(fields["needed"]) or done != len(item.actions)):
        raise RecordInvalid("the module did not do all of it, or fewer officers have approved than had to")
    names = tuple(str(one["officer"]) for one in fields["approvals"])
    return Verified(fields=fields, audit_key=record.audit_key, officers=names, done=done)


def _verify_actions(plan: plans.Plan, fields: dict[str, Any], files: Path | None) -> None:
    """Compare what was approved with the plan; some types need the files beside it, a rehearsal its keys.

    Of an earlier version it was compared when it was made; the module's seal covers it as it stands.
    """
    if fields["rehearsal"] or fields["format"] == _EARLIER or (plan.ceremony.needs_files and files is None):
        return
    expected = [{"what": one.what, "digest": one.digest.hex()} for one in plan.ceremony.actions(files or Path())]
    if fields["actions"] != expected:
        raise RecordInvalid("what was approved is not what the plan says")


def _verify_seal(
    record: Record, module: str, item: BeginItem, nonce: bytes, officers: Sequence[tuple[bytes, str]]
) -> int:
    """Return how many of the actions were done, which is part of what the audit key has signed."""
    key = Ed25519PublicKey.from_public_bytes(record.audit_key)
    for done in range(len(item.actions), -1, -1):
        text = record_text(module, item, nonce, done, officers, int(record.fields["needed"]), record.digest)
        try:
            key.verify(record.signature, text.encode())
        except InvalidSignature:
            continue
        return done
    raise RecordInvalid("the seal of the audit key is wrong: the record was altered")


def _verify_acceptances(plan: plans.Plan, fields: dict[str, Any], text: str) -> None:
    """See that everybody who takes a module over has signed so; of other types there is nothing."""
    takers = set()
    if fields["outcome"] == "done" and isinstance(plan.ceremony, HandOver) and not fields["rehearsal"]:
        takers = {entry.key for entry in plan.ceremony.officers.officer}
    text += taken_line(fields["steps"])
    signed = set()
    for acceptance in fields.get("acceptances", ()):
        key = OfficerKey.parse(acceptance["key"])
        if not OfficerSignature.parse(acceptance["signature"]).proves(key, ACCEPTANCE_NAMESPACE, text.encode()):
            raise RecordInvalid(f"the signature of {acceptance['officer']}, who takes the module over, is wrong")
        signed.add(str(key))
    if not takers <= signed:
        raise RecordInvalid("somebody who takes the module over has not signed")


def _verify_approvals(fields: dict[str, Any], text: str) -> Sequence[tuple[bytes, str]]:
    """Verify what officers signed, apart from the module; return keys and names in the order of enrolment."""
    order = [bytes.fromhex(key) for key in fields["enrolled"]]
    keys: dict[bytes, str] = {}
    for approval in fields["approvals"]:
        signature = OfficerSignature.parse(approval["signature"])
        if not signature.proves(signature.key, NAMESPACE, text.encode()):
            raise RecordInvalid(f"the approval of {approval['officer']} is wrong")
        if signature.key.public in keys or signature.key.public not in order:
            raise RecordInvalid("an approval is of nobody who was enrolled, or stands twice")
        keys[signature.key.public] = str(approval["officer"])
    return sorted(keys.items(), key=lambda one: order.index(one[0]))
