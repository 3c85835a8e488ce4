"""Mutated octets to every call: refused by name, never an internal error, and the appliance goes on as it was."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import DecodeError
from keywatt.audit.v1 import audit_pb2
from keywatt.certification.v1 import certification_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client.client import KeywattClient
from tests.appliance.test_approvals import wrapped
from tests.appliance.test_transport import secure_channel
from tests.faults.test_policy import APART, every_call, request
from tests.policy.governed import client_name, govern
from tests.policy.texts import client, limit
from tests.support.system import System, running

ROUNDS = int(os.environ.get("KEYWATT_FUZZ", "250"))
BAD = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED})
GROWTH_MAX = 24 * 1024
VENDING, AUDIT = "/keywatt.vending.v1.VendingService/", "/keywatt.audit.v1.AuditService/"


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running() as found:
        govern(found, client(client_name(found), audits=True), limit("daily", "all", count=10**6))
        yield found


def mutated(source: random.Random, octets: bytes) -> bytes:
    """Return octets that are nearly those of a good request."""
    found = bytearray(octets)
    for _ in range(source.choice((1, 1, 2, 4, 16))):
        place = source.randrange(len(found) + 1)
        match source.randrange(6):
            case 0 if found:
                found[place % len(found)] ^= 1 << source.randrange(8)
            case 1:
                found[place:place] = source.randbytes(source.choice((1, 3, 8, 64)))
            case 2:
                del found[place : place + source.choice((1, 2, 8))]
            case 3:
                # A piece twice, as fields that are repeated or contradict each other.
                found[place:place] = found[: source.randrange(len(found) + 1)]
            case 4:
                # A length that reaches beyond the end, or deep into itself.
                found[place:place] = bytes([0x0A, source.randrange(256)]) * source.choice((1, 50))
            case _:
                found[place:place] = b"\xff" * source.choice((1, 9, 10))
    return bytes(found[:200_000])


def method_path(method: object) -> str:
    return str(method._method.decode())  # type: ignore[attr-defined]


def resident(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1])


def apart(asked: KeywattClient) -> list[tuple[str, bytes]]:
    """Return the calls of many requests and many answers, each with a request that would be good."""
    several = [wrapped(one) for _, one in every_call(asked)[:4]]
    return [
        (VENDING + "BatchIssueTokens", vending_pb2.BatchIssueTokensRequest(requests=several).SerializeToString()),
        (VENDING + "StreamIssueTokens", vending_pb2.StreamIssueTokensRequest(requests=several).SerializeToString()),
        (AUDIT + "ListLeaves", audit_pb2.ListLeavesRequest(start_index=1, count=3).SerializeToString()),
    ]


def test_mutated_requests_to_every_call(system: System) -> None:
    source = random.Random(20261129)
    with KeywattClient(system.profile) as asked, secure_channel(system) as channel:
        calls = [(method_path(method), message.SerializeToString()) for method, message in every_call(asked)]
        calls += apart(asked)
        assert {path.rsplit("/", 1)[1] for path, _ in apart(asked)} == APART
        assert {_call(channel, path, octets) for path, octets in apart(asked)} == {grpc.StatusCode.OK}
        pid, worker = system.appliance_pid, system.worker_pid
        seen: Counter[grpc.StatusCode] = Counter()
        before = 0
        for turn in range(ROUNDS):
            for path, octets in calls:
                seen[_call(channel, path, mutated(source, octets))] += 1
            if turn == ROUNDS // 5:
                before = resident(pid)
        assert not set(seen) & BAD, seen
        assert seen[grpc.StatusCode.INVALID_ARGUMENT] > ROUNDS
        assert (system.appliance_pid, system.worker_pid) == (pid, worker)
        assert resident(pid) - before < GROWTH_MAX
        # It sells as before.
        asked.issue(asked.vending.IssueCreditToken, request(77))
    log = system.log("appliance")
    assert "call-failed" not in log
    assert "Traceback" not in log


def test_mutated_requests_for_a_reset() -> None:
    source = random.Random(20261129)
    path = "/keywatt.certification.v1.CertificationService/ResetTokenIdentifiers"
    octets = certification_pb2.ResetTokenIdentifiersRequest().SerializeToString()
    with running("certification") as found, secure_channel(found) as channel:
        assert _call(channel, path, octets) is grpc.StatusCode.OK
        seen = {_call(channel, path, mutated(source, octets)) for _ in range(ROUNDS)}
    assert seen <= {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}


def _follows(octets: bytes) -> bool:
    """Return whether a request asks for what has no end of its own."""
    try:
        return audit_pb2.ListLeavesRequest.FromString(octets).follow
    except DecodeError:
        return False


def _call(channel: grpc.Channel, path: str, octets: bytes) -> grpc.StatusCode:
    try:
        match path.rsplit("/", 1)[1]:
            case "StreamIssueTokens":
                for _ in channel.stream_stream(path)(iter([octets, octets]), timeout=10):
                    pass
            case "ListLeaves":
                if not _follows(octets):
                    for _ in channel.unary_stream(path)(octets, timeout=10):
                        pass
            case _:
                channel.unary_unary(path)(octets, timeout=10)
    except grpc.RpcError as error:
        call: grpc.Call = error  # type: ignore[assignment]  # every error of a call is one
        return call.code()
    return grpc.StatusCode.OK


def test_nested_and_oversized_messages(system: System) -> None:
    nested = b""
    for _ in range(2000):
        length, head = len(nested), b""
        while length > 0x7F:
            head += bytes([length & 0x7F | 0x80])
            length >>= 7
        nested = b"\x0a" + head + bytes([length]) + nested
    with KeywattClient(system.profile) as asked, secure_channel(system) as channel:
        for path in [method_path(method) for method, _ in every_call(asked)] + [path for path, _ in apart(asked)]:
            assert _call(channel, path, nested) not in BAD
            assert _call(channel, path, bytes(2 * 1024 * 1024)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        asked.issue(asked.vending.IssueCreditToken, request(78))
