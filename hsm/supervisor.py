"""Keeps one worker alive: starts it, watches the heartbeat, kills it at the deadline, starts the next.

Holds the listening socket through all of it, so that clients that connect meanwhile wait instead of failing. Never
loads the PKCS#11 library and never reads the PIN.
"""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import structlog

from hsm import hardening
from hsm.errors import HsmError
from hsm.heartbeat import Heartbeat
from hsm.session_paths import CONFIG_ENVIRONMENT, LIBRARY_PATH
from hsm.settings import ModuleSettings, SettingsInvalid

WORKER_MODULE = "hsm.worker"
_POLL_SECONDS = 0.01
_BACKOFF_FIRST = 0.05
_BACKOFF_MAX = 5.0
_STOP_SECONDS = 5.0
_BACKLOG = 128

logger = structlog.get_logger("keywatt.module")


class Supervisor:
    """One worker at a time, for as long as it is wanted."""

    def __init__(self, settings: ModuleSettings) -> None:
        """Bind the socket; raises SettingsInvalid for users that do not exist."""
        self._settings = settings
        self._stopping = False
        self._backoff = _BACKOFF_FIRST
        self._allowed = [_user_id(name) for name in settings.client_users]
        self._listener = _bind(settings.socket, settings.client_users)
        self.worker: subprocess.Popen[bytes] | None = None

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """End the worker after its request in hand, then this process."""
        self._stopping = True

    def run(self) -> None:
        """Keep a worker alive until :meth:`stop`."""
        while not self._stopping:
            heartbeat = Heartbeat.create()
            try:
                self._run_worker(heartbeat)
            finally:
                heartbeat.close()
        self._listener.close()
        self._settings.socket.unlink(missing_ok=True)

    def _spawn(self, heartbeat: Heartbeat) -> subprocess.Popen[bytes]:
        settings = self._settings
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8", CONFIG_ENVIRONMENT: str(settings.module_config)}
        if settings.softhsm_config is not None:
            environment["SOFTHSM2_CONF"] = str(settings.softhsm_config)
        command = [sys.executable, "-P", "-m", WORKER_MODULE]
        command += ["--listener", str(self._listener.fileno()), "--heartbeat", str(heartbeat.descriptor)]
        command += ["--parent", str(os.getpid()), "--pin-file", str(settings.pin_file)]
        command += ["--library", str(settings.library or LIBRARY_PATH)]
        command += ["--log-folder", str(settings.log.folder)]
        command += ["--checkpoint-seconds", str(settings.log.checkpoint_seconds)]
        if settings.log.witnesses is not None:
            command += ["--witnesses", settings.log.witnesses.demands.pack()]
        if settings.ceremonies is not None:
            command += ["--token-link", str(settings.ceremonies.token_link)]
            command += ["--records", str(settings.ceremonies.records)]
        for uid in self._allowed:
            command += ["--allow-user", str(uid)]
        descriptors = (self._listener.fileno(), heartbeat.descriptor)
        return subprocess.Popen(command, pass_fds=descriptors, env=environment, stdin=subprocess.DEVNULL, cwd="/")

    def _run_worker(self, heartbeat: Heartbeat) -> None:
        started = time.monotonic()
        heartbeat.begin()  # the start counts from here: a worker that hangs in its imports is cut off too
        self.worker = worker = self._spawn(heartbeat)
        announced = False
        while worker.poll() is None:
            if self._stopping:
                self._end(worker)
                return
            if heartbeat.is_ready and not announced:
                announced = True
                self._backoff = _BACKOFF_FIRST
                logger.info("worker-ready", process=worker.pid, seconds=round(time.monotonic() - started, 3))
            limit = self._settings.operation_deadline_seconds if announced else self._settings.start_deadline_seconds
            if heartbeat.busy_seconds > limit:
                logger.error("worker-hung", process=worker.pid, deadline_seconds=limit)
                worker.kill()
                worker.wait()
                break
            time.sleep(_POLL_SECONDS)
        logger.warning("worker-ended", process=worker.pid, status=worker.returncode)
        if not announced:
            # It never served: a fault that lasts. Waiting keeps a broken module from spinning.
            self._wait(self._backoff)
            self._backoff = min(self._backoff * 2, _BACKOFF_MAX)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)

    def _end(self, worker: subprocess.Popen[bytes]) -> None:
        worker.terminate()
        try:
            worker.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
        logger.info("worker-stopped", process=worker.pid)


def _user_id(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise SettingsInvalid(f"client_users: there is no system user {name}") from None


def _bind(path: Path, users: list[str]) -> socket.socket:
    """Listen on a fresh socket that its users' primary group may connect to; peer credentials are checked as well."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(previous)
    group = pwd.getpwnam(users[0]).pw_gid
    if group != os.getegid():
        # The set-up puts the module's user into the clients' group, which is what allows this.
        if group not in os.getgroups():
            name = grp.getgrgid(group).gr_name
            raise SettingsInvalid(f"this user must be a member of group {name} to let {users[0]} connect")
        os.chown(path, -1, group)
    path.chmod(0o660)
    listener.listen(_BACKLOG)
    return listener


def main() -> int:
    """Entry point ``keywatt-module``."""
    parser = argparse.ArgumentParser(prog="keywatt-module", description="Run the Keywatt module process.")
    parser.add_argument("--config", type=Path, default=Path("/etc/keywatt/module.toml"), help="settings (TOML)")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one ends")
    arguments = parser.parse_args()
    if arguments.with_parent:
        hardening.die_with_parent(os.getppid())
    structlog.configure(
        processors=[structlog.processors.TimeStamper(fmt="iso", utc=True), structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    hardening.refuse_root()
    try:
        supervisor = Supervisor(ModuleSettings.read(arguments.config))
    except (HsmError, OSError) as error:
        print(f"keywatt-module: {error}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, supervisor.stop)
    signal.signal(signal.SIGINT, supervisor.stop)
    supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
