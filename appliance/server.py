"""The composition root: reads the configuration, connects the module, serves gRPC over mutual TLS."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import structlog
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from keywatt.approval.v1 import approval_pb2, approval_pb2_grpc
from keywatt.audit.v1 import audit_pb2, audit_pb2_grpc
from keywatt.certification.v1 import certification_pb2, certification_pb2_grpc
from keywatt.keys.v1 import keys_pb2, keys_pb2_grpc
from keywatt.mandate.v1 import mandate_pb2, mandate_pb2_grpc
from keywatt.vending.v1 import vending_pb2, vending_pb2_grpc

from appliance import metrics, processes
from appliance.audit.identify import Identifier
from appliance.audit.log_reader import LogReader
from appliance.audit.receipts import Receipts
from appliance.audit.witnesses import WitnessRounds
from appliance.config import CONFIG_DEFAULT, TLS_SUITES, ApplianceSettings
from appliance.errors import ApplianceError, ClockStopped, ConfigurationInvalid, LedgerUnavailable
from appliance.horizons import Horizons
from appliance.interceptors.calls import Calls
from appliance.issuing.issuer import Issuer
from appliance.issuing.key_horizons import KeyHorizons
from appliance.issuing.module import ModuleCatalogue, ModuleView
from appliance.issuing.pipeline import Pipeline
from appliance.issuing.time_guard import TimeGuard
from appliance.issuing.verifier import Verifier
from appliance.ledger.answers import AnswerCipher
from appliance.ledger.ledger import Ledger
from appliance.ledger.proposals import Proposals
from appliance.policy.authority import Authority
from appliance.policy.fill import LimitFill
from appliance.policy.keeper import PolicyKeeper
from appliance.policy.lease import LeaseKeeper
from appliance.services.approvals import ApprovalService
from appliance.services.audit import AuditService
from appliance.services.certification import CertificationService
from appliance.services.keys import KeysService
from appliance.services.mandate import MandateService
from appliance.services.vending import VendingService
from appliance.tls.clients import ClientCertificates
from appliance.tls.keeper import TlsKeeper
from appliance.watches import HealthWatch, watch_clock, watch_horizons
from hsm import hardening
from hsm.client import ModuleClient
from hsm.errors import HsmError
from hsm.status import Profile

logger = structlog.get_logger("keywatt.appliance")
_MODULE_WAIT_SECONDS = 30.0
_DRAIN_SECONDS = 10.0
_SUITES = "GRPC_SSL_CIPHER_SUITES"
_FILES_BESIDE = 256
_USAGE_SECONDS = 40 * 24 * 3600
_COLLECT = (20_000, 20, 20)
_OPTIONS = [
    ("grpc.max_receive_message_length", 1024 * 1024),
    # Our clients send a few hundred octets of metadata; a flood of it is cut off before it fills the memory.
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 1000),
    # Who does not come to a handshake, or is silent without taking a connection down, makes room for others.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.http2.settings_timeout", 10_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_connection_idle_ms", 30 * 60_000),
]


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


async def serve(settings: ApplianceSettings, place: int = 0) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way.

    Args:
        settings: of the appliance.
        place: number of this process among those of one appliance, from 0.

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
    clients = ClientCertificates()
    tls = TlsKeeper(settings.tls, clients)
    cipher = AnswerCipher.read(settings.ledger.key)
    view = await _await_module(catalogue)
    _require_two_users(view, client)
    ledger = await _open_ledger(settings, cipher, certification=view.certification)
    try:
        appliance = _Appliance(settings, catalogue, ledger, view, clients)
        await appliance.prepare()
        await appliance.run(tls, stop, place)
    finally:
        await ledger.close()
        await client.close()
    logger.info("stopped")


def _require_version(settings: ApplianceSettings) -> None:
    # The library takes no other word for it, and took it when it was loaded (appliance.start).
    if os.environ.get(_SUITES, "") != TLS_SUITES[settings.tls.minimum_version]:
        raise ConfigurationInvalid(f"tls.minimum_version: {_SUITES} in the environment says otherwise")


def _require_files(settings: ApplianceSettings, limit: int) -> None:
    if limit < settings.connections_max + _FILES_BESIDE:
        raise ConfigurationInvalid(
            f"connections_max: {settings.connections_max} connections need more than {limit} open files (LimitNOFILE)"
        )


def _settle_memory() -> None:
    """Keep the collector from going through all that was loaded at the start, again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)


class _Appliance:
    """Everything that one process is made of, once the module and the ledger are there."""

    def __init__(
        self,
        settings: ApplianceSettings,
        catalogue: ModuleCatalogue,
        ledger: Ledger,
        view: ModuleView,
        clients: ClientCertificates,
    ) -> None:
        self.settings = settings
        self.catalogue = catalogue
        self.ledger = ledger
        self.view = view
        self.authority = Authority()
        self.guard = TimeGuard(settings.clock)
        self.lease = LeaseKeeper(catalogue.client, view.status.module_id, ledger)
        self.fill = LimitFill(ledger, self.authority)
        self.issuer = Issuer(
            catalogue=catalogue,
            ledger=ledger,
            guard=self.guard,
            look_ahead_minutes=settings.issuing.look_ahead_minutes,
            automatic_key_change=settings.issuing.automatic_key_change,
            authority=self.authority,
            lease=self.lease,
        )
        self.pipeline = Pipeline(self.issuer, queue_max=settings.queue_max)
        self.calls = Calls(log_calls=settings.log_calls, authority=self.authority, certificates=clients)
        self.policies = self._policies()
        self.servicer = health.aio.HealthServicer()
        self.services: list[str] = []
        self.rounds: list[WitnessRounds] = []

    def _policies(self) -> list[PolicyKeeper]:
        """Return who looks for policies; nobody in development, if the settings name no folder."""
        if self.settings.policy is None:
            if self.view.status.profile is Profile.PRODUCTION:
                raise ConfigurationInvalid("policy: in production a policy says who may do what")
            logger.warning("no-policy", hint="every client of the CA may do everything; for development only")
            return []
        return [PolicyKeeper(self.settings.policy.folder, self.catalogue.client, self.ledger, self.authority)]

    async def prepare(self) -> None:
        """Learn what the ledger and the module remember, and put the policy in force."""
        self.guard.learn(await self.ledger.clock_mark())
        for keeper in self.policies:
            await keeper.load()
        await self.lease.refresh()
        await self._forget_usage()

    async def _forget_usage(self) -> None:
        """Forget counters of windows that were over long ago, by a clock that is believed, or not at all."""
        try:
            now = self.guard.now().timestamp()
        except ClockStopped:
            return
        await self.ledger.forget_usage(int((now - _USAGE_SECONDS) * 1000))

    async def run(self, tls: TlsKeeper, stop: asyncio.Event, place: int) -> None:
        """Serve until told to stop."""
        horizons = Horizons(
            [tls.horizons, self.lease.horizons, self.fill.horizons, KeyHorizons(self.catalogue).horizons]
        )
        server = self._server(tls, horizons)
        health_watch = HealthWatch(
            client=self.catalogue.client,
            ledger=self.ledger,
            guard=self.guard,
            lease=self.lease,
            servicer=self.servicer,
            services=["", *self.services],
        )
        await health_watch.look()
        end_metrics = self._serve_metrics(horizons, health_watch, place)
        await server.start()
        _settle_memory()
        status = self.view.status
        logger.info("serving", listen=self.settings.listen, mode=status.mode.name, profile=status.profile.name)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._show_counters, "counters")
        watchers = [
            asyncio.create_task(work)
            for work in (
                health_watch.watch(),
                watch_clock(self.ledger, self.guard),
                watch_horizons(horizons),
                tls.watch(),
                self.lease.watch(),
                self.fill.watch(),
                *(one.run() for one in self.rounds),
                *(one.watch() for one in self.policies),
            )
        ]
        await stop.wait()
        logger.info("draining")
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        await server.stop(_DRAIN_SECONDS)
        await self.pipeline.drain()
        end_metrics()
        self._show_counters("drained")

    def _show_counters(self, event: str) -> None:
        pipeline = self.pipeline
        logger.info(event, requests=pipeline.requests, batches=pipeline.batches, commits=self.ledger.commits)

    def _serve_metrics(self, horizons: Horizons, watch: HealthWatch, place: int) -> Callable[[], None]:
        if self.settings.metrics is None:
            return lambda: None
        counts = metrics.Counts(
            calls=self.calls.counts,
            tokens=self.issuer.tokens,
            signals=lambda: self.authority.signals.counts,
            batches=lambda: self.pipeline.batches,
            requests=lambda: self.pipeline.requests,
            commits=lambda: self.ledger.commits,
            waiting=lambda: self.pipeline.waiting,
        )
        collector = metrics.ApplianceCollector(counts, horizons, lambda: watch.serves)
        return metrics.serve(self.settings.metrics.listen, place, collector)

    def _server(self, tls: TlsKeeper, horizons: Horizons) -> grpc.aio.Server:
        settings = self.settings
        options = [
            *_OPTIONS,
            ("grpc.so_reuseport", int(settings.processes > 1)),
            ("grpc.max_allowed_incoming_connections", settings.connections_max),
        ]
        server = grpc.aio.server(options=options)
        self._register(server, horizons)
        health_pb2_grpc.add_HealthServicer_to_server(self.servicer, server)
        if self.view.status.profile is Profile.DEVELOPMENT:
            names = [
                *self.services,
                health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
                reflection.SERVICE_NAME,
            ]
            reflection.enable_server_reflection(names, server)
        try:
            server.add_secure_port(settings.listen, tls.credentials())
        except RuntimeError:
            raise ConfigurationInvalid(f"listen: cannot bind {settings.listen}") from None
        return server

    def _register(self, server: grpc.aio.Server, horizons: Horizons) -> None:
        catalogue, ledger, authority = self.catalogue, self.ledger, self.authority
        audit = self.settings.audit
        log = None if audit is None else LogReader(audit.log, catalogue.client)
        receipts = None if log is None else Receipts(log, ledger)
        vending = VendingService(self.pipeline, Verifier(catalogue), ledger, authority, receipts)
        approvals = ApprovalService(
            pipeline=self.pipeline,
            proposals=Proposals(ledger),
            ledger=ledger,
            authority=authority,
            catalogue=catalogue,
            now=self.guard.now,
            automatic_key_change=self.settings.issuing.automatic_key_change,
        )
        mandate = MandateService(self.lease, authority, horizons, self.view.status.module_id)
        wanted: list[tuple[Callable[[Any, Any], None], object, Any]] = [
            (vending_pb2_grpc.add_VendingServiceServicer_to_server, vending, vending_pb2),
            (keys_pb2_grpc.add_KeysServiceServicer_to_server, KeysService(catalogue, authority), keys_pb2),
            (approval_pb2_grpc.add_ApprovalServiceServicer_to_server, approvals, approval_pb2),
            (mandate_pb2_grpc.add_MandateServiceServicer_to_server, mandate, mandate_pb2),
        ]
        if audit is not None and log is not None and receipts is not None:
            identifier = Identifier(Verifier(catalogue), ledger, log)
            service = AuditService(log, receipts, identifier, frozenset(audit.auditors), authority)
            wanted.append((audit_pb2_grpc.add_AuditServiceServicer_to_server, service, audit_pb2))
            if audit.witnesses is not None:
                self.rounds.append(WitnessRounds(audit.log, catalogue.client, audit.witnesses))
        if self.view.certification:
            resets = CertificationService(ledger)
            wanted.append(
                (certification_pb2_grpc.add_CertificationServiceServicer_to_server, resets, certification_pb2)
            )
        for add, servicer, module in wanted:
            self.calls.register(add, servicer, server)
            self.services += [service.full_name for service in module.DESCRIPTOR.services_by_name.values()]


def main() -> int:
    """Read the command line and serve; see :mod:`appliance.start`."""
    parser = argparse.ArgumentParser(prog="keywatt-appliance", description="Serve tokens over gRPC with mutual TLS.")
    parser.add_argument("--config", type=Path, default=CONFIG_DEFAULT, help="settings (TOML)")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one ends")
    parser.add_argument("--one-of-several", type=int, metavar="PLACE", help=argparse.SUPPRESS)
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
        if settings.processes > 1 and arguments.one_of_several is None:
            processes.require_shared_ledger(settings)
            return processes.supervise(settings.processes, arguments.config)
        _require_version(settings)
        _require_files(settings, hardening.raise_file_limit())
        uvloop.run(serve(settings, arguments.one_of_several or 0))
    except (ApplianceError, HsmError) as error:
        print(f"keywatt-appliance: {error.reason}: {error}\n{error.hint}", file=sys.stderr)
        return processes.EXIT_CONFIGURATION if isinstance(error, ConfigurationInvalid) else processes.EXIT_UNAVAILABLE
    return 0
