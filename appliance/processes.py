"""Several appliance processes on one port: the kernel spreads connections over them, the ledger keeps them apart."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import structlog

from appliance.config import ApplianceSettings
from appliance.errors import ConfigurationInvalid

logger = structlog.get_logger("keywatt.appliance")
EXIT_CONFIGURATION = 2
EXIT_UNAVAILABLE = 3
_POLL_SECONDS = 0.1
_RESTART_SECONDS = 1.0
_STOP_SECONDS = 20.0


def require_shared_ledger(settings: ApplianceSettings) -> None:
    """Raise ConfigurationInvalid if the ledger cannot serve several processes."""
    if settings.ledger.url.startswith("sqlite"):
        raise ConfigurationInvalid("processes: more than one needs a ledger on PostgreSQL")


class _Children:
    def __init__(self, count: int, config: Path) -> None:
        self._command = [
            sys.executable,
            "-m",
            "appliance.start",
            "--with-parent",
            "--config",
            str(config),
        ]
        self.running = [self._start(place) for place in range(count)]
        self.is_stopping = False

    def _start(self, place: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self._command, "--one-of-several", str(place)])

    def stop(self, *_: object) -> None:
        self.is_stopping = True

    def watch(self) -> int:
        """Replace what dies; return an exit code when told to stop, or when one refuses its configuration."""
        while not self.is_stopping:
            time.sleep(_POLL_SECONDS)
            for place, child in enumerate(self.running):
                code = child.poll()
                if code is None:
                    continue
                logger.error("process-ended", code=code)
                if code == EXIT_CONFIGURATION:
                    # It has said why; the others would fall over the same thing.
                    self.end()
                    return EXIT_CONFIGURATION
                time.sleep(_RESTART_SECONDS)
                self.running[place] = self._start(place)
        self.end()
        return 0

    def end(self) -> None:
        """Let all finish what is under way."""
        for child in self.running:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for child in self.running:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def supervise(count: int, config: Path) -> int:
    """Run ``count`` processes until SIGTERM or SIGINT; return the exit code."""
    children = _Children(count, config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, children.stop)
    return children.watch()
