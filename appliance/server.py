"""The composition root: reads the configuration, connects the module, serves gRPC over mutual TLS."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import time
from pathlib import Path

import grpc
import structlog
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from keywatt.audit.v1 import audit_pb2, audit_pb2_grpc
from keywatt.certification.v1 import certification_pb2, certification_pb2_grpc
from keywatt.keys.v1 import keys_pb2, keys_pb2_grpc
from keywatt.vending.v1 import vending_pb2, vending_pb2_grpc

from appliance import processes
from appliance.audit.identify import Identifier
from appliance.audit.log_reader import LogReader
from appliance.audit.receipts import Receipts
from appliance.audit.witnesses import WitnessRounds
from appliance.config import ApplianceSettings
from appliance.errors import ApplianceError, ClockStopped, ConfigurationInvalid, LedgerUnavailable
from appliance.interceptors.calls import Calls
from appliance.issuing.issuer import Issuer
from appliance.issuing.module import ModuleCatalogue, ModuleView
from appliance.issuing.pipeline import Pipeline
from appliance.issuing.time_guard import TimeGuard
from appliance.issuing.verifier import Verifier
from appliance.ledger.answers import AnswerCipher
from appliance.ledger.ledger import Ledger
from appliance.policy.authority import Authority
from appliance.policy.keeper import PolicyKeeper
from appliance.services.audit import AuditService
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
_HEALTH_PATIENCE_SECONDS = 3.0
_CLOCK_SECONDS = 1.0
_ALARM_SECONDS = 60.0
_DRAIN_SECONDS = 10.0
_COLLECT = (20_000, 20, 20)
_MESSAGE_MAX = 1024 * 1024


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


async def _watch_health(
    client: ModuleClient, ledger: Ledger, guard: TimeGuard, servicer: health.aio.HealthServicer, services: list[str]
) -> None:
    """Say NOT_SERVING while module, ledger or clock do not allow a token, so that a load balancer looks elsewhere."""
    while True:
        state: int = health_pb2.HealthCheckResponse.NOT_SERVING
        try:
            async with asyncio.timeout(_HEALTH_PATIENCE_SECONDS):
                await client.status()
                await ledger.ping()
            guard.now()
            state = health_pb2.HealthCheckResponse.SERVING
        except (HsmError, ApplianceError, TimeoutError):
            pass
        except Exception as error:  # noqa: BLE001 - whoever watches must go on watching
            logger.warning("health-unknown", error=type(error).__name__)
        for name in services:
            await servicer.set(name, state)
        await asyncio.sleep(_HEALTH_SECONDS)


async def _watch_clock(ledger: Ledger, guard: TimeGuard) -> None:
    """Raise the alarm when the clock steps, and take in what an operator confirms."""
    alarmed = 0.0
    while True:
        try:
            async with asyncio.timeout(_HEALTH_PATIENCE_SECONDS):
                guard.learn(await ledger.clock_mark())
        except (ApplianceError, TimeoutError):
            pass
        except Exception as error:  # noqa: BLE001 - whoever watches must go on watching
            logger.warning("clock-mark-unknown", error=type(error).__name__)
        step = guard.step()
        now = asyncio.get_running_loop().time()
        if step and now - alarmed > _ALARM_SECONDS:
            alarmed = now
            logger.error("clock-stopped", stepped_seconds=round(step, 1), hint=ClockStopped.hint)
        elif not step and alarmed:
            alarmed = 0.0
            logger.warning("clock-agrees-again")
        await asyncio.sleep(_CLOCK_SECONDS)


async def _open_ledger(settings: ApplianceSettings, cipher: AnswerCipher, *, certification: bool) -> Ledger:
    """Open the ledger, waiting for a database that may start after us."""
    deadline = asyncio.get_running_loop().time() + _MODULE_WAIT_SECONDS
    while True:
        try:
            return await Ledger.open(settings.ledger.url, cipher, certification=certification)
        except LedgerUnavailable:
            if asyncio.get_running_loop().time() > deadline:
                raise
            logger.info("waiting-for-ledger")
            await asyncio.sleep(0.5)


async def serve(settings: ApplianceSettings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way.

    Raises:
        ConfigurationInvalid: unreadable certificates, a port that is taken, or an unsafe set-up.
        LedgerUnavailable: no database.
        HsmError: no module process answered.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = ModuleClient(settings.module_socket, in_flight_max=settings.in_flight_max)
    catalogue = ModuleCatalogue(client)
    credentials = _credentials(settings)
    cipher = AnswerCipher.read(settings.ledger.key)
    view = await _await_module(catalogue)
    _require_two_users(view, client)
    ledger = await _open_ledger(settings, cipher, certification=view.certification)
    try:
        await _serve(settings, catalogue, ledger, credentials, view, stop)
    finally:
        await ledger.close()
        await client.close()
    logger.info("stopped")


def _settle_memory() -> None:
    """Keep the collector from going through all that was loaded at the start, again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)


async def _keepers(
    settings: ApplianceSettings, catalogue: ModuleCatalogue, ledger: Ledger, authority: Authority, view: ModuleView
) -> list[PolicyKeeper]:
    """Put the policy in force, and return who looks for the next one."""
    if settings.policy is None:
        if view.status.profile is Profile.PRODUCTION:
            raise ConfigurationInvalid("policy: in production a policy says who may do what")
        logger.warning("no-policy", hint="every client of the CA may do everything; for development only")
        return []
    keeper = PolicyKeeper(settings.policy.folder, catalogue.client, ledger, authority)
    await keeper.load()
    return [keeper]


async def _serve(
    settings: ApplianceSettings,
    catalogue: ModuleCatalogue,
    ledger: Ledger,
    credentials: grpc.ServerCredentials,
    view: ModuleView,
    stop: asyncio.Event,
) -> None:
    guard = TimeGuard(settings.clock)
    guard.learn(await ledger.clock_mark())
    authority = Authority()
    issuer = Issuer(
        catalogue=catalogue,
        ledger=ledger,
        guard=guard,
        look_ahead_minutes=settings.issuing.look_ahead_minutes,
        automatic_key_change=settings.issuing.automatic_key_change,
        authority=authority,
    )
    pipeline = Pipeline(issuer, queue_max=settings.queue_max)
    keepers = await _keepers(settings, catalogue, ledger, authority, view)
    await ledger.forget_usage(int(time.time() * 1000))
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", _MESSAGE_MAX),
            ("grpc.so_reuseport", int(settings.processes > 1)),
        ],
    )
    services = [
        vending_pb2.DESCRIPTOR.services_by_name["VendingService"].full_name,
        keys_pb2.DESCRIPTOR.services_by_name["KeysService"].full_name,
    ]
    calls = Calls(log_calls=settings.log_calls, authority=authority)
    rounds: list[WitnessRounds] = []
    log = None if settings.audit is None else LogReader(settings.audit.log, catalogue.client)
    receipts = None if log is None else Receipts(log, ledger)
    vending = VendingService(pipeline, Verifier(catalogue), ledger, authority, receipts)
    calls.register(vending_pb2_grpc.add_VendingServiceServicer_to_server, vending, server)
    calls.register(keys_pb2_grpc.add_KeysServiceServicer_to_server, KeysService(catalogue, authority), server)
    if settings.audit is not None and log is not None and receipts is not None:
        identifier = Identifier(Verifier(catalogue), ledger, log)
        audit = AuditService(log, receipts, identifier, frozenset(settings.audit.auditors), authority)
        calls.register(audit_pb2_grpc.add_AuditServiceServicer_to_server, audit, server)
        services.append(audit_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name)
        if settings.audit.witnesses is not None:
            rounds.append(WitnessRounds(settings.audit.log, catalogue.client, settings.audit.witnesses))
    if view.certification:
        certification = CertificationService(ledger)
        calls.register(certification_pb2_grpc.add_CertificationServiceServicer_to_server, certification, server)
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
    _settle_memory()
    logger.info("serving", listen=settings.listen, mode=view.status.mode.name, profile=view.status.profile.name)

    def show_counters(event: str) -> None:
        logger.info(event, requests=pipeline.requests, batches=pipeline.batches, commits=ledger.commits)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, show_counters, "counters")
    watchers = [
        asyncio.create_task(_watch_health(catalogue.client, ledger, guard, servicer, ["", *services])),
        asyncio.create_task(_watch_clock(ledger, guard)),
        *(asyncio.create_task(one.run()) for one in rounds),
        *(asyncio.create_task(one.watch()) for one in keepers),
    ]
    await stop.wait()
    logger.info("draining")
    for watcher in watchers:
        watcher.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)
    await server.stop(_DRAIN_SECONDS)
    await pipeline.drain()
    show_counters("drained")


def main() -> int:
    """Read the command line and serve; see :mod:`appliance.start`."""
    parser = argparse.ArgumentParser(prog="keywatt-appliance", description="Serve tokens over gRPC with mutual TLS.")
    parser.add_argument("--config", type=Path, default=Path("/etc/keywatt/appliance.toml"), help="settings (TOML)")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one ends")
    parser.add_argument("--one-of-several", action="store_true", help=argparse.SUPPRESS)
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
        settings = ApplianceSettings.read(arguments.config)
        if settings.processes > 1 and not arguments.one_of_several:
            processes.require_shared_ledger(settings)
            return processes.supervise(settings.processes, arguments.config)
        uvloop.run(serve(settings))
    except (ApplianceError, HsmError) as error:
        print(f"keywatt-appliance: {error.reason}: {error}\n{error.hint}", file=sys.stderr)
        return processes.EXIT_CONFIGURATION if isinstance(error, ConfigurationInvalid) else processes.EXIT_UNAVAILABLE
    return 0
