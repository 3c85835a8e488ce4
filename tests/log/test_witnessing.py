"""The witness protocol: what a witness cosigns, what it refuses, and what it never forgets."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.log.checkpoints import Checkpoint
from hsm.log.errors import LogError, NoteInvalid, RequestInvalid, WitnessStateInvalid
from hsm.log.merkle import EMPTY_ROOT, Frontier, consistency_proof, leaf_hash
from hsm.log.notes import COSIGNATURE, Note, VerifierKey
from hsm.log.tiles import TileReader
from hsm.log.witnessing import (
    SIZE_TYPE,
    AddCheckpoint,
    WitnessService,
    WitnessState,
    cosign,
    opened,
    parse_cosignatures,
)
from tests.log.support import SIGNER, Signer, leaf, make_log
from tests.support.system import load_script

WITNESS = Signer.make("witness.example", COSIGNATURE, seed=40)
NOW = 1_800_000_000
SIZES = [100, 200, 300, 400, 500, 600, 700]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Note]]:
    folder = tmp_path_factory.mktemp("log") / "log"
    return folder, {Checkpoint.parse(note.text).size: note for note in make_log(folder, 700, every=100)}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[WitnessState]:
    with opened(tmp_path) as state:
        yield state


@pytest.fixture
def service(state: WitnessState) -> WitnessService:
    return WitnessService(WITNESS.key.name, WITNESS.private, [SIGNER.key], state, lambda: NOW + 0.9)


def request(log: tuple[Path, dict[int, Note]], old: int, new: int) -> bytes:
    proof = consistency_proof(old, new, TileReader(log[0], new).node) if 0 < old < new else []
    return AddCheckpoint(old=old, proof=tuple(proof), checkpoint=log[1][new]).pack()


def test_a_growing_log_is_cosigned(log: tuple[Path, dict[int, Note]], service: WitnessService) -> None:
    before = 0
    for size in SIZES:
        answer = service.add_checkpoint(request(log, before, size))
        assert answer.status == 200
        line = parse_cosignatures(answer.body, log[1][size].text, WITNESS.key)
        assert log[1][size].merged([line]).cosigned(WITNESS.key) == NOW
        before = size
    # The same checkpoint again gets a cosignature of the present.
    assert service.add_checkpoint(request(log, 700, 700)).status == 200


def test_the_cosignature_is_that_of_the_specification() -> None:
    note = SIGNER.checkpoint(5, bytes(32))
    line = cosign(WITNESS.private, "witness.example", note.text, NOW)
    assert line == WITNESS.sign(note.text, NOW)
    message = f"cosignature/v1\ntime {NOW}\n{note.text}".encode()
    WITNESS.private.public_key().verify(line.octets[8:], message)
    assert int.from_bytes(line.octets[:8], "big") == NOW


def test_what_was_seen_is_asked_for(log: tuple[Path, dict[int, Note]], service: WitnessService) -> None:
    assert service.add_checkpoint(request(log, 0, 300)).status == 200
    for old in (0, 100, 400):
        answer = service.add_checkpoint(request(log, old, 500))
        assert (answer.status, answer.body, answer.content_type) == (409, b"300\n", SIZE_TYPE)
    # A log that was put back finds out as well, and nothing of it is cosigned.
    assert service.add_checkpoint(request(log, 200, 200)).status == 409
    answer = service.add_checkpoint(AddCheckpoint(old=300, proof=(), checkpoint=log[1][200]).pack())
    assert answer.status == 400
    assert service.add_checkpoint(request(log, 300, 300)).status == 200


def test_another_history_is_not_cosigned(log: tuple[Path, dict[int, Note]], service: WitnessService) -> None:
    assert service.add_checkpoint(request(log, 0, 300)).status == 200
    fork = Frontier()
    for number in range(400):
        fork.add(leaf_hash(leaf(number + 1)))
    for body in (
        AddCheckpoint(old=300, proof=(), checkpoint=SIGNER.checkpoint(300, fork.root())).pack(),
        AddCheckpoint(old=300, proof=(), checkpoint=SIGNER.checkpoint(400, fork.root())).pack(),
        AddCheckpoint(
            old=300,
            proof=tuple(consistency_proof(300, 400, TileReader(log[0], 400).node)),
            checkpoint=SIGNER.checkpoint(400, fork.root()),
        ).pack(),
        AddCheckpoint(old=300, proof=(bytes(32),), checkpoint=log[1][300]).pack(),
    ):
        assert service.add_checkpoint(body).status == 422
    assert service.add_checkpoint(request(log, 300, 400)).status == 200


def test_who_is_not_known_is_refused(log: tuple[Path, dict[int, Note]], service: WitnessService) -> None:
    stranger = Signer.make("another-log", seed=41).checkpoint(5, bytes(32))
    assert service.add_checkpoint(AddCheckpoint(old=0, proof=(), checkpoint=stranger).pack()).status == 404
    forged = Signer.make("module-1", seed=41).checkpoint(5, bytes(32))
    assert service.add_checkpoint(AddCheckpoint(old=0, proof=(), checkpoint=forged).pack()).status == 403
    wrong = Note(text=log[1][200].text, signatures=log[1][100].signatures)
    assert service.add_checkpoint(AddCheckpoint(old=0, proof=(), checkpoint=wrong).pack()).status == 403


def test_the_empty_tree_has_one_root(service: WitnessService) -> None:
    empty = SIGNER.checkpoint(0, EMPTY_ROOT)
    assert service.add_checkpoint(AddCheckpoint(old=0, proof=(), checkpoint=empty).pack()).status == 200
    other = SIGNER.checkpoint(0, bytes(32))
    assert service.add_checkpoint(AddCheckpoint(old=0, proof=(), checkpoint=other).pack()).status == 422
    with_proof = AddCheckpoint(old=0, proof=(bytes(32),), checkpoint=SIGNER.checkpoint(5, bytes(32)))
    assert service.add_checkpoint(with_proof.pack()).status == 422


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"old",
        b"old -1",
        b"old 01",
        b"new 1",
        b"old 1 2",
        b"old 99999999999999999999",
        b"old 1\nAAAA",
        b"old 1\n" + b"\n".join([b"A" * 43 + b"="] * 64),
        b"old 1\n" + b"A" * 44,
        "old ١".encode(),
    ],
)
def test_what_is_no_request(log: tuple[Path, dict[int, Note]], service: WitnessService, head: bytes) -> None:
    body = head + b"\n\n" + log[1][100].pack()
    with pytest.raises((RequestInvalid, NoteInvalid)):
        AddCheckpoint.parse(body)
    assert service.add_checkpoint(body).status == 400
    assert service.add_checkpoint(head).status == 400


@given(st.binary(max_size=400))
def test_rubbish_is_answered_with_400(octets: bytes) -> None:
    class Nothing:
        def get(self, _: VerifierKey) -> tuple[int, bytes]:
            raise AssertionError

    service = WitnessService(WITNESS.key.name, WITNESS.private, [SIGNER.key], Nothing(), lambda: NOW)  # type: ignore[arg-type]
    assert service.add_checkpoint(octets).status == 400


@given(st.integers(0, 2**62), st.lists(st.binary(min_size=32, max_size=32), max_size=63))
def test_requests_survive_the_way(old: int, proof: list[bytes]) -> None:
    made = AddCheckpoint(old=old, proof=tuple(proof), checkpoint=SIGNER.checkpoint(5, bytes(32)))
    assert AddCheckpoint.parse(made.pack()) == made


def test_answers_of_others_are_ignored_and_wrong_ones_refused(log: tuple[Path, dict[int, Note]]) -> None:
    text = log[1][100].text
    own, stranger = WITNESS.sign(text, NOW), Signer.make("other", COSIGNATURE, seed=42).sign(text, NOW)
    body = f"{stranger}{WITNESS.sign(text, NOW - 5)}{own}".encode()
    assert parse_cosignatures(body, text, WITNESS.key) == own
    for wrong in (b"", str(stranger).encode(), b"\xff", f"{own}rubbish\n".encode(), str(WITNESS.sign("x\n")).encode()):
        with pytest.raises(NoteInvalid):
            parse_cosignatures(wrong, text, WITNESS.key)


# --- what it remembers --------------------------------------------------------------------------------------------


def test_memory_outlives_a_restart(log: tuple[Path, dict[int, Note]], tmp_path: Path) -> None:
    for before, size in ((0, 100), (100, 400)):
        with opened(tmp_path) as state:
            service = WitnessService(WITNESS.key.name, WITNESS.private, [SIGNER.key], state)
            assert service.add_checkpoint(request(log, before, size)).status == 200
    with opened(tmp_path) as state:
        assert state.get(SIGNER.key)[0] == 400


@pytest.mark.parametrize("name", ["pwrite", "fsync", "rename"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_what_cannot_be_remembered_is_not_cosigned(
    log: tuple[Path, dict[int, Note]],
    service: WitnessService,
    state: WitnessState,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    code: int,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        if name == "rename":
            patch.setattr(Path, "rename", fail)
        assert service.add_checkpoint(request(log, 0, 300)).status == 500
    assert state.get(SIGNER.key) == (0, EMPTY_ROOT)
    assert service.add_checkpoint(request(log, 0, 300)).status == 200


def test_what_is_there_but_perhaps_not_durable_is_written_again(
    log: tuple[Path, dict[int, Note]], service: WitnessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's flush fails after the rename: the state is seen, but the power may take it away."""
    flushed: list[int] = []
    real = os.fsync

    def fail_on_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "injected")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_on_folders)
        assert service.add_checkpoint(request(log, 0, 300)).status == 500
    monkeypatch.setattr(os, "fsync", lambda descriptor: (flushed.append(descriptor), real(descriptor))[1])
    assert service.add_checkpoint(request(log, 300, 300)).status == 200
    assert len(flushed) == 2


@pytest.mark.parametrize(
    "octets", [b"", b"{}", b"[]", b"rubbish", b'{"size":"1","root":""}', b'{"size":true,"root":"00"}', b"\xff"]
)
def test_a_memory_that_cannot_be_read_cosigns_nothing(
    log: tuple[Path, dict[int, Note]], service: WitnessService, state: WitnessState, tmp_path: Path, octets: bytes
) -> None:
    assert service.add_checkpoint(request(log, 0, 300)).status == 200
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(octets)
    with pytest.raises(WitnessStateInvalid):
        state.get(SIGNER.key)
    assert service.add_checkpoint(request(log, 300, 400)).status == 500


def test_one_process_at_a_time(state: WitnessState, tmp_path: Path) -> None:
    with pytest.raises(WitnessStateInvalid), opened(tmp_path):
        pass


def test_two_requests_at_once_are_one_after_the_other(
    log: tuple[Path, dict[int, Note]], service: WitnessService
) -> None:
    assert service.add_checkpoint(request(log, 0, 100)).status == 200
    found: list[int] = []

    def ask(size: int) -> None:
        found.append(service.add_checkpoint(request(log, 100, size)).status)

    threads = [threading.Thread(target=ask, args=(size,)) for size in SIZES[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200] + [409] * 5


# --- the command --------------------------------------------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    return [str(Path(sysconfig.get_path("scripts")) / "keywatt-witness"), *arguments]


@contextmanager
def serving(folder: Path, *more: str) -> Iterator[int]:
    arguments = ["serve", "--key", str(folder / "witness.key"), "--name", "w", "--folder", str(folder / "state")]
    arguments += ["--log", str(SIGNER.key), "--listen", "127.0.0.1:0", *more]
    process = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("serving listen=127.0.0.1:"), line
        yield int(line.split()[1].rpartition(":")[2])
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        process.stderr.close()  # type: ignore[union-attr]  # a pipe, see above


def post(port: int, body: bytes, path: str = "/add-checkpoint", tls: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    connection = (
        http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        if tls is None
        else http.client.HTTPSConnection("localhost", port, timeout=20, context=tls)
    )
    with contextlib.closing(connection):
        connection.request("POST", path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.fixture
def key(tmp_path: Path) -> VerifierKey:
    made = subprocess.run(
        command("key", str(tmp_path / "witness.key"), "--name", "w"), check=True, capture_output=True, text=True
    )
    return VerifierKey.parse(made.stdout.strip())


def test_the_command_serves(log: tuple[Path, dict[int, Note]], tmp_path: Path, key: VerifierKey) -> None:
    assert key.kind == COSIGNATURE
    with serving(tmp_path) as port:
        status, body = post(port, request(log, 0, 200))
        assert status == 200
        assert log[1][200].merged([parse_cosignatures(body, log[1][200].text, key)]).cosigned(key) is not None
        assert post(port, request(log, 0, 300)) == (409, b"200\n")
        assert post(port, b"rubbish")[0] == 400
        assert post(port, b"", "/")[0] == 404
        assert post(port, bytes(200_000))[0] == 413
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.putrequest("POST", "/add-checkpoint")
        connection.endheaders()
        assert connection.getresponse().status == 411
        connection.close()
    # Another life of it goes on where this one ended.
    with serving(tmp_path) as port:
        assert post(port, request(log, 200, 300))[0] == 200


def test_connections_that_drip_hold_up_nobody(
    log: tuple[Path, dict[int, Note]], tmp_path: Path, key: VerifierKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as port:
        slow = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(64)]
        for connection in slow:
            connection.sendall(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 60000\r\n\r\n")
        deadline, answered = time.monotonic() + 25, 0
        while not answered and time.monotonic() < deadline:
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.send(b"x")
            with contextlib.suppress(OSError, http.client.HTTPException):
                answered = post(port, request(log, 0, 200))[0]
            time.sleep(0.5)
        assert answered == 200
        for connection in slow:
            connection.close()


def test_the_command_serves_tls(log: tuple[Path, dict[int, Note]], tmp_path: Path, key: VerifierKey) -> None:
    from cryptography import x509

    authority = load_script("demo/certificates.py").Authority()
    authority.issue(tmp_path, "tls", [x509.DNSName("localhost")], server=True)
    authority.write_certificate(tmp_path / "ca.pem")
    tls = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    pair = ["--certificate", str(tmp_path / "tls.pem"), "--private-key", str(tmp_path / "tls.key")]
    with serving(tmp_path, *pair) as port:
        with pytest.raises((OSError, http.client.HTTPException)):
            post(port, request(log, 0, 200))
        assert post(port, request(log, 0, 200), tls=tls)[0] == 200


def test_the_command_says_why_it_cannot_begin(tmp_path: Path, key: VerifierKey) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=30, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    serve = ["serve", "--name", "w", "--folder", str(tmp_path / "state"), "--log", str(SIGNER.key)]
    assert run("key", str(tmp_path / "witness.key"), "--name", "w")[0] == 2
    assert run("key", str(tmp_path / "other.key"), "--name", "a name")[0] == 2
    assert run(*serve, "--key", str(tmp_path / "missing"))[0] == 2
    assert run(*serve, "--key", str(tmp_path / "witness.key"), "--listen", "nowhere")[0] == 2
    (tmp_path / "rubbish").write_bytes(b"rubbish")
    (tmp_path / "rubbish").chmod(0o600)
    assert run(*serve, "--key", str(tmp_path / "rubbish"))[0] == 2
    (tmp_path / "witness.key").chmod(0o644)
    code, text = run(*serve, "--key", str(tmp_path / "witness.key"))
    assert code == 2
    assert "0600" in text
    (tmp_path / "witness.key").chmod(0o600)
    (tmp_path / "state").mkdir(exist_ok=True)
    (tmp_path / "state" / f"{SIGNER.key.public.hex()}.json").write_text(json.dumps({"size": -1, "root": ""}))
    code, text = run(*serve, "--key", str(tmp_path / "witness.key"))
    assert code == 2
    assert "WITNESS_STATE_INVALID" in text
    with pytest.raises(LogError):
        VerifierKey.parse(text)
