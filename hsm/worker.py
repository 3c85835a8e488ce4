"""The module process proper: one thread, one session with the functionality module, any number of connections.

Started by the supervisor with the listening socket and the heartbeat page already open. It proves itself before it
accepts the first connection, and leaves for good at the first fault of the library: a new worker is the remedy.
"""

from __future__ import annotations

import argparse
import os
import selectors
import signal
import socket
import struct
import sys
from dataclasses import replace
from pathlib import Path

from hsm import frames, hardening, self_test
from hsm.ceremony_traces import CeremonyTraces
from hsm.errors import FrameInvalid, HsmError, LogUnavailable, ModuleFault, VendingKeyUnknown
from hsm.frames import NOBODY, Asker, Frame, Kind
from hsm.heartbeat import Heartbeat
from hsm.keys import KeyReference
from hsm.log.errors import LogError
from hsm.partial_batches import work_on_rest
from hsm.reasons import Reason
from hsm.recorder import Recorder
from hsm.requests import Operation, item_count, pack_request
from hsm.session import ModuleSession
from hsm.session_paths import LIBRARY_PATH
from hsm.takeover import Ceremonies
from hsm.witness_gate import WitnessDemands

EXIT_SELF_TEST = 3
EXIT_FAULT = 4
EXIT_LOG = 5
_PEER_CREDENTIALS = struct.Struct("=iII")
_READ_SIZE = 256 * 1024
_CONNECTIONS_MAX = 64
_MALFORMED = frozenset({"PKCS#11: DataInvalid", "PKCS#11: DataLenRange", "PKCS#11: MechanismInvalid"})
_NEVER_WITH_KEY = frozenset({Kind.AUDIT_KEY, Kind.OFFICERS, Kind.MANDATE})
_WITHOUT_KEY = frozenset({Kind.ISSUE, Kind.VERIFY, Kind.AUDIT_KEY, Kind.OFFICERS, Kind.MANDATE})


def log(event: str, **fields: object) -> None:
    """Write one line of the module process's log to standard error; the supervisor passes it on."""
    print(event, *(f"{name}={value}" for name, value in fields.items()), file=sys.stderr, flush=True)


class Connection:
    """One client: what it has sent and what it has not yet taken."""

    def __init__(self, stream: socket.socket, peer_user: int) -> None:
        """Take over an accepted socket of a process of a system user."""
        self.stream = stream
        self.peer_user = peer_user
        self.received = bytearray()
        self.unsent = bytearray()
        self.awaited = selectors.EVENT_READ

    @property
    def _frame_end(self) -> int:
        """Where the next frame ends; 0 if not even its length is there. Raises FrameInvalid."""
        if len(self.received) < frames.LENGTH.size:
            return 0
        return frames.LENGTH.size + frames.check_length(bytes(self.received[: frames.LENGTH.size]))

    @property
    def has_frame(self) -> bool:
        """Whether a whole frame waits; raises FrameInvalid."""
        return 0 < self._frame_end <= len(self.received)

    def take_frame(self) -> Frame | None:
        """Return the next whole frame, or None; raises FrameInvalid."""
        if not self.has_frame:
            return None
        end = self._frame_end
        rest = bytes(self.received[frames.LENGTH.size : end])
        del self.received[:end]
        frame = Frame.unpack(rest)
        if frame.generation:
            raise FrameInvalid("a request has a generation")
        return frame


class Worker:
    """The loop: accept, read a frame, ask the module, answer."""

    def __init__(
        self,
        session: ModuleSession,
        recorder: Recorder,
        listener: socket.socket,
        heartbeat: Heartbeat,
        allowed_users: frozenset[int],
        ceremonies: Ceremonies | None = None,
    ) -> None:
        """Serve ``session`` to the peers in ``allowed_users`` (numeric user ids); what it does goes into the log."""
        self._session = session
        self._ceremonies = ceremonies
        self._generation = 0
        self._recorder = recorder
        self._heartbeat = heartbeat
        self._allowed = allowed_users
        self._selector = selectors.DefaultSelector()
        self._connections: dict[socket.socket, Connection] = {}
        self._listener = listener
        # One for all: memory of this size, asked for anew, is mapped and unmapped at every request.
        self._room = memoryview(bytearray(_READ_SIZE))
        self._stopping = False
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)

    def stop(self, *_: object) -> None:
        """End after the request in hand; what is answered is sent."""
        self._stopping = True

    def serve(self) -> None:
        """Run until :meth:`stop`; raises ModuleFault when the library fails."""
        while not self._stopping:
            for key, events in self._selector.select(timeout=0.5):
                if key.fileobj is self._listener:
                    self._accept()
                    continue
                connection = self._connections.get(key.fileobj)  # type: ignore[call-overload]  # a socket, see _accept
                if connection is not None:
                    self._attend(connection, events)
            self._heartbeat.begin()
            self._recorder.tick()
            if self._ceremonies is not None:
                before, self._session = self._session, self._ceremonies.follow(self._session, self._recorder)
                self._generation = (self._generation + (self._session is not before)) % 0x10000
            self._heartbeat.end()
        for connection in list(self._connections.values()):
            connection.stream.setblocking(True)
            connection.stream.settimeout(1.0)
            try:
                connection.stream.sendall(connection.unsent)
            except OSError:
                log("answer-not-taken")
            self._drop(connection)

    def _accept(self) -> None:
        try:
            stream, _ = self._listener.accept()
        except OSError:
            return
        raw = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        pid, uid, _ = _PEER_CREDENTIALS.unpack(raw)
        if uid not in self._allowed or len(self._connections) >= _CONNECTIONS_MAX:
            log("connection-refused", peer_user=uid, peer_process=pid)
            stream.close()
            self._refuse("connect", "PEER_REFUSED", uid)
            return
        stream.setblocking(False)
        self._connections[stream] = Connection(stream, uid)
        self._selector.register(stream, selectors.EVENT_READ)

    def _drop(self, connection: Connection) -> None:
        self._selector.unregister(connection.stream)
        del self._connections[connection.stream]
        connection.stream.close()

    def _drop_malformed(self, connection: Connection, error: FrameInvalid) -> None:
        log("frame-invalid", detail=error)
        self._drop(connection)
        self._refuse("frame", error.reason, connection.peer_user)

    def _refuse(self, operation: str, reason: str, peer_user: int) -> None:
        """Write into the log that a peer was refused; one that is refused gets nothing, even if that fails."""
        self._heartbeat.begin()
        try:
            self._recorder.refuse_peer(operation, reason, peer_user)
        except LogUnavailable as error:
            log("refusal-not-recorded", detail=error)
        finally:
            self._heartbeat.end()

    def _attend(self, connection: Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                count = connection.stream.recv_into(self._room)
                if not count:
                    self._drop(connection)
                    return
                connection.received += self._room[:count]
            if not connection.unsent and (frame := connection.take_frame()) is not None:
                answer = self._answer(frame, connection.peer_user)
                connection.unsent += replace(answer, generation=self._generation).pack()
            if connection.unsent:
                sent = connection.stream.send(connection.unsent)
                del connection.unsent[:sent]
        except BlockingIOError:
            pass
        except FrameInvalid as error:
            self._drop_malformed(connection, error)
            return
        except OSError:
            self._drop(connection)
            return
        self._await_next(connection)

    def _await_next(self, connection: Connection) -> None:
        # One frame a turn, and no reading from a client that does not take its answers: each client gets its share.
        try:
            waiting = connection.unsent or connection.has_frame
        except FrameInvalid as error:
            self._drop_malformed(connection, error)
            return
        wanted = selectors.EVENT_WRITE if waiting else selectors.EVENT_READ
        if wanted != connection.awaited:
            connection.awaited = wanted
            self._selector.modify(connection.stream, wanted)

    def _answer(self, frame: Frame, peer_user: int) -> Frame:
        self._heartbeat.begin()
        try:
            return Frame(kind=frame.kind, correlation=frame.correlation, body=self._execute(frame, peer_user))
        except FrameInvalid as error:
            refusal = error
        except ModuleFault:
            raise
        except HsmError as error:
            return frames.pack_error(frame.correlation, error)
        finally:
            self._heartbeat.end()
        self._refuse(frame.kind.name.lower().replace("_", "-"), refusal.reason, peer_user)
        return frames.pack_error(frame.correlation, refusal)

    def _execute(self, frame: Frame, peer_user: int) -> bytes:
        match frame.kind:
            case Kind.KEYS:
                return frames.pack_labels(self._session.labels)
            case Kind.STATUS:
                return self._session.operate(Operation.STATUS, pack_request(Operation.STATUS))
            case Kind.CHECKPOINT:
                return self._recorder.checkpoint()
            case Kind.COSIGNATURES:
                self._recorder.cosigned(frame.body)
                return b""
            case Kind.LEASE:
                return self._lease(frame.body, peer_user)
            case Kind.ERROR:
                raise FrameInvalid("this kind of frame is an answer")
            case _:
                return self._request(frame)

    def _lease(self, octets: bytes, peer_user: int) -> bytes:
        reason = self._recorder.lease(octets)
        if reason is not Reason.OK:
            log("lease-refused", reason=reason.name)
            self._recorder.refuse_peer("present-lease", reason.name, peer_user)
        return reason.to_bytes(2, "big")

    def _request(self, frame: Frame) -> bytes:
        operation = frames.OPERATION_OF[frame.kind]
        reference, request = frames.unpack_body(frame.body)
        askers: list[Asker] = []
        if frame.kind in frames.LOGGED:
            askers, request = frames.unpack_askers(request)
        if len(request) < 2 or request[1] != operation:
            raise FrameInvalid("a frame and its request name different operations")
        if reference is None and frame.kind not in _WITHOUT_KEY:
            raise FrameInvalid("this kind of frame names a key")
        if reference is not None and frame.kind in _NEVER_WITH_KEY:
            raise FrameInvalid("this kind of frame names no key")
        if frame.kind not in frames.LOGGED:
            return self._ask_module(operation, request, reference)
        return self._work_and_record(operation, reference, request, askers)

    def _ask_module(self, operation: Operation, request: bytes, reference: KeyReference | None) -> bytes:
        try:
            return self._session.operate(operation, request, reference)
        except ModuleFault as error:
            # The functionality module refuses malformed requests with codes of its own; all else is the library's.
            if str(error) in _MALFORMED:
                raise FrameInvalid("the module finds the request malformed") from error
            raise

    def _work_and_record(
        self, operation: Operation, reference: KeyReference | None, request: bytes, askers: list[Asker]
    ) -> bytes:
        count = item_count(operation, request)
        if askers and len(askers) != count:
            raise FrameInvalid("a batch names another number of askers than of items")
        try:
            answer = self._operate(operation, reference, request)
        except VendingKeyUnknown as error:
            self._recorder.refuse(operation, reference, askers or [NOBODY] * count, error.reason)
            raise
        # No log entry, no token: the answer is not even sent if its entries are not durable.
        return answer + self._recorder.record(operation, reference, request, answer, askers)

    def _operate(self, operation: Operation, reference: KeyReference | None, request: bytes) -> bytes:
        def work(rest: bytes) -> bytes:
            return self._ask_module(operation, rest, reference)

        if (unleased := self._recorder.unleased(operation)) is not None:
            return work_on_rest(operation, request, range(item_count(operation, request)), unleased, work)
        unwitnessed = self._recorder.unwitnessed(operation, request)
        if not unwitnessed:
            return work(request)
        if reference is not None and self._session.key(reference) is None:
            # A key that is not there is refused as such, whether the module is asked or not.
            raise VendingKeyUnknown(f"no vending key {reference}")
        return work_on_rest(operation, request, unwitnessed, Reason.LOG_NOT_WITNESSED, work)


def read_pin(path: Path) -> str:
    """Read the PIN; raises ModuleFault unless the file is this user's and closed to all others."""
    status = path.stat()
    if status.st_mode & 0o077 or status.st_uid != os.geteuid():
        raise ModuleFault(f"{path} must belong to this user and have mode 0600")
    return path.read_text("ascii").strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="keywatt-module-worker")
    parser.add_argument("--listener", type=int, required=True)
    parser.add_argument("--heartbeat", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--pin-file", type=Path, required=True)
    parser.add_argument("--library", type=Path, default=LIBRARY_PATH)
    parser.add_argument("--allow-user", type=int, action="append", required=True)
    parser.add_argument("--log-folder", type=Path, required=True)
    parser.add_argument("--checkpoint-seconds", type=float, required=True)
    parser.add_argument("--token-link", type=Path)
    parser.add_argument("--records", type=Path)
    parser.add_argument("--witnesses", type=WitnessDemands.unpack)
    return parser


def main() -> int:
    """Entry point, for the supervisor only."""
    arguments = _parser().parse_args()
    hardening.refuse_root()
    hardening.die_with_parent(arguments.parent)
    hardening.harden()
    # The appliance's group may read the log, nobody else.
    os.umask(0o027)
    heartbeat = Heartbeat(arguments.heartbeat)

    def reopen() -> ModuleSession:
        try:
            pin = read_pin(arguments.pin_file)
        except OSError as error:
            raise ModuleFault(f"the PIN cannot be read: {error.strerror}") from error
        return ModuleSession(arguments.library).open(pin)

    ceremonies = None
    if arguments.token_link is not None:
        traces = CeremonyTraces(token_link=arguments.token_link, records=arguments.records)
        ceremonies = Ceremonies(traces, reopen, heartbeat.begin, log)
    try:
        session = reopen()
        proved = self_test.run(session)
    except HsmError as error:
        log("start-failed", reason=error.reason, detail=error)
        return EXIT_SELF_TEST
    try:
        recorder = Recorder(
            session,
            arguments.log_folder,
            checkpoint_seconds=arguments.checkpoint_seconds,
            log=log,
            witnesses=arguments.witnesses,
        )
        recorder.open()
    except (HsmError, LogError) as error:
        log("start-failed", reason=error.reason, detail=error, hint=error.hint)
        return EXIT_LOG
    heartbeat.end()
    listener = socket.socket(fileno=arguments.listener)
    worker = Worker(session, recorder, listener, heartbeat, frozenset(arguments.allow_user), ceremonies)
    signal.signal(signal.SIGTERM, worker.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    heartbeat.set_ready()
    log("serving", keys_proved=proved)
    try:
        worker.serve()
    except HsmError as error:
        log("library-fault", detail=error)
        return EXIT_FAULT
    recorder.close()
    session.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
