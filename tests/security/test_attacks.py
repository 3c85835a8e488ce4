"""Attacks on the network, each tried on the running system while an honest client goes on selling."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from keywatt.keys.v1 import keys_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client.client import ClientError, KeywattClient
from tests.appliance.test_transport import secure_channel
from tests.faults.test_policy import request
from tests.security.test_rpc_fuzz import resident
from tests.support.authority import Clients
from tests.support.raw_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    RESET,
    SETTINGS,
    Connection,
    call_headers,
    frame,
    literal,
)
from tests.support.system import System, running

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]
STATUS_PATH = b"/keywatt.keys.v1.KeysService/GetModuleStatus"
GROWTH_MAX = 96 * 1024
MOST = 300


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    edits = [("appliance/appliance.toml", "listen =", f"connections_max = {MOST}\nlisten =")]
    with running(edits=edits) as found:
        found.clients = Clients(found)  # type: ignore[attr-defined]  # for these tests
        yield found


class Honest:
    """A client that sells on one connection while something else goes on."""

    def __init__(self, system: System, first: int) -> None:
        self.sold = 0
        self.errors: list[ClientError] = []
        self._next = first
        self._ends = threading.Event()
        self._client = KeywattClient(system.profile)
        self._sell()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _sell(self) -> None:
        self._client.issue(self._client.vending.IssueCreditToken, request(self._next))
        self._next += 1
        self.sold += 1

    def _work(self) -> None:
        while not self._ends.is_set():
            try:
                self._sell()
            except ClientError as error:
                self.errors.append(error)

    def go_on(self, count: int) -> None:
        wanted, end = self.sold + count, time.monotonic() + 30
        while self.sold < wanted:
            assert time.monotonic() < end, self.errors
            time.sleep(0.02)

    def end(self) -> None:
        self._ends.set()
        self._thread.join(40)
        self._client.close()
        assert self.errors == []


@contextlib.contextmanager
def selling(system: System, first: int) -> Iterator[Honest]:
    """See that sales go on during and after an attack, and that the appliance is the same and no larger."""
    honest = Honest(system, first)
    try:
        honest.go_on(5)
        pid, before = system.appliance_pid, resident(system.appliance_pid)
        yield honest
        honest.go_on(5)
        assert system.appliance_pid == pid
        assert resident(pid) - before < GROWTH_MAX
    finally:
        honest.end()
    assert "call-failed" not in system.log("appliance")
    assert "Traceback" not in system.log("appliance")


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


# --- header floods ----------------------------------------------------------------------------------------------


def test_headers_that_are_too_large_are_refused(system: System) -> None:
    with selling(system, 20_000), secure_channel(system) as channel:
        call = channel.unary_unary(STATUS_PATH.decode())
        for metadata in (
            [("x-flood", "x" * 100_000)],
            [(f"x-{number}", "y" * 100) for number in range(1000)],
            [("x-flood-bin", os.urandom(50_000))],
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", metadata=metadata, timeout=10)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert call(b"", timeout=10)


def test_a_flood_of_continuations_fills_no_memory(system: System) -> None:
    """Headers without an end: each frame is well-formed, none is the last. Read and thrown away."""
    with selling(system, 20_500), Connection(system.port, system.profile) as attacker:
        sent = 0
        attacker.send(frame(HEADERS, 0, 1, call_headers(STATUS_PATH)))
        block = literal(b"x-flood", b"x" * 16_000)
        while sent < 64 * 1024 * 1024 and attacker.send(frame(CONTINUATION, 0, 1, block)):
            sent += len(block)
        attacker.send(frame(CONTINUATION, END_HEADERS, 1, block))


def test_streams_that_are_opened_and_reset_at_once(system: System) -> None:
    headers = frame(HEADERS, END_HEADERS | END_STREAM, 0, call_headers(STATUS_PATH))
    with selling(system, 21_000), Connection(system.port, system.profile) as attacker:
        for start in range(0, 20_000, 100):
            burst = b"".join(
                headers[:5]
                + struct.pack(">I", 2 * number + 1)
                + headers[9:]
                + frame(RESET, 0, 2 * number + 1, b"\0\0\0\x08")
                for number in range(start, start + 100)
            )
            if not attacker.send(burst):
                break


@pytest.mark.parametrize(
    "flood",
    [frame(PING, 0, 0, bytes(8)), frame(SETTINGS, 0, 0), frame(HEADERS, END_HEADERS, 0, b""), b"\xff" * 64],
    ids=["pings", "settings", "headers of no stream", "rubbish"],
)
def test_floods_of_frames(system: System, flood: bytes) -> None:
    with selling(system, 21_500), Connection(system.port, system.profile) as attacker:
        for _ in range(500):
            if not attacker.send(flood * 100):
                break
        # An answer that nobody takes does not fill the memory either; see the growth.


# --- slow clients -----------------------------------------------------------------------------------------------


def test_clients_that_say_nothing_are_let_go(system: System) -> None:
    """Connected and silent, half a handshake, a handshake and no preface: each loses its place by itself."""
    with selling(system, 22_000):
        pid = system.appliance_pid
        before = open_files(pid)
        silent = [socket.create_connection(("127.0.0.1", system.port)) for _ in range(60)]
        for number, one in enumerate(silent):
            if number % 2:
                # The head of a ClientHello that promises more.
                one.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        shaken = [Connection(system.port, system.profile, settled=False) for _ in range(20)]
        half = [Connection(system.port, system.profile, settled=False) for _ in range(20)]
        for one in half:
            one.send(PREFACE[:10])
        until(lambda: open_files(pid) >= before + 90)
        until(lambda: open_files(pid) <= before + 5, 60)
        for one in (*silent, *shaken, *half):
            one.close()


def test_requests_that_never_end_hold_nobody_up(system: System) -> None:
    """A hundred calls on each of ten connections, begun and not ended; octet by octet for some."""
    with selling(system, 22_500) as honest, contextlib.ExitStack() as stack:
        attackers = [stack.enter_context(Connection(system.port, system.profile)) for _ in range(10)]
        for attacker in attackers:
            for number in range(100):
                attacker.send(frame(HEADERS, END_HEADERS, 2 * number + 1, call_headers(STATUS_PATH)))
                attacker.send(frame(DATA, 0, 2 * number + 1, b"\0\0\0"))
        for _ in range(20):
            for attacker in attackers:
                attacker.send(frame(DATA, 0, 1, b"\0"))
            honest.go_on(2)


def test_answers_that_nobody_reads_hold_nobody_up(system: System) -> None:
    with selling(system, 23_000) as honest, Connection(system.port, system.profile) as attacker:
        body = b"\0" + struct.pack(">I", 0)
        for number in range(900):
            head = frame(HEADERS, END_HEADERS, 2 * number + 1, call_headers(STATUS_PATH))
            if not attacker.send(head + frame(DATA, END_STREAM, 2 * number + 1, body)):
                break
        honest.go_on(30)


# --- connections ------------------------------------------------------------------------------------------------


def raise_files(count: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(count, 1), max(count, hard)))


def test_ten_thousand_connections(system: System) -> None:
    """Who is connected goes on selling; the rest is closed, and room comes back by itself."""
    raise_files(12_000)
    pid = system.appliance_pid
    with selling(system, 24_000) as honest, contextlib.ExitStack() as stack:
        for number in range(10_000):
            one = stack.enter_context(socket.socket())
            one.settimeout(10)
            with contextlib.suppress(OSError):
                one.connect(("127.0.0.1", system.port))
            if number % 2000 == 1999:
                honest.go_on(3)
        assert open_files(pid) < MOST + 256
        honest.go_on(10)
        # They are still there and silent: their places are taken away, and a new client gets one.
        until(lambda: _is_served(system), 60)
    assert _is_served(system)


def _is_served(system: System) -> bool:
    try:
        with KeywattClient(system.profile.model_copy(update={"timeout_seconds": 3.0})) as asked:
            asked.call(asked.keys.GetModuleStatus, keys_pb2.GetModuleStatusRequest())
    except ClientError:
        return False
    return True


# --- one client and another's sales -----------------------------------------------------------------------------


def test_request_ids_of_another_client_give_nothing(system: System) -> None:
    """The id of another's sale: not his token, no word of him, and nothing that his own repetition would notice."""
    clients: Clients = system.clients  # type: ignore[attr-defined]
    other = clients.add("other.example")
    sale = request(30_001)
    with KeywattClient(system.profile) as first:
        token = first.issue(first.vending.IssueCreditToken, sale).token.digits
        end = time.monotonic() + 20
        while True:
            # The authority of the second client is known within a second.
            try:
                with KeywattClient(other) as second:
                    wanted = vending_pb2.GetIssuanceRequest(request_id=sale.request_id)
                    with pytest.raises(ClientError) as refused:
                        second.call(second.vending.GetIssuance, wanted)
                    assert refused.value.reason == "ISSUANCE_UNKNOWN"
                    listed = second.call(second.vending.ListIssuances, vending_pb2.ListIssuancesRequest())
                    assert not listed.issuances
                    own = second.issue(second.vending.IssueCreditToken, sale).token
                    assert own.digits != token
                    break
            except (ClientError, AssertionError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.3)
        assert first.issue(first.vending.IssueCreditToken, sale).token.digits == token


def test_nothing_of_the_attacks_is_in_the_log(system: System) -> None:
    """An attacker's octets are not written down: the log neither grows without bound nor says what he likes."""
    log = (Path(system.state) / "log" / "appliance.log").read_bytes()
    assert b"x-flood" not in log
    assert len(log) < 2 * 1024 * 1024
