"""What the log says of a batch: a leaf for each item, from what the module worked on and what it answered."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import repeat
from time import time_ns

from hsm.frames import NOBODY, Asker
from hsm.keys import VendingKey
from hsm.log import leaves
from hsm.log.leaves import LeafType, token_hash
from hsm.reasons import Reason
from hsm.requests import HEADER_LENGTH, Operation

_ISSUE = struct.Struct(">BBBBBB2s18s6xI12x16s")
_ISSUED = struct.Struct(">HBBBB2xI20s16s")
_VERIFY = struct.Struct(">BB2x2s18s20s4x")
_VERIFIED = struct.Struct(">HBBBBBxI4x16s")
_CHANGE = struct.Struct(">BBBB2s2s18s6s8xB23x")
_CHANGED = struct.Struct(">HBBBBBB80s8x")
_VALIDATE_ONLY = {Operation.ISSUE: 0x02, Operation.KEY_CHANGE: 0x01}


def now_milliseconds() -> int:
    """Return POSIX time in milliseconds, as leaves have it."""
    return time_ns() // 1_000_000


def leaves_of(
    operation: Operation, request: bytes, answer: bytes, key: VendingKey | None, askers: list[Asker]
) -> list[bytes | None]:
    """Return the leaf of each item of a batch; None for one that was only validated.

    Args:
        operation: issue, verify or key change.
        request: the batch, as the module worked on it.
        answer: what it answered.
        key: that it worked with; None for class 1.
        askers: for whom each item is; empty if nobody is named.
    """
    return list(_MAKERS[operation](request, answer, key, askers))


def refusals(operation: Operation, key: str | None, askers: list[Asker], reason: str) -> list[bytes]:
    """Return a leaf for each of those who asked in a batch that was refused as a whole.

    Args:
        operation: what was asked.
        key: name of the vending key, if any.
        askers: for whom each item was.
        reason: why it was refused.
    """
    now = now_milliseconds()
    return [
        leaves.make(
            LeafType.REFUSAL,
            now,
            operation=operation.name.lower().replace("_", "-"),
            reason=reason,
            key=key,
            client=asker.client,
            request=asker.request_id.hex(),
        )
        for asker in askers
    ]


def _number(octets: bytes) -> str:
    return str(int.from_bytes(octets, "big", signed=True))


def _each(askers: list[Asker]) -> Iterator[Asker]:
    return iter(askers) if askers else repeat(NOBODY)


def _refusal(
    operation: str,
    reason: int,
    asker: Asker,
    key: VendingKey | None,
    meter: bytes,
    now: int,
    **fields: object,
) -> bytes:
    return leaves.make(
        LeafType.REFUSAL,
        now,
        operation=operation,
        reason=Reason(reason).name,
        client=asker.client,
        request=asker.request_id.hex(),
        key=None if key is None else str(key.reference),
        meter=_digits(meter),
        **fields,
    )


def _digits(octets: bytes) -> str | None:
    """Return digits that the request brought, or None: what a stranger sent is written down only if it is digits."""
    return octets.decode("ascii") if octets.isdigit() else None


def _issue_leaves(request: bytes, answer: bytes, key: VendingKey | None, askers: list[Asker]) -> Iterator[bytes | None]:
    now = now_milliseconds()
    named = None if key is None else (int(key.base_date), str(key.reference), key.check_value.hex())
    items = _ISSUE.iter_unpack(request[HEADER_LENGTH:])
    answers = _ISSUED.iter_unpack(answer[HEADER_LENGTH:])
    for item, made, asker in zip(items, answers, _each(askers)):  # noqa: B905 - askers may be endless
        token_class, subclass, ea, flags, _, tct, ti, pan, _, value = item
        if flags & _VALIDATE_ONLY[Operation.ISSUE]:
            yield None
        elif made[0]:
            yield _refusal(
                "issue",
                made[0],
                asker,
                key,
                pan,
                now,
                **{"class": token_class},
                subclass=subclass,
                value=_number(value),
            )
        else:
            _, token_class, subclass, marks, _, tid, digits, granted = made
            yield leaves.issue(
                time=now,
                client=asker.client,
                request=asker.request_id.hex(),
                key=named,
                ea=ea,
                tct=tct,
                marks=marks,
                meter=pan.decode("ascii"),
                ti=ti.decode("ascii"),
                token_class=token_class,
                subclass=subclass,
                tid=tid,
                value=int.from_bytes(granted, "big", signed=True),
                token=token_hash(digits),
            )


def _verify_leaves(
    request: bytes, answer: bytes, key: VendingKey | None, askers: list[Asker]
) -> Iterator[bytes | None]:
    now = now_milliseconds()
    items = _VERIFY.iter_unpack(request[HEADER_LENGTH:])
    answers = _VERIFIED.iter_unpack(answer[HEADER_LENGTH:])
    for item, found, asker in zip(items, answers, _each(askers)):  # noqa: B905 - askers may be endless
        _, _, _, pan, digits = item
        reason, token_class, subclass, marks, _, _, tid, value = found
        is_genuine = reason == Reason.OK
        yield leaves.make(
            LeafType.VERIFY,
            now,
            result=Reason(reason).name,
            client=asker.client,
            request=asker.request_id.hex(),
            key=None if key is None else str(key.reference),
            meter=_digits(pan),
            token=token_hash(digits),
            tid=tid if is_genuine else None,
            subclass=subclass if is_genuine else None,
            value=_number(value) if is_genuine else None,
            marks=marks if is_genuine else None,
            **({"class": token_class} if is_genuine else {}),
        )


def _change_leaves(
    request: bytes, answer: bytes, key: VendingKey | None, askers: list[Asker]
) -> Iterator[bytes | None]:
    now = now_milliseconds()
    items = _CHANGE.iter_unpack(request[HEADER_LENGTH:])
    answers = _CHANGED.iter_unpack(answer[HEADER_LENGTH:])
    for item, made, asker in zip(items, answers, _each(askers)):  # noqa: B905 - askers may be endless
        ea, _, tct, new_krn, old_ti, new_ti, pan, new_sgc, flags = item
        reason, count, marks, ken, _, key_type, rollover, digits = made
        target = f"{_digits(new_sgc) or ''}/{new_krn}"
        if flags & _VALIDATE_ONLY[Operation.KEY_CHANGE]:
            yield None
        elif reason or key is None:
            yield _refusal("key-change", reason, asker, key, pan, now, new_key=target)
        else:
            yield leaves.make(
                LeafType.KEY_CHANGE,
                now,
                client=asker.client,
                request=asker.request_id.hex(),
                key=str(key.reference),
                kcv=key.check_value.hex(),
                new_key=target,
                new_ken=ken,
                new_kt=key_type,
                meter=pan.decode("ascii"),
                ti=old_ti.decode("ascii"),
                new_ti=new_ti.decode("ascii"),
                ea=ea,
                tct=tct,
                marks=marks,
                rollover=bool(rollover),
                tokens=[token_hash(digits[20 * place : 20 * place + 20]) for place in range(count)],
            )


_MAKERS = {
    Operation.ISSUE: _issue_leaves,
    Operation.VERIFY: _verify_leaves,
    Operation.KEY_CHANGE: _change_leaves,
}
