"""``keywatt-witness``: a small witness, for tests and for whoever wants one of their own.

    keywatt-witness key FILE --name NAME     make a key; prints the verifier key
    keywatt-witness serve --key FILE --name NAME --folder FOLDER --log KEY --listen ADDRESS:PORT

It belongs on another machine than the module, run by other people: an auditor, a regulator, another utility. Any other
witness of c2sp.org/tlog-witness serves as well. Exit status: 0 stopped, 2 it cannot begin.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hsm.log.cli import key_argument
from hsm.log.durable import flush_folder
from hsm.log.errors import LogError, NoteInvalid
from hsm.log.notes import COSIGNATURE, VerifierKey
from hsm.log.witnessing import PATH, REQUEST_MAX, Answer, WitnessService, opened

_STOPPED, _USAGE = 0, 2
_PATIENCE_SECONDS = 10
_CONNECTION_SECONDS = 15
_CONNECTIONS_MAX = 64


class _Handler(BaseHTTPRequestHandler):
    """One request a connection."""

    timeout = _PATIENCE_SECONDS
    server_version = "keywatt-witness"
    sys_version = ""

    def __init__(self, service: WitnessService, *arguments: object) -> None:
        self._service = service
        super().__init__(*arguments)  # type: ignore[arg-type]  # as the server calls it

    def do_POST(self) -> None:
        """Answer add-checkpoint."""
        length = self.headers.get("Content-Length", "")
        if self.path != PATH:
            self._send(Answer(status=404, body=b"a witness answers POST /add-checkpoint\n"))
        elif not (length.isascii() and length.isdigit()):
            self._send(Answer(status=411, body=b"a request has a length\n"))
        elif int(length) > REQUEST_MAX:
            self._send(Answer(status=413, body=b"the request is too long\n"))
        else:
            self._send(self._service.add_checkpoint(self.rfile.read(int(length))))

    def _send(self, answer: Answer) -> None:
        self.close_connection = True
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Write a line, without what a stranger sent: status and address alone."""
        status = int(code) if isinstance(code, int) else "-"
        print(f"request from={self.client_address[0]} status={status} octets={size}", file=sys.stderr, flush=True)

    def log_error(self, *_: object) -> None:
        """Write nothing more."""


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    # Those under way are waited for, so that no other process of this witness begins meanwhile.
    daemon_threads = False
    block_on_close = True
    request_queue_size = _CONNECTIONS_MAX

    def __init__(self, address: tuple[str, int], service: WitnessService, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._places = threading.BoundedSemaphore(_CONNECTIONS_MAX)
        super().__init__(address, partial(_Handler, service))

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread for a connection; those beyond the limit are turned away."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Work on one connection, for so long and no longer: one that drips would hold its place for ever."""
        # Another name of the same connection: TLS takes the first one over.
        connection = request.dup()
        end = threading.Timer(_CONNECTION_SECONDS, partial(_cut, connection))
        end.daemon = True
        end.start()
        try:
            if self._tls is not None:
                # In the connection's own thread: a client that says nothing holds up nobody else.
                request.settimeout(_PATIENCE_SECONDS)
                request = self._tls.wrap_socket(request, server_side=True)
            super().process_request_thread(request, client_address)
        except OSError:
            self.shutdown_request(request)
        finally:
            end.cancel()
            connection.close()
            self._places.release()

    def handle_error(self, *_: object) -> None:
        """Write a line; a client that went away is no more than that."""
        print(f"request-failed error={type(sys.exception()).__name__}", file=sys.stderr, flush=True)


def _make_key(arguments: argparse.Namespace) -> int:
    private = Ed25519PrivateKey.generate()
    key = VerifierKey(name=arguments.name, kind=COSIGNATURE, public=private.public_key().public_bytes_raw())
    octets = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # Never over another key: who trusts the old one would trust nobody.
    descriptor = os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(descriptor)
    flush_folder(arguments.file.resolve().parent)
    print(key)
    return _STOPPED


def _read_key(path: Path) -> Ed25519PrivateKey:
    if path.stat().st_mode & 0o077:
        raise NoteInvalid(f"{path} must have mode 0600")
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise NoteInvalid(f"{path} holds no Ed25519 key in PEM")
    return private


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise argparse.ArgumentTypeError("an address is HOST:PORT")
    return host, int(port)


def _serve(arguments: argparse.Namespace) -> int:
    private = _read_key(arguments.key)
    key = VerifierKey(name=arguments.name, kind=COSIGNATURE, public=private.public_key().public_bytes_raw())
    tls = None
    if arguments.certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(arguments.certificate, arguments.private_key)
    arguments.folder.mkdir(mode=0o700, exist_ok=True)
    with opened(arguments.folder) as state:
        for log in arguments.log:
            # What cannot be read now would be refused at every request.
            state.get(log)
        service = WitnessService(arguments.name, private, arguments.log, state)
        server = _Server(arguments.listen, service, tls)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
        print(f"serving listen={arguments.listen[0]}:{server.server_port} key={key}", file=sys.stderr, flush=True)
        server.serve_forever(poll_interval=0.1)
        server.server_close()
    return _STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="keywatt-witness", description="Cosign checkpoints of logs that only grow.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    key = commands.add_parser("key", help="make a key and print its verifier key")
    key.add_argument("file", type=Path, help="where to write it; must not exist")
    key.add_argument("--name", required=True, help="name of the witness, such as witness.example.org/keywatt")
    key.set_defaults(work=_make_key)
    serve = commands.add_parser("serve", help="serve over HTTP, or over HTTPS with a certificate")
    serve.add_argument("--key", type=Path, required=True, help="file that keywatt-witness key wrote")
    serve.add_argument("--name", required=True, help="name of the witness, as the key was made for")
    serve.add_argument("--folder", type=Path, required=True, help="what it remembers; made if missing")
    serve.add_argument("--log", type=key_argument, action="append", required=True, help="verifier key of a log")
    serve.add_argument("--listen", type=_address, default=("127.0.0.1", 8089), help="HOST:PORT")
    serve.add_argument("--certificate", type=Path, help="PEM")
    serve.add_argument("--private-key", type=Path, help="PEM, of the certificate")
    serve.set_defaults(work=_serve)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see the module."""
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.work(parsed)
    except LogError as error:
        print(f"keywatt-witness: {error.reason}: {error}\n{error.hint}", file=sys.stderr)
        return _USAGE
    except OSError as error:
        print(f"keywatt-witness: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return _USAGE
    return code


if __name__ == "__main__":
    sys.exit(main())
