"""Fuzzes what a client can send to the worker: python -m tests.fuzz.worker_frames -runs=N

Octets arrive in pieces of any size; whatever they are, the worker answers each whole frame with a frame, refuses the
stream with FrameInvalid, or waits for more. Nothing else may happen, and the session is asked only what is well formed.
"""

from __future__ import annotations

import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["hsm"]):
    from hsm import frames, worker
    from hsm.errors import FrameInvalid, VendingKeyUnknown
    from hsm.frames import Frame, Kind
    from hsm.keys import KeyReference
    from hsm.requests import Operation, pack_request


class StubSession:
    """Stands for the functionality module: knows no key but one, and notes a request that should not have come."""

    labels = ("keywatt-vk/1 sgc=201457",)

    def operate(self, operation: Operation, request: bytes, reference: KeyReference | None = None) -> bytes:
        assert request[1] == operation
        assert operation in frames.OPERATION_OF.values()
        if reference is not None and str(reference) != "201457/1":
            raise VendingKeyUnknown("no such key")
        return request[:8] + bytes(48)


class StubHeartbeat:
    """Counts instead of telling."""

    depth = 0

    def begin(self) -> None:
        assert self.depth == 0
        self.depth = 1

    def end(self) -> None:
        self.depth = 0


def make_worker() -> Any:
    made: Any = worker.Worker.__new__(worker.Worker)
    made._session = StubSession()
    made._heartbeat = StubHeartbeat()
    return made


WORKER = make_worker()


def one_input(octets: bytes) -> None:
    if not octets:
        return
    size, stream = octets[0] + 1, octets[1:]
    connection = worker.Connection(None)  # type: ignore[arg-type]  # nothing is read from a socket here
    try:
        for start in range(0, len(stream), size):
            connection.received += stream[start : start + size]
            while (frame := connection.take_frame()) is not None:
                answer = WORKER._answer(frame)
                assert answer.correlation == frame.correlation
                assert answer.kind in (frame.kind, Kind.ERROR)
                again = Frame.unpack(answer.pack()[4:])
                assert again == answer
                if answer.kind is Kind.ERROR:
                    assert frames.unpack_error(answer.body).reason
                elif answer.kind is Kind.KEYS:
                    assert frames.unpack_labels(answer.body) == list(StubSession.labels)
    except FrameInvalid:
        return
    assert WORKER._heartbeat.depth == 0
    # Parsers of answers must be as strict.
    for parse in (frames.unpack_labels, frames.unpack_body):
        try:
            parse(stream)
        except FrameInvalid:
            continue
    frames.unpack_error(stream)


def seeds() -> list[bytes]:
    """Well-formed streams."""
    body = b"201457\x01\x00" + pack_request(Operation.STATUS)
    return [bytes([255]) + Frame(kind=kind, correlation=7, body=body).pack() for kind in Kind]


def main() -> None:
    for seed in seeds():
        one_input(seed)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
