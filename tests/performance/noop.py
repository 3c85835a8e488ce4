"""The floor: a grpc.aio server with the same loop, the same TLS and the same messages, that does nothing.

python -m tests.performance.noop PORT FOLDER    (FOLDER holds server.pem, server.key, client-ca.pem)
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop
from keywatt.type.v1 import meter_pb2, token_pb2
from keywatt.vending.v1 import vending_pb2, vending_pb2_grpc

RESPONSE = vending_pb2.IssueCreditTokenResponse(
    token=token_pb2.Token(
        digits="01234567890123456789",
        grouped="0123 4567 8901 2345 6789",
        token_identifier=6780383,
        token_time="2026-11-22T14:23",
    ),
    effective_amount="25.6",
    unit=token_pb2.UNIT_KILOWATT_HOUR,
    provenance=token_pb2.Provenance(
        key=meter_pb2.VendingKeyReference(
            supply_group_code="201457",
            key_revision_number=1,
            key_type=meter_pb2.KEY_TYPE_UNIQUE,
            base_date=meter_pb2.BASE_DATE_2014,
            key_expiry_number=255,
            decoder_key_generation_algorithm=4,
            check_value="6C3DE4",
            check_value_algorithm="SHA-256(01 || VK)[0..2]",
            test_key=True,
        ),
        module_id="keywatt-vm",
    ),
)


class NoOp(vending_pb2_grpc.VendingServiceServicer):
    async def IssueCreditToken(  # noqa: N802 - gRPC's name
        self, _request: vending_pb2.IssueCreditTokenRequest, _context: Any
    ) -> vending_pb2.IssueCreditTokenResponse:
        return RESPONSE


async def serve(port: int, folder: Path) -> None:
    pair = ((folder / "server.key").read_bytes(), (folder / "server.pem").read_bytes())
    credentials = grpc.ssl_server_credentials([pair], (folder / "client-ca.pem").read_bytes(), require_client_auth=True)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    vending_pb2_grpc.add_VendingServiceServicer_to_server(NoOp(), server)
    server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
