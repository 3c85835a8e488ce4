"""Fuzzes what a client can send to the worker: python -m tests.fuzz.worker_frames -runs=N

Octets arrive in pieces of any size; whatever they are, the worker answers each whole frame with a frame, refuses the
stream with FrameInvalid, or waits for more. Nothing else may happen, the session is asked only what is well formed, and
every entry of the log is canonical and fits into a bundle, whatever names and numbers it is made of.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["hsm"]):
    from hsm import frames, worker
    from hsm.errors import FrameInvalid, VendingKeyUnknown
    from hsm.frames import Frame, Kind
    from hsm.keys import KeyReference, VendingKey
    from hsm.leases import LeaseMemory
    from hsm.log import leaves
    from hsm.log.merkle import Frontier
    from hsm.log.notes import COSIGNATURE, ED25519, VerifierKey
    from hsm.log.policy import WitnessPolicy
    from hsm.log.tiles import ENTRY_MAX
    from hsm.mandate import Lease, PresentedLease
    from hsm.officers import Approval
    from hsm.reasons import Reason
    from hsm.recorder import Recorder
    from hsm.requests import IssueItem, KeyChangeItem, Operation, VerifyItem, item_count, pack_request, split_answer
    from hsm.witness_gate import WitnessGate, WitnessRule


KEY = VendingKey.from_label(
    "keywatt-vk/1 sgc=201457 krn=1 kt=2 dkga=04 bdt=14 ken=255 act=- iut=- c0=00ff c2=fce7 kc=1 origin=public "
    "kcv=000000"
)


LEASE = PresentedLease(
    lease=Lease(number=1, valid_from=1, valid_until=2), signatures=[Approval(key=bytes(32), signature=bytes(64))]
)


class StubSession:
    """Stands for the functionality module: knows no key but one, and notes a request that should not have come."""

    labels = ("keywatt-vk/1 sgc=201457",)

    def operate(self, operation: Operation, request: bytes, reference: KeyReference | None = None) -> bytes:
        assert request[1] == operation
        if operation is Operation.PRESENT_LEASE:
            assert len(request) == 8 + len(LEASE.pack())
            return request[:8] + Reason.LEASE_NOT_SIGNED.to_bytes(2, "big") + bytes(14)
        assert operation in frames.OPERATION_OF.values()
        if reference is not None and str(reference) != "201457/1":
            raise VendingKeyUnknown("no such key")
        if operation not in ANSWERS:
            return request[:8] + bytes(48)
        length, reason = ANSWERS[operation]
        return request[:8] + (reason.to_bytes(2, "big") + bytes(length - 2)) * item_count(operation, request)

    def key(self, reference: KeyReference) -> VendingKey | None:
        return KEY if str(reference) == "201457/1" else None


# The module refuses what is fuzzed: what it accepts has digits where digits belong.
ANSWERS = {
    Operation.ISSUE: (48, Reason.REQUEST_MALFORMED),
    Operation.VERIFY: (32, Reason.CRC_MISMATCH),
    Operation.KEY_CHANGE: (96, Reason.REQUEST_MALFORMED),
}


class StubWriter:
    """Stands for the log: looks at every entry."""

    size = 10

    def append(self, entries: list[bytes]) -> int:
        assert entries
        for entry in entries:
            assert len(entry) <= ENTRY_MAX
            leaves.decode(entry)
        return 0

    def frontier(self) -> Frontier:
        return Frontier()


class StubHeartbeat:
    """Counts instead of telling."""

    depth = 0

    def begin(self) -> None:
        assert self.depth == 0
        self.depth = 1

    def end(self) -> None:
        self.depth = 0


SIGNER_OF_NONE = VerifierKey(name="w", kind=COSIGNATURE, public=bytes(32))


def make_worker() -> Any:
    made: Any = worker.Worker.__new__(worker.Worker)
    made._session = StubSession()
    made._heartbeat = StubHeartbeat()
    made._recorder = recorder = Recorder.__new__(Recorder)
    recorder._session = made._session
    recorder._writer = StubWriter()  # type: ignore[assignment]
    recorder._started = 0
    recorder._leases = LeaseMemory(Path("/nowhere"), {}, None, lambda *_, **__: None)
    # Nobody ever cosigns: what the rule covers is refused, and the module sees the rest of its batch.
    policy = WitnessPolicy.parse(f"witness w {SIGNER_OF_NONE}\nquorum w\n")
    rule = WitnessRule(tokens=("0.4",), quorum=None, max_age_seconds=1, max_entries=1, after_start=True)
    recorder._key = VerifierKey(name="m", kind=ED25519, public=bytes(32))
    recorder._gate = WitnessGate(recorder._key, policy, [rule])
    recorder.checkpoint = lambda: b"a note"  # type: ignore[method-assign]
    return made


WORKER = make_worker()


def require_gate_kept(asked: bytes, answer: bytes) -> None:
    """Of a batch that was answered, what the rule covers got the gate's refusal, the rest the module's."""
    _, request = frames.unpack_askers(frames.unpack_body(asked)[1])
    count = item_count(Operation.ISSUE, request)
    items = split_answer(Operation.ISSUE, frames.part_indices(answer, count)[0], count)
    for place, item in enumerate(items):
        covered = request[8 + 64 * place : 10 + 64 * place] == bytes([0, 4])
        expected = Reason.LOG_NOT_WITNESSED if covered else Reason.REQUEST_MALFORMED
        assert int.from_bytes(item[:2], "big") == expected


def one_input(octets: bytes) -> None:
    if not octets:
        return
    size, stream = octets[0] + 1, octets[1:]
    connection = worker.Connection(None, 1000)  # type: ignore[arg-type]  # nothing is read from a socket here
    try:
        for start in range(0, len(stream), size):
            connection.received += stream[start : start + size]
            while (frame := connection.take_frame()) is not None:
                answer = WORKER._answer(frame, 1000)
                assert answer.correlation == frame.correlation
                assert answer.kind in (frame.kind, Kind.ERROR)
                again = Frame.unpack(answer.pack()[4:])
                assert again == answer
                if answer.kind is Kind.ERROR:
                    assert frames.unpack_error(answer.body).reason
                elif answer.kind is Kind.ISSUE:
                    require_gate_kept(frame.body, answer.body)
                elif answer.kind is Kind.KEYS:
                    assert frames.unpack_labels(answer.body) == list(StubSession.labels)
    except FrameInvalid:
        return
    assert WORKER._heartbeat.depth == 0
    # Parsers of answers must be as strict.
    for parse in (frames.unpack_labels, frames.unpack_body, frames.unpack_askers):
        try:
            parse(stream)
        except FrameInvalid:
            continue
    frames.unpack_error(stream)


def seeds() -> list[bytes]:
    """Well-formed streams."""
    body = b"201457\x01\x00" + pack_request(Operation.STATUS)
    streams = [bytes([255]) + Frame(kind=kind, correlation=7, body=body).pack() for kind in Kind]
    asker = frames.pack_askers([frames.Asker(client='spiffe://x/"\\é', request_id=bytes(range(16)))])
    changed = KeyChangeItem(
        ea=11,
        set_size=4,
        tct=2,
        pan="600727000000000009",
        old_tariff_index="01",
        new_tariff_index="02",
        new_supply_group_code="201457",
        new_key_revision_number=1,
    )
    streams.append(bytes([255]) + Frame(kind=Kind.LEASE, correlation=9, body=LEASE.pack()).pack())
    for kind, operation, item in (
        (Kind.ISSUE, Operation.ISSUE, IssueItem(token_class=0, subclass=0, value=-256, pan="600727000000000009")),
        (Kind.ISSUE, Operation.ISSUE, IssueItem(token_class=0, subclass=4, value=256, pan="600727000000000009")),
        (Kind.VERIFY, Operation.VERIFY, VerifyItem(digits="1" * 20)),
        (Kind.KEY_CHANGE, Operation.KEY_CHANGE, changed),
    ):
        for sgc in (b"201457", b"999999"):
            named = sgc + b"\x01\x00" + asker + pack_request(operation, [item])
            streams.append(bytes([255]) + Frame(kind=kind, correlation=8, body=named).pack())
    return streams


def main() -> None:
    for seed in seeds():
        one_input(seed)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
