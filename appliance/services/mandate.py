"""keywatt.mandate.v1.MandateService: policy, lease, and what will end."""

from __future__ import annotations

from typing import Any

from keywatt.mandate.v1 import mandate_pb2, mandate_pb2_grpc

from appliance.errors import FieldMissing
from appliance.horizons import Horizon, Horizons
from appliance.interceptors.peer import peer_name
from appliance.policy.authority import Authority
from appliance.policy.lease import LeaseKeeper
from hsm.mandate import Lease

_MINUTE_SECONDS = 60


def _lease(lease: Lease) -> mandate_pb2.Lease:
    message = mandate_pb2.Lease(number=lease.number)
    message.from_time.FromSeconds(lease.valid_from * _MINUTE_SECONDS)
    message.until_time.FromSeconds(lease.valid_until * _MINUTE_SECONDS)
    return message


def _horizon(horizon: Horizon) -> mandate_pb2.Horizon:
    message = mandate_pb2.Horizon(
        kind=horizon.kind,
        subject=horizon.subject,
        used=horizon.used,
        urgency=mandate_pb2.Urgency.ValueType(int(horizon.urgency)),
    )
    if horizon.moment is not None:
        message.time.FromDatetime(horizon.moment)
    return message


class MandateService(mandate_pb2_grpc.MandateServiceServicer):
    """Shows what the officers allow, and passes their leases on.

    Args:
        lease: the lease of the module.
        authority: the policy in force.
        horizons: what will end.
        module_id: name of the module.
    """

    def __init__(self, lease: LeaseKeeper, authority: Authority, horizons: Horizons, module_id: str) -> None:
        self._keeper = lease
        self._authority = authority
        self._horizons = horizons
        self._module_id = module_id

    async def GetMandate(self, _: mandate_pb2.GetMandateRequest, context: Any) -> mandate_pb2.GetMandateResponse:
        """Show what is in force."""
        self._authority.require_reading(peer_name(context))
        mandate = await self._keeper.refresh()
        response = mandate_pb2.GetMandateResponse(
            module_id=self._module_id,
            lease_required=mandate.lease_required,
            lease=None if mandate.lease is None else _lease(mandate.lease),
            horizons=[_horizon(one) for one in self._horizons.all()],
        )
        policy = self._authority.policy
        if policy is not None:
            response.policy.number, response.policy.digest = policy.number, policy.digest.hex()
            response.policy.title = policy.title
            response.policy.signed_by.extend(self._authority.signed_by)
        return response

    async def RenewLease(self, request: mandate_pb2.RenewLeaseRequest, context: Any) -> mandate_pb2.RenewLeaseResponse:
        """Take the next lease."""
        self._authority.require_lease_bearer(peer_name(context))
        for field in ("text", "signatures"):
            if not getattr(request, field):
                raise FieldMissing(f"{field} is missing", field=field)
        lease = await self._keeper.renew(request.text, request.signatures)
        return mandate_pb2.RenewLeaseResponse(lease=_lease(lease))
