"""The composition root: reads the configuration, connects the module, serves gRPC over mutual TLS."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

import grpc
import structlog
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from keywatt.certification.v1 import certification_pb2, certification_pb2_grpc
from keywatt.keys.v1 import keys_pb2, keys_pb2_grpc
from keywatt.vending.v1 import vending_pb2, vending_pb2_grpc

from appliance.config import ApplianceSettings
from appliance.errors import ApplianceError, ConfigurationInvalid
from appliance.interceptors.calls import CallInterceptor
from appliance.issuing.identifiers import IdentifierRegister
from appliance.issuing.issuer import Issuer
from appliance.issuing.module import ModuleCatalogue, ModuleView
from appliance.services.certification import CertificationService
from appliance.services.keys import KeysService
from appliance.services.vending import VendingService
from hsm import hardening
from hsm.client import ModuleClient
from hsm.errors import HsmError
from hsm.status import Profile

logger = structlog.get_logger("keywatt.appliance")
_MODULE_WAIT_SECONDS = 30.0
_HEALTH_SECONDS = 0.5
_DRAIN_SECONDS = 10.0
_MESSAGE_MAX = 256 * 1024


def _credentials(settings: ApplianceSettings) -> grpc.ServerCredentials:
    tls = settings.tls
    try:
        pair = (tls.private_key.read_bytes(), tls.certificate.read_bytes())
        client_ca = tls.client_ca.read_bytes()
    except OSError as error:
        raise ConfigurationInvalid(f"tls: {error.filename}: {error.strerror}") from None
    return grpc.ssl_server_credentials([pair], root_certificates=client_ca, require_client_auth=True)


async def _await_module(catalogue: ModuleCatalogue) -> ModuleView:
    """Wait for the module process, which may start after us."""
    deadline = asyncio.get_running_loop().time() + _MODULE_WAIT_SECONDS
    while True:
        try:
            return await catalogue.view()
        except HsmError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            logger.info("waiting-for-module", reason=error.reason)
            await asyncio.sleep(0.2)


def _require_two_users(view: ModuleView, client: ModuleClient) -> None:
    if view.status.profile is Profile.PRODUCTION and client.peer_user == os.geteuid():
        raise ConfigurationInvalid("in production, appliance and module process run as two system users")


async def _watch_health(client: ModuleClient, servicer: health.aio.HealthServicer, services: list[str]) -> None:
    """Say NOT_SERVING while the module does not answer, so that a load balancer looks elsewhere."""
    while True:
        try:
            await client.status()
            state: int = health_pb2.HealthCheckResponse.SERVING
        except HsmError:
            state = health_pb2.HealthCheckResponse.NOT_SERVING
        for name in services:
            await servicer.set(name, state)
        await asyncio.sleep(_HEALTH_SECONDS)


async def serve(settings: ApplianceSettings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way.

    Raises:
        ConfigurationInvalid: unreadable certificates, a port that is taken, or an unsafe set-up.
        HsmError: no module process answered.
    """
    client = ModuleClient(settings.module_socket, in_flight_max=settings.in_flight_max)
    catalogue = ModuleCatalogue(client)
    credentials = _credentials(settings)
    view = await _await_module(catalogue)
    _require_two_users(view, client)
    issuer = Issuer(
        catalogue=catalogue,
        identifiers=IdentifierRegister(
            look_ahead_minutes=settings.issuing.look_ahead_minutes, replay=view.certification
        ),
        automatic_key_change=settings.issuing.automatic_key_change,
    )
    server = grpc.aio.server(
        interceptors=[CallInterceptor()], options=[("grpc.max_receive_message_length", _MESSAGE_MAX)]
    )
    services = [
        vending_pb2.DESCRIPTOR.services_by_name["VendingService"].full_name,
        keys_pb2.DESCRIPTOR.services_by_name["KeysService"].full_name,
    ]
    vending_pb2_grpc.add_VendingServiceServicer_to_server(VendingService(issuer), server)
    keys_pb2_grpc.add_KeysServiceServicer_to_server(KeysService(catalogue), server)
    if view.certification:
        certification_pb2_grpc.add_CertificationServiceServicer_to_server(CertificationService(issuer), server)
        services.append(certification_pb2.DESCRIPTOR.services_by_name["CertificationService"].full_name)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if view.status.profile is Profile.DEVELOPMENT:
        names = [*services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, server)
    try:
        server.add_secure_port(settings.listen, credentials)
    except RuntimeError:
        raise ConfigurationInvalid(f"listen: cannot bind {settings.listen}") from None
    await server.start()
    logger.info("serving", listen=settings.listen, mode=view.status.mode.name, profile=view.status.profile.name)
    watcher = asyncio.create_task(_watch_health(client, servicer, ["", *services]))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    logger.info("draining")
    watcher.cancel()
    await server.stop(_DRAIN_SECONDS)
    await client.close()
    logger.info("stopped")


def main() -> int:
    """Entry point ``keywatt-appliance``."""
    parser = argparse.ArgumentParser(prog="keywatt-appliance", description="Serve tokens over gRPC with mutual TLS.")
    parser.add_argument("--config", type=Path, default=Path("/etc/keywatt/appliance.toml"), help="settings (TOML)")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one ends")
    arguments = parser.parse_args()
    if arguments.with_parent:
        hardening.die_with_parent(os.getppid())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    hardening.refuse_root()
    hardening.harden()
    try:
        uvloop.run(serve(ApplianceSettings.read(arguments.config)))
    except (ApplianceError, HsmError) as error:
        print(f"keywatt-appliance: {error.reason}: {error}\n{error.hint}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
