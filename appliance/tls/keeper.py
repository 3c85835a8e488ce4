"""Keeps certificates and revocation lists: reads them anew when they change, without a restart and without lost calls.

New connections get the new certificate; those that stand go on. Files that are wrong change nothing, and are told of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta

import grpc
import structlog

from appliance.config import TlsSettings
from appliance.errors import ConfigurationInvalid
from appliance.horizons import Horizon, ends
from appliance.tls.clients import ClientCertificates
from appliance.tls.files import TlsFiles, state_of
from appliance.tls.revocation import RevocationLists

logger = structlog.get_logger("keywatt.appliance")
_LOOK_SECONDS = 1.0


class TlsKeeper:
    """Reads the files of the settings.

    Args:
        settings: where they are.
        clients: gets authorities and their revocation lists.

    Raises:
        ConfigurationInvalid: they cannot be used.
    """

    def __init__(self, settings: TlsSettings, clients: ClientCertificates) -> None:
        self._settings = settings
        self._clients = clients
        self._paths = [settings.certificate, settings.private_key, settings.client_ca]
        if settings.revocation_lists is not None:
            self._paths.append(settings.revocation_lists)
        self._fresh: grpc.ServerCertificateConfiguration | None = None
        self._seen = self._refused = state_of(self._paths)
        self._files, self._lists = self._read()
        clients.put(self._files.authorities, self._lists)

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that ask for what is in force at every handshake."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._files),
            self._take,  # type: ignore[arg-type]  # None, for what is in force, is an answer too
            require_client_authentication=True,
        )

    def _take(self) -> grpc.ServerCertificateConfiguration | None:
        """Return another configuration once; called by the library, in threads of its own."""
        fresh, self._fresh = self._fresh, None
        return fresh

    def _read(self) -> tuple[TlsFiles, RevocationLists | None]:
        files = TlsFiles.read(self._settings)
        if self._settings.revocation_lists is None:
            return files, None
        grace = timedelta(hours=self._settings.revocation_grace_hours)
        return files, RevocationLists.read(self._settings.revocation_lists, files.authorities, grace)

    def look(self) -> bool:
        """Read the files if they have changed; tell whether others are in force now."""
        state = state_of(self._paths)
        if state == self._seen:
            return False
        try:
            files, lists = self._read()
        except ConfigurationInvalid as error:
            # Half of a change perhaps, or a disk that fails once: it is tried again, and told of once.
            if state != self._refused:
                logger.warning("certificates-refused", detail=str(error))
            self._refused = state
            return False
        self._seen = state
        if files != self._files:
            self._fresh = _configuration(files)
        self._files, self._lists = files, lists
        self._clients.put(files.authorities, lists)
        logger.warning(
            "certificates-in-force",
            serial=f"{files.server.serial_number:x}",
            not_after=files.server.not_valid_after_utc.isoformat(timespec="minutes"),
            next_updates={} if lists is None else {n: t.isoformat() for n, t in lists.next_updates.items()},
        )
        return True

    async def watch(self) -> None:
        """Look again and again, for ever."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - whoever watches must go on watching
                logger.warning("certificates-refused", detail=type(error).__name__)

    def horizons(self, now: datetime) -> Iterable[Horizon]:
        """Return when our certificate, the clients' authorities and their lists end."""
        yield ends(
            "server-certificate", f"{self._files.server.serial_number:x}", self._files.server.not_valid_after_utc, now
        )
        for authority in self._files.authorities:
            yield ends("client-ca", authority.subject.rfc4514_string(), authority.not_valid_after_utc, now)
        for name, moment in ({} if self._lists is None else self._lists.next_updates).items():
            yield ends("revocation-list", name, moment, now)


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(files.private_key, files.certificate)], files.client_ca)
