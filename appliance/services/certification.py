"""keywatt.certification.v1.CertificationService, registered in certification mode only."""

from __future__ import annotations

from typing import Any

from keywatt.certification.v1 import certification_pb2, certification_pb2_grpc

from appliance.issuing.issuer import Issuer


class CertificationService(certification_pb2_grpc.CertificationServiceServicer):
    """Puts the appliance into a known state between official tests."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    async def ResetTokenIdentifiers(
        self, request: certification_pb2.ResetTokenIdentifiersRequest, context: Any
    ) -> certification_pb2.ResetTokenIdentifiersResponse:
        """Forget every identifier."""
        return certification_pb2.ResetTokenIdentifiersResponse(meters=self._issuer.reset_identifiers())
