"""Forwards entries to others as they come, at least once and in order, each with its index as sequence number.

What is forwarded is proven on the way: the entries that went out make the root of every checkpoint that is met. How far
it came is kept in a cursor, which moves only when the other side has what was sent; after a crash or a lost connection
what is not known to have arrived is sent again, and the index tells the receiver.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, Self

from hsm.log import leaves
from hsm.log.checkpoints import CHECKPOINT, Checkpoint
from hsm.log.errors import CursorInvalid, LogDamaged, TileMissing
from hsm.log.export import line
from hsm.log.merkle import Frontier, leaf_hash
from hsm.log.notes import NOTE_MAX, Note, VerifierKey
from hsm.log.tiles import TILE_WIDTH, TileReader, read_regular

_FACILITY_AUDIT = 13
_SEVERITY = {"refusal": 4, "start": 5, "stop": 5, "mode": 4, "keys": 4}
_INFORMATIONAL = 6
# 32473 is the enterprise number that RFC 5612 keeps for examples; a site that has one of its own sets it.
_ELEMENT = "keywatt@32473"
_POLL_SECONDS = 0.005
_ACCEPTANCE_SECONDS = 0.5

Entry = tuple[int, bytes]


@dataclass(slots=True)
class Cursor:
    """How far was forwarded, and the tree's edge there; kept in a file, or for this run only without one."""

    path: Path | None
    frontier: Frontier = field(default_factory=Frontier)

    @classmethod
    def read(cls, path: Path | None) -> Self:
        """Read a cursor; one that does not exist begins with the first entry. Raises CursorInvalid."""
        if path is None or not path.exists():
            return cls(path)
        try:
            kept = json.loads(path.read_bytes())
            peaks = [bytes.fromhex(peak) for peak in kept["peaks"]]
            size = int(kept["next"])
        except (ValueError, KeyError, TypeError, OverflowError):
            raise CursorInvalid(f"{path} is no cursor") from None
        if size < 0 or len(peaks) != size.bit_count() or any(len(peak) != 32 for peak in peaks):
            raise CursorInvalid(f"{path} is no cursor")
        return cls(path, Frontier(size, peaks))

    def move(self, frontier: Frontier) -> None:
        """Note that everything up to this edge has arrived; durable when this returns."""
        self.frontier = frontier
        if self.path is None:
            return
        draft = self.path.with_name(self.path.name + ".new")
        with draft.open("w") as file:
            json.dump({"next": frontier.size, "peaks": [peak.hex() for peak in frontier.peaks]}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self.path)


class Sink(Protocol):
    """Where entries go."""

    def send(self, entries: Sequence[Entry]) -> None:
        """Return when the other side has them; raises OSError otherwise."""
        ...


class JsonLines:
    """Lines of JSON, appended to a file and flushed."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def send(self, entries: Sequence[Entry]) -> None:
        """Append."""
        octets = memoryview("".join(line(index, entry) for index, entry in entries).encode())
        while octets:
            octets = octets[os.write(self._descriptor, octets) :]
        # What cannot be flushed, a pipe or a terminal, has it already.
        with contextlib.suppress(OSError) if not _is_file(self._descriptor) else contextlib.nullcontext():
            os.fsync(self._descriptor)


def _is_file(descriptor: int) -> bool:
    return os.path.isfile(f"/proc/self/fd/{descriptor}")  # noqa: PTH113 - of a descriptor


class Syslog:
    """RFC 5424 messages over TLS (RFC 5425), one an entry.

    Syslog has no acknowledgement: an entry counts as arrived when the other side's system has confirmed its octets.

    Args:
        address: host and port of the receiver.
        tls: what is trusted and shown.
        origin: of the log; the HOSTNAME of the messages.
        seconds: how long to wait for connection and confirmation.
    """

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext, origin: str, *, seconds: float = 10.0) -> None:
        self._address = address
        self._tls = tls
        self._origin = origin
        self._seconds = seconds
        self._stream: ssl.SSLSocket | None = None

    def send(self, entries: Sequence[Entry]) -> None:
        """Send and wait until it is confirmed; raises OSError, and the next call connects anew."""
        octets = b"".join(b"%d %b" % (len(one), one) for one in (self.message(*entry) for entry in entries))
        try:
            stream = self._connected()
            stream.sendall(octets)
            self._await_confirmation(stream)
        except BaseException:
            self.close()
            raise

    def message(self, index: int, entry: bytes) -> bytes:
        """Return the message of an entry."""
        leaf = leaves.decode(entry)
        kind = str(leaf["type"])
        priority = _FACILITY_AUDIT * 8 + _SEVERITY.get(kind, _INFORMATIONAL)
        moment = datetime.fromtimestamp(int(leaf["time"]) / 1000, UTC).isoformat(timespec="milliseconds")
        head = f"<{priority}>1 {moment.replace('+00:00', 'Z')} {self._origin} keywatt-module - {kind}"
        return f'{head} [{_ELEMENT} index="{index}"] \ufeff'.encode() + entry

    def close(self) -> None:
        """Let go of the connection."""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
            self._stream = None

    def _connected(self) -> ssl.SSLSocket:
        if self._stream is None:
            plain = socket.create_connection(self._address, self._seconds)
            try:
                self._stream = self._tls.wrap_socket(plain, server_hostname=self._address[0])
                # In TLS 1.3 a receiver refuses our certificate after we believe to be connected.
                self._require_open(self._stream, _ACCEPTANCE_SECONDS)
            except BaseException:
                plain.close()
                raise
        return self._stream

    def _await_confirmation(self, stream: ssl.SSLSocket) -> None:
        end = time.monotonic() + self._seconds
        while struct.unpack("i", fcntl.ioctl(stream.fileno(), termios.TIOCOUTQ, bytes(4)))[0]:
            if time.monotonic() > end:
                raise TimeoutError("the receiver does not confirm")
            time.sleep(_POLL_SECONDS)
        # A receiver that has hung up may have confirmed octets that nobody reads.
        self._require_open(stream, 0)

    def _require_open(self, stream: ssl.SSLSocket, seconds: float) -> None:
        """Raise OSError if the other side refuses or hangs up within so many seconds."""
        end = time.monotonic() + seconds
        stream.setblocking(False)
        try:
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    if stream.recv(1) == b"":
                        raise ConnectionResetError("the receiver has hung up")
                left = end - time.monotonic()
                if left <= 0:
                    return
                select.select([stream], [], [], left)
        finally:
            stream.settimeout(self._seconds)


def tls_context(ca: Path, certificate: Path | None, private_key: Path | None) -> ssl.SSLContext:
    """Return what a TLS connection trusts and shows; raises OSError for files that cannot be read."""
    context = ssl.create_default_context(cafile=str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(certificate, private_key)
    return context


def forward(
    folder: Path, key: VerifierKey, cursor: Cursor, sink: Sink, progress: Callable[[int], None] = lambda _: None
) -> int:
    """Forward what the newest checkpoint covers; return how many entries went out.

    Raises:
        LogError: the log cannot be read, or is not the one that was forwarded before.
        OSError: the other side does not take it; what did not arrive is sent again by the next call.
    """
    try:
        note = Note.parse(read_regular(folder / CHECKPOINT, NOTE_MAX))
    except OSError as error:
        raise TileMissing(f"the checkpoint cannot be read: {error.strerror or error}") from error
    checkpoint = Checkpoint.open(note, key)
    start = cursor.frontier.size
    if checkpoint.size < start:
        raise LogDamaged(f"{start} entries were forwarded, the log has {checkpoint.size}")
    reader = TileReader(folder, checkpoint.size)
    frontier = Frontier(start, cursor.frontier.peaks)
    # Proven first, sent then: nothing leaves that was not signed.
    for tile in range(start // TILE_WIDTH, -(-checkpoint.size // TILE_WIDTH)):
        for place, entry in enumerate(reader.entries(tile)):
            if tile * TILE_WIDTH + place >= start:
                frontier.add(leaf_hash(entry))
    if frontier.root() != checkpoint.root:
        raise LogDamaged(f"the {start} entries that were forwarded and those after them do not make the signed root")
    for tile in range(start // TILE_WIDTH, -(-checkpoint.size // TILE_WIDTH)):
        entries = [(tile * TILE_WIDTH + place, entry) for place, entry in enumerate(reader.entries(tile))]
        entries = [entry for entry in entries if entry[0] >= start]
        sink.send(entries)
        edge = Frontier(cursor.frontier.size, cursor.frontier.peaks)
        for _, entry in entries:
            edge.add(leaf_hash(entry))
        cursor.move(edge)
        progress(len(entries))
    return checkpoint.size - start
