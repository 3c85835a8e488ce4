"""Starts module process and appliance, each as its own system user, and ends them again.

python demo/run.py --state STATE            keeps them running until Ctrl-C
python demo/run.py --state STATE -- COMMAND  runs a command while they run
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from hsm.system_users import APPLIANCE_USER, MODULE_USER, as_user

START_SECONDS = 60.0


def program(name: str) -> str:
    """Return the path of one of our entry points, beside this interpreter."""
    return str(Path(sysconfig.get_path("scripts")) / name)


class Servers:
    """The two processes, with their logs in STATE/log."""

    def __init__(self, state: Path, port: int) -> None:
        self._port = port
        logs = state / "log"
        logs.mkdir(exist_ok=True)
        self.logs = logs
        self._processes = [
            self._start(
                "module",
                MODULE_USER,
                [program("keywatt-module"), "--with-parent", "--config", str(state / "module.toml")],
            ),
            self._start(
                "appliance",
                APPLIANCE_USER,
                [
                    program("keywatt-appliance"),
                    "--with-parent",
                    "--config",
                    str(state / "appliance" / "appliance.toml"),
                ],
            ),
        ]

    def _start(self, name: str, user: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, cwd="/", **as_user(user))

    def wait_until_up(self) -> None:
        """Wait for the port; exit with the log's end if a process ends first."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            self.check()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.1)
        self.stop()
        raise SystemExit(f"the appliance did not come up in {START_SECONDS:.0f} s; see {self.logs}")

    def check(self) -> None:
        """Exit if one of the processes has ended."""
        for process, name in zip(self._processes, ("module", "appliance"), strict=True):
            if process.poll() is not None:
                tail = (self.logs / f"{name}.log").read_text("utf-8", "replace").splitlines()[-5:]
                self.stop()
                how = f"was killed by signal {-process.returncode}" if process.returncode < 0 else "ended"
                raise SystemExit("\n".join([f"the {name} process {how}; its log ends so:", *tail]))

    def stop(self) -> None:
        """End the appliance first, so that it finishes what is under way, then the module."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Run module process and appliance.")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--port", type=int, default=8443, choices=range(1, 65536), metavar="1-65535")
    parser.add_argument("--check", action="store_true", help="only say whether the port is free")
    parser.add_argument("command", nargs="*")
    arguments = parser.parse_args()
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", arguments.port)) == 0:
            raise SystemExit(f"port {arguments.port} is taken: end what runs there, or choose another, as in PORT=8444")
    if arguments.check:
        return 0
    servers = Servers(arguments.state.resolve(), arguments.port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        servers.wait_until_up()
        if arguments.command:
            return subprocess.run(arguments.command, check=False).returncode
        print(f"Serving on localhost:{arguments.port}; logs in {servers.logs}. Ctrl-C ends it.", flush=True)
        while True:
            servers.check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        return 0
    finally:
        # Whoever presses Ctrl-C again waits: what is under way is finished first.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        servers.stop()


if __name__ == "__main__":
    sys.exit(main())
