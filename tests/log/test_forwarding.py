"""Forwarding: in order, at least once, proven on the way, through crashes and receivers that go away."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from hsm.log import leaves
from hsm.log.errors import CursorInvalid, LogDamaged, NoteInvalid, TileMissing
from hsm.log.export import parse
from hsm.log.export_cli import main
from hsm.log.forwarding import Cursor, Entry, JsonLines, Syslog, forward, tls_context
from hsm.log.writer import LogWriter
from tests.log.support import SIGNER, Signer, leaf, make_log, publish, refusal
from tests.support.system import load_script

certificates = load_script("demo/certificates.py")


class Fragile:
    """A sink that fails at some calls, after it has taken the entries or before."""

    def __init__(self, failures: dict[int, bool]) -> None:
        self.failures, self.calls = failures, 0
        self.taken: list[Entry] = []

    def send(self, entries: list[Entry]) -> None:
        call, self.calls = self.calls, self.calls + 1
        if self.failures.get(call):
            self.taken += entries
        if call in self.failures:
            raise ConnectionResetError("gone")
        self.taken += entries


def add(folder: Path, *entries: bytes) -> None:
    writer = LogWriter.open(folder)
    writer.append(entries)
    publish(writer)
    writer.close()


def test_every_entry_arrives_in_order_at_least_once(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    make_log(folder, 700)
    sink, path = Fragile({1: True, 3: False}), tmp_path / "cursor"
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            forward(folder, SIGNER.key, Cursor.read(path), sink)  # type: ignore[arg-type]
    add(folder, leaf(700), refusal(701))
    forward(folder, SIGNER.key, Cursor.read(path), sink)  # type: ignore[arg-type]
    indices = [index for index, _ in sink.taken]
    assert sorted(set(indices)) == list(range(702))
    assert len(indices) == 702 + 256
    assert all(later <= before + 1 for before, later in itertools.pairwise(indices))
    assert Cursor.read(path).frontier.size == 702
    assert forward(folder, SIGNER.key, Cursor.read(path), sink) == 0  # type: ignore[arg-type]


def test_nothing_leaves_that_is_not_the_signed_log(tmp_path: Path) -> None:
    folder, path, sink = tmp_path / "log", tmp_path / "cursor", Fragile({})
    make_log(folder, 300)
    shutil.copytree(folder, tmp_path / "other")
    forward(folder, SIGNER.key, Cursor.read(path), sink)  # type: ignore[arg-type]
    # Shorter than what went out; forked behind it; altered before it goes out; signed by another.
    add(folder, leaf(300))
    forward(folder, SIGNER.key, Cursor.read(path), sink)  # type: ignore[arg-type]
    with pytest.raises(LogDamaged):
        forward(tmp_path / "other", SIGNER.key, Cursor.read(path), sink)  # type: ignore[arg-type]
    add(tmp_path / "other", refusal(300), leaf(301))
    with pytest.raises(LogDamaged):
        forward(tmp_path / "other", SIGNER.key, Cursor.read(path), sink)  # type: ignore[arg-type]
    sent = len(sink.taken)
    bundle = folder / "tile" / "entries" / "000"
    bundle.write_bytes(bundle.read_bytes().replace(b'"value":"256"', b'"value":"999"', 1))
    with pytest.raises(LogDamaged):
        forward(folder, SIGNER.key, Cursor.read(None), sink)  # type: ignore[arg-type]
    with pytest.raises(NoteInvalid):
        forward(folder, Signer.make(seed=5).key, Cursor.read(None), sink)  # type: ignore[arg-type]
    (folder / "checkpoint").unlink()
    with pytest.raises(TileMissing):
        forward(folder, SIGNER.key, Cursor.read(None), sink)  # type: ignore[arg-type]
    assert len(sink.taken) == sent == 301


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"next":1,"peaks":[]}', '{"next":-1,"peaks":[]}', '{"next":1,"peaks":["ab"]}']
)
def test_what_is_no_cursor(tmp_path: Path, text: str) -> None:
    (tmp_path / "cursor").write_text(text)
    with pytest.raises(CursorInvalid):
        Cursor.read(tmp_path / "cursor")
    log = make_log(tmp_path / "log", 1)
    assert log
    arguments = [str(tmp_path / "log"), "--key", str(SIGNER.key), "--jsonl", str(tmp_path / "out")]
    assert main([*arguments, "--cursor", str(tmp_path / "cursor")]) == 1


def test_lines_of_json(tmp_path: Path) -> None:
    make_log(tmp_path / "log", 300)
    out = tmp_path / "out.jsonl"
    arguments = [
        str(tmp_path / "log"),
        "--key",
        str(SIGNER.key),
        "--jsonl",
        str(out),
        "--cursor",
        str(tmp_path / "cursor"),
    ]
    assert main(arguments) == 0
    add(tmp_path / "log", leaf(300))
    assert main(arguments) == 0
    lines = out.read_text().splitlines(keepends=True)
    assert [parse(text) for text in lines] == [(number, leaf(number)) for number in range(301)]
    assert main([str(tmp_path / "nothing"), "--key", str(SIGNER.key), "--jsonl", str(out)]) == 2
    assert main([str(tmp_path / "log"), "--key", str(SIGNER.key), "--jsonl", "/dev/full"]) == 2


def test_a_pipe_is_no_file_and_is_not_flushed() -> None:
    read, write = os.pipe()
    JsonLines(Path(f"/proc/self/fd/{write}")).send([(0, leaf(0))])
    assert os.read(read, 10_000).startswith(b'{"index":0,')
    os.close(read)
    os.close(write)


# --- syslog -------------------------------------------------------------------------------------------------------

MESSAGE = re.compile(
    rb"<(\d+)>1 (\S+) module-1 keywatt-module - (\S+) \[keywatt@32473 index=\"(\d+)\"\] \xef\xbb\xbf(\{.*\})", re.DOTALL
)


class Receiver:
    """A syslog receiver over mutual TLS, which reads octet-counted messages until it is told to go."""

    def __init__(self, folder: Path) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "server.pem", folder / "server.key")
        self.context.load_verify_locations(folder / "ca.pem")
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.messages: list[bytes] = []
        self.going = True
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while self.going:
            try:
                plain, _ = self.listener.accept()
                with self.context.wrap_socket(plain, server_side=True) as stream, stream.makefile("rb") as file:
                    self._read(file)
            except OSError:
                continue

    def _read(self, file: object) -> None:
        while True:
            count = b""
            while not count.endswith(b" "):
                octet = file.read(1)  # type: ignore[attr-defined]
                if not octet:
                    return
                count += octet
            self.messages.append(file.read(int(count)))  # type: ignore[attr-defined]

    def stop(self) -> None:
        self.going = False
        self.listener.close()


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    folder = tmp_path / "tls"
    folder.mkdir()
    authority = certificates.Authority()
    authority.issue(folder, "server", [x509.DNSName("localhost")], server=True)
    authority.issue(folder, "client", [x509.DNSName("exporter")], server=False)
    authority.write_certificate(folder / "ca.pem")
    return folder


@pytest.fixture
def receiver(tls: Path) -> Iterator[Receiver]:
    receiver = Receiver(tls)
    yield receiver
    receiver.stop()


def await_count(receiver: Receiver, count: int) -> None:
    end = time.monotonic() + 30
    while len(receiver.messages) < count:
        assert time.monotonic() < end, len(receiver.messages)
        time.sleep(0.01)


def test_syslog_messages_are_those_of_the_rfc(tmp_path: Path, tls: Path, receiver: Receiver) -> None:
    folder = tmp_path / "log"
    make_log(folder, 300)
    add(folder, refusal(300))
    sink = Syslog(
        ("localhost", receiver.port), tls_context(tls / "ca.pem", tls / "client.pem", tls / "client.key"), "module-1"
    )
    assert forward(folder, SIGNER.key, Cursor.read(None), sink) == 301
    await_count(receiver, 301)
    for number, message in enumerate(receiver.messages):
        match = MESSAGE.fullmatch(message)
        assert match is not None, message
        priority, moment, kind, index, body = match.groups()
        assert int(index) == number
        assert leaves.decode(body)["time"] == 1_700_000_000_000 + number
        assert dt.datetime.fromisoformat(moment.decode()).timestamp() > 1_699_999_999
        assert (int(priority), kind) == ((108, b"refusal") if number == 300 else (110, b"issue"))
    sink.close()


def test_a_receiver_that_is_not_known_gets_nothing(tmp_path: Path, tls: Path, receiver: Receiver) -> None:
    make_log(tmp_path / "log", 3)
    other = tmp_path / "other.pem"
    certificates.Authority().write_certificate(other)
    arguments = [str(tmp_path / "log"), "--key", str(SIGNER.key), "--syslog", f"localhost:{receiver.port}"]
    assert main([*arguments, "--ca", str(other)]) == 2
    # And a receiver that does not know us: in TLS 1.3 it says so late, and nothing may count as arrived before.
    cursor = tmp_path / "cursor"
    assert main([*arguments, "--ca", str(tls / "ca.pem"), "--cursor", str(cursor)]) == 2
    assert not cursor.exists()
    with pytest.raises(SystemExit):
        main(arguments)
    assert receiver.messages == []


@pytest.mark.timeout(120)
def test_it_follows_through_kills_and_receivers_that_go_away(tmp_path: Path, tls: Path, receiver: Receiver) -> None:
    folder = tmp_path / "log"
    make_log(folder, 10)
    port = receiver.port
    command = [
        str(Path(sysconfig.get_path("scripts")) / "keywatt-export"),
        str(folder),
        "--key",
        str(SIGNER.key),
        "--follow",
    ]
    command += ["--syslog", f"localhost:{port}", "--ca", str(tls / "ca.pem"), "--cursor", str(tmp_path / "cursor")]
    command += ["--certificate", str(tls / "client.pem"), "--private-key", str(tls / "client.key")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    await_count(receiver, 10)
    for number in range(10, 14):
        add(folder, leaf(number))
        if number % 2:
            process.kill()
            process.wait()
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(0.3)
    end = time.monotonic() + 60
    wanted = set(range(14))
    while wanted - {int(json.loads(b'"' + MESSAGE.fullmatch(one)[4] + b'"')) for one in list(receiver.messages)}:  # type: ignore[index]
        assert time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
