"""A client with the appliance's own user that turns against the module process: it gets errors, others get service."""

from __future__ import annotations

import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from keywatt.audit.v1 import audit_pb2
from keywatt.keys.v1 import keys_pb2

from hsm.log import leaves
from hsm.log.checkpoints import CHECKPOINT, Checkpoint
from hsm.log.export import read
from hsm.log.notes import Note
from hsm.log.tiles import TileReader
from hsm.system_users import APPLIANCE_USER, as_user
from tests.support.lab import CONTEXTS
from tests.support.system import ROOT, System, running

PRELUDE = """
import socket, sys
from hsm import frames
from hsm.frames import Frame, Kind
from hsm.requests import Operation, pack_request
from tests.support.lab import credit, reference
NOBODY = bytes(4)
def connect():
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(10)
    stream.connect(sys.argv[1])
    return stream
def read(stream):
    octets = b""
    while len(octets) < 4:
        part = stream.recv(4 - len(octets))
        if not part: return None
        octets += part
    length, octets = frames.check_length(octets), b""
    while len(octets) < length:
        part = stream.recv(length - len(octets))
        if not part: return None
        octets += part
    return Frame.unpack(octets)
def ask(kind, body, stream=None):
    stream = stream or connect()
    stream.sendall(Frame(kind=kind, correlation=1, body=body).pack())
    return read(stream)
"""

ATTACKS = {
    "operations that need a key, without one": """
for kind, operation in ((Kind.CHECK_VALUE, Operation.CHECK_VALUE), (Kind.KEY_CHANGE, Operation.KEY_CHANGE)):
    answer = ask(kind, frames.pack_body(None, pack_request(operation)))
    assert answer.kind is Kind.ERROR and answer.body.startswith(b"FRAME_INVALID"), answer.body
""",
    "another operation than the frame says": """
answer = ask(Kind.ISSUE, frames.pack_body(reference("201457"), NOBODY + pack_request(Operation.LOAD_KEY)))
assert answer.kind is Kind.ERROR and answer.body.startswith(b"FRAME_INVALID")
""",
    "a malformed request": """
request = pack_request(Operation.ISSUE, [credit(2)])
for bad in (request[:-1], request + b"x", request[:8], b"\\1\\1" + b"\\xff" * 70, request + bytes(500000)):
    answer = ask(Kind.ISSUE, frames.pack_body(reference("201457"), NOBODY + bad))
    assert answer.kind is Kind.ERROR and answer.body.startswith(b"FRAME_INVALID"), answer.body
""",
    "an unknown key": """
answer = ask(Kind.ISSUE, frames.pack_body(reference("999999"), NOBODY + pack_request(Operation.ISSUE, [credit(2)])))
assert answer.body.startswith(b"VENDING_KEY_UNKNOWN")
""",
    "askers that are none": r"""
from hsm.frames import Asker, pack_askers
request = pack_request(Operation.ISSUE, [credit(2)])
one = pack_askers([Asker(client="a", request_id=bytes(16))])
two = pack_askers([Asker(client="a", request_id=bytes(16))] * 2)
for bad in (b"", b"\0", b"\0\0\0\1", b"\0\0\0\2\0\1" + request, b"\xff" * 4 + request, two + request,
            one[:-1] + request, b"\0\0\0\4\0\1\xff\xff" + request, b"\0\0\0\x14" + bytes(20) + request,
            one.replace(b"\0\1a\0\0", b"\0\1a\0\1") + request):
    answer = ask(Kind.ISSUE, frames.pack_body(reference("201457"), bad))
    assert answer.kind is Kind.ERROR and answer.body.startswith(b"FRAME_INVALID"), (bad, answer.body)
""",
    "names that want to be more than names": r"""
from hsm.frames import Asker, pack_askers
from hsm.requests import VerifyItem
good = ['","type":"verify","x":"', chr(92) * 1024, chr(0x2028), chr(0x1F4A9)]
for name in good + [chr(0), chr(10), chr(0x85), "x" * 1025]:
    asked = pack_askers([Asker(client=name, request_id=bytes(16))])
    answer = ask(Kind.VERIFY, frames.pack_body(None, asked + pack_request(Operation.VERIFY)))
    assert answer.body.startswith(b"FRAME_INVALID")
    asked += pack_request(Operation.VERIFY, [VerifyItem(digits="0" * 20)])
    answer = ask(Kind.VERIFY, frames.pack_body(None, asked))
    assert (answer.kind is Kind.VERIFY) == (name in good), answer.body
    assert name in good or answer.body.startswith(b"FRAME_INVALID")
""",
    "a key where none belongs": """
answer = ask(Kind.AUDIT_KEY, frames.pack_body(reference("201457"), pack_request(Operation.AUDIT_KEY)))
assert answer.body.startswith(b"FRAME_INVALID")
answer = ask(Kind.AUDIT_KEY, frames.pack_body(None, pack_request(Operation.AUDIT_KEY)))
assert answer.kind is Kind.AUDIT_KEY
""",
    "a signature under a text of its own": """
for operation in (Operation.SIGN_CHECKPOINT, Operation.MAKE_AUDIT_KEY):
    request = pack_request(operation) + bytes(40)
    for kind in (Kind.ISSUE, Kind.CHECK_VALUE, Kind.STATUS, Kind.AUDIT_KEY):
        answer = ask(kind, frames.pack_body(None, request))
        assert kind is Kind.STATUS or answer.body.startswith(b"FRAME_INVALID"), answer.body
""",
    "an answer instead of a question": """
assert ask(Kind.ERROR, b"").kind is Kind.ERROR
""",
    "rubbish": """
stream = connect()
stream.sendall(b"\\xff" * 1000)
try:
    assert stream.recv(1) == b""
except ConnectionResetError:
    pass
""",
    "many questions in one breath, answered in order": """
stream = connect()
for number in range(100):
    stream.sendall(Frame(kind=Kind.KEYS, correlation=number, body=b"").pack())
assert [read(stream).correlation for _ in range(100)] == list(range(100))
""",
    "questions whose answers are not taken": """
stream = connect()
stream.settimeout(0.5)
question = Frame(kind=Kind.STATUS, correlation=1, body=b"").pack()
try:
    for _ in range(100000):
        stream.sendall(question)
    raise AssertionError("the worker reads without end")
except TimeoutError:
    pass
assert ask(Kind.STATUS, b"").kind is Kind.STATUS
""",
    "half a frame, then silence": """
silent = connect()
silent.sendall(b"\\0\\0\\0\\x20half")
assert ask(Kind.STATUS, b"").kind is Kind.STATUS
""",
    "more connections than there are": """
streams = [connect() for _ in range(100)]
answers = []
for stream in streams:
    try:
        answers.append(ask(Kind.STATUS, b"", stream))
    except (BrokenPipeError, ConnectionResetError):
        answers.append(None)
assert 0 < sum(answer is not None for answer in answers) <= 64
""",
}


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running("online", CONTEXTS) as system:
        yield system


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(system: System, name: str) -> None:
    before = system.worker_pid
    command = [sys.executable, "-c", PRELUDE + ATTACKS[name], str(system.state / "run" / "module.sock")]
    environment = {"PYTHONPATH": str(ROOT), "PATH": str(Path(sys.executable).parent)}
    answer = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False, **as_user(APPLIANCE_USER)
    )
    assert answer.returncode == 0, answer.stderr
    assert system.worker_pid == before, "the worker was brought down"
    with system.client() as client:
        assert client.call(client.keys.GetModuleStatus, keys_pb2.GetModuleStatusRequest()).keys == 5


def test_who_is_turned_away_is_in_the_log(system: System) -> None:
    def refusals() -> list[dict[str, object]]:
        with system.client() as client:
            client.call(client.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest(fresh=True))
        folder = system.state / "audit"
        size = Checkpoint.parse(Note.parse((folder / CHECKPOINT).read_bytes()).text).size
        found = [leaves.decode(entry) for _, entry in read(TileReader(folder, size))]
        return [leaf for leaf in found if leaf["type"] == "refusal" and "peer-user" in leaf]

    before = len(refusals())
    for name in ("rubbish", "an answer instead of a question"):
        test_attack(system, name)
    # Root may open the socket, and still is no client.
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(system.state / "run" / "module.sock"))
        stranger.settimeout(10)
        assert stranger.recv(1) == b""
    appliance = pwd.getpwnam(APPLIANCE_USER).pw_uid
    found = [(leaf["operation"], leaf["reason"], leaf["peer-user"]) for leaf in refusals()[before:]]
    assert found == [
        ("frame", "FRAME_INVALID", appliance),
        ("error", "FRAME_INVALID", appliance),
        ("connect", "PEER_REFUSED", 0),
    ]
