"""Witnesses beside a system: the product's own, as processes, and what a system needs to demand them."""

from __future__ import annotations

import signal
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from hsm.log.notes import VerifierKey
from tests.support.system import System, free_port

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "keywatt-witness")


@dataclass
class WitnessProcess:
    """One witness; its state outlives its process."""

    folder: Path
    name: str
    port: int
    key: VerifierKey
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def make(cls, folder: Path, name: str) -> WitnessProcess:
        folder.mkdir()
        made = subprocess.run(
            [PROGRAM, "key", str(folder / "key"), "--name", name], check=True, capture_output=True, text=True
        )
        return cls(folder, name, free_port(), VerifierKey.parse(made.stdout.strip()))

    def start(self, log: VerifierKey) -> None:
        command = [PROGRAM, "serve", "--key", str(self.folder / "key"), "--name", self.name]
        command += ["--folder", str(self.folder / "state"), "--log", str(log), "--listen", f"127.0.0.1:{self.port}"]
        with (self.folder / "log").open("ab") as log_file:
            self.process = subprocess.Popen(command, stderr=log_file)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
            self.process = None

    @property
    def policy_line(self) -> str:
        return f"witness {self.name} {self.key} http://127.0.0.1:{self.port}\n"


def log_key(system: System) -> VerifierKey:
    return VerifierKey.parse((system.state / "audit" / "verifier-key").read_text().strip())


def demand(system: System, policy: str, rules: str, *, refresh: float = 1) -> Path:
    """Have a system that is not running demand witnesses from its next start on."""
    path = system.state / "witnesses.policy"
    path.write_text(policy)
    path.chmod(0o644)
    with (system.state / "module.toml").open("a") as file:
        file.write(f'\n[log.witnesses]\npolicy = "{path}"\n{rules}\n')
    with (system.state / "appliance" / "appliance.toml").open("a") as file:
        file.write(f'\n[audit.witnesses]\npolicy = "{path}"\nrefresh_seconds = {refresh}\ntimeout_seconds = 2\n')
    return path
