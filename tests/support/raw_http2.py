"""HTTP/2 frames by hand, over TLS: what no library would send."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import Self

from appliance.client.client import ClientProfile

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RESET, SETTINGS, PING, CONTINUATION, DATA = 1, 3, 4, 6, 9, 0
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header that no table remembers (RFC 7541, 6.2.2)."""
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def _length(value: int) -> bytes:
    if value < 127:
        return bytes([value])
    value -= 127
    out = bytearray([127])
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def call_headers(path: bytes) -> bytes:
    return b"".join(
        literal(name, value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":path", path),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
    )


class Connection:
    """A connection that says what it likes; it ends when the other side ends it."""

    def __init__(self, port: int, profile: ClientProfile, *, settled: bool = True) -> None:
        context = ssl.create_default_context(cafile=str(profile.server_ca))
        context.load_cert_chain(str(profile.certificate), str(profile.private_key))
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        if settled:
            self.send(PREFACE + frame(SETTINGS, 0, 0))

    def send(self, octets: bytes) -> bool:
        """Send; tell whether the other side still takes it."""
        try:
            self.socket.sendall(octets)
        except (OSError, ssl.SSLError):
            return False
        return True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
