"""keywatt.keys.v1.KeysService: attributes and check values, never a key."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from keywatt.keys.v1 import keys_pb2, keys_pb2_grpc

from appliance import __version__
from appliance.errors import FieldInvalid, PageTokenInvalid
from appliance.interceptors.peer import peer_name
from appliance.issuing.module import ModuleCatalogue
from appliance.policy.authority import Authority
from appliance.services import to_proto
from hsm.keys import VendingKey
from hsm.log.notes import ED25519, VerifierKey
from hsm.status import ModuleStatus

_PAGE_DEFAULT = 100
_PAGE_MAX = 1000
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the module's minutes are naive, in its own zone


def _protection(status: ModuleStatus) -> keys_pb2.ProtectionLevel.ValueType:
    return keys_pb2.PROTECTION_LEVEL_HARDWARE if status.hardware else keys_pb2.PROTECTION_LEVEL_SOFTWARE


def _show(key: VendingKey, level: keys_pb2.ProtectionLevel.ValueType) -> keys_pb2.VendingKey:
    return keys_pb2.VendingKey(
        reference=to_proto.vending_key(key),
        activation=key.activation.isoformat(timespec="minutes") if key.activation else "",
        issued_until=key.issued_until.isoformat(timespec="minutes") if key.issued_until else "",
        allowed_subclasses=[f"{c}.{s}" for c in (0, 2) for s in range(16) if key.allows(c, s)],
        key_change_allowed=key.key_change,
        origin=key.origin.value,
        protection_level=level,
        refresh_until=key.refresh_until.isoformat(timespec="minutes") if key.refresh_until else "",
        unit_limit=_limit(key.unit_limit, 1),
        currency_limit=_limit(key.currency_limit, 5),
        state=keys_pb2.KEY_STATE_RETIRED if key.is_retired else keys_pb2.KEY_STATE_ACTIVE,
    )


def _limit(value: int, places: int) -> str:
    return f"{Decimal(value).scaleb(-places):f}" if value else ""


def _offset(minutes: int) -> str:
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


class KeysService(keys_pb2_grpc.KeysServiceServicer):
    """Shows what the module shows."""

    def __init__(self, catalogue: ModuleCatalogue, authority: Authority) -> None:
        self._authority = authority
        self._catalogue = catalogue

    async def ListVendingKeys(
        self, request: keys_pb2.ListVendingKeysRequest, context: Any
    ) -> keys_pb2.ListVendingKeysResponse:
        """List keys by page; a page token is the name of the last key shown."""
        self._authority.require_reading(peer_name(context))
        if request.page_size > _PAGE_MAX:
            raise FieldInvalid(f"page_size is at most {_PAGE_MAX}", field="page_size")
        view = await self._catalogue.view()
        keys = sorted(view.keys.values(), key=lambda key: str(key.reference))
        if request.page_token:
            names = [str(key.reference) for key in keys]
            if request.page_token not in names:
                raise PageTokenInvalid("the page token is none of this service")
            keys = keys[names.index(request.page_token) + 1 :]
        size = request.page_size or _PAGE_DEFAULT
        level = _protection(view.status)
        return keys_pb2.ListVendingKeysResponse(
            keys=[_show(key, level) for key in keys[:size]],
            next_page_token=str(keys[size - 1].reference) if len(keys) > size else "",
        )

    async def GetModuleStatus(
        self, request: keys_pb2.GetModuleStatusRequest, context: Any
    ) -> keys_pb2.GetModuleStatusResponse:
        """Show the module as it is at this moment."""
        self._authority.require_reading(peer_name(context))
        client = self._catalogue.client
        status = await client.status()
        officers = await client.officers()
        key = VerifierKey(name=status.module_id, kind=ED25519, public=await client.audit_key())
        return keys_pb2.GetModuleStatusResponse(
            module_id=status.module_id,
            mode=status.mode.name.lower(),
            profile=status.profile.name.lower(),
            module_version=status.module_version,
            build_digest=status.source_digest.hex(),
            library=f"{status.library} {status.library_version}",
            token_label=status.token_label,
            token_serial=status.token_serial,
            tables_name=status.tables_name,
            tables_digest=status.tables_digest.hex(),
            sample_tables=status.sample_tables,
            clock=(_EPOCH + timedelta(minutes=status.clock_minutes)).isoformat(timespec="minutes"),
            utc_offset=_offset(status.utc_offset_minutes),
            keys=status.keys,
            keys_refused=status.keys_refused,
            issued=status.issued,
            verified=status.verified,
            key_changes=status.key_changes,
            refused=status.refused,
            self_test_passed=status.self_test_passed,
            configuration_root_owned=status.config_root_owned,
            protection_level=_protection(status),
            single_user=client.peer_user == os.geteuid(),
            appliance_version=__version__,
            identifier_past_minutes=status.past_window_minutes,
            identifier_future_minutes=status.future_window_minutes,
            log_verifier_key=str(key),
            officers_digest="" if officers is None else officers.digest.hex(),
        )
