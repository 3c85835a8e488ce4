"""Batches of which the module sees a part: the rest is refused before it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from hsm.reasons import Reason
from hsm.requests import ANSWER_LENGTH, HEADER_LENGTH, ITEM_LENGTH, Operation


def work_on_rest(
    operation: Operation,
    request: bytes,
    refused: Collection[int],
    reason: Reason,
    work: Callable[[bytes], bytes],
) -> bytes:
    """Have the items of a batch worked on that are not refused; return the answer to all of them, in their order.

    Args:
        operation: of the batch.
        request: header and items, of the length that they take.
        refused: places of those that are refused.
        reason: why.
        work: answers a batch of the others; not called if there are none.
    """
    items = _parts(request, ITEM_LENGTH[operation])
    left = [item for place, item in enumerate(items) if place not in refused]
    length = ANSWER_LENGTH[operation]
    header = request[:HEADER_LENGTH]
    answers = []
    if left:
        answers = _parts(work(_with_count(header, len(left)) + b"".join(left)), length)
    answered = iter(answers)
    refusal = reason.to_bytes(2, "big").ljust(length, b"\0")
    return header + b"".join(refusal if place in refused else next(answered) for place in range(len(items)))


def _parts(octets: bytes, length: int) -> list[bytes]:
    return [octets[at : at + length] for at in range(HEADER_LENGTH, len(octets), length)]


def _with_count(header: bytes, count: int) -> bytes:
    return header[:2] + count.to_bytes(2, "big") + header[4:]
