"""keywatt.certification.v1.CertificationService, registered in certification mode only."""

from __future__ import annotations

from typing import Any

from keywatt.certification.v1 import certification_pb2, certification_pb2_grpc

from appliance.ledger.ledger import Ledger


class CertificationService(certification_pb2_grpc.CertificationServiceServicer):
    """Puts the appliance into a known state between official tests."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def ResetTokenIdentifiers(
        self, request: certification_pb2.ResetTokenIdentifiersRequest, context: Any
    ) -> certification_pb2.ResetTokenIdentifiersResponse:
        """Forget every identifier, and every request with it."""
        return certification_pb2.ResetTokenIdentifiersResponse(meters=await self._ledger.forget_identifiers())
