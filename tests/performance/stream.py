"""The stream: messages of 200 requests, as many under way as the appliance takes.

python -m tests.performance.stream STATE SECONDS
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
from keywatt.vending.v1 import vending_pb2

from appliance.client.client import ClientProfile

_MESSAGE = 200
_UNDER_WAY = 8


def main() -> None:
    from tests.performance.bench_system import SERVICE, request

    profile = ClientProfile.read(Path(sys.argv[1]) / "client" / "client.toml")
    seconds = float(sys.argv[2])
    source = random.Random(time.time())
    messages = [
        vending_pb2.StreamIssueTokensRequest(
            requests=[vending_pb2.TokenRequest(credit=request(source)) for _ in range(_MESSAGE)]
        ).SerializeToString()
        for _ in range(int(seconds * 25_000 / _MESSAGE))
    ]
    credentials = grpc.ssl_channel_credentials(
        profile.server_ca.read_bytes(), profile.private_key.read_bytes(), profile.certificate.read_bytes()
    )
    room = threading.Semaphore(_UNDER_WAY)
    sent: list[float] = []
    stop = threading.Event()

    def send() -> Iterator[bytes]:
        for message in messages:
            room.acquire()
            if stop.is_set():
                return
            sent.append(time.monotonic())
            yield message

    with grpc.secure_channel(profile.address, credentials) as channel:
        call = channel.stream_stream(SERVICE + "StreamIssueTokens", request_serializer=None, response_deserializer=None)
        start, waits = time.monotonic(), []
        for _ in call(send(), timeout=seconds + 30):
            now = time.monotonic()
            # Answers keep no order; as a distribution they do.
            waits.append(now - sent[len(waits)])
            if now - start > seconds:
                stop.set()
            room.release()
        took = time.monotonic() - start
    waits.sort()
    figures = {
        "rate": len(waits) * _MESSAGE / took,
        "p50_us": statistics.median(waits) * 1e6,
        "p99_us": waits[int(len(waits) * 0.99)] * 1e6,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
