"""The whole system in a folder of its own: set up by the product's own scripts, run as its system users."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from appliance.client import request_ids
from appliance.client.client import ClientProfile, KeywattClient
from hsm.ceremony_requests import LoadKeyItem
from hsm.system_users import APPLIANCE_USER
from tests.support.lab import CONTEXTS, EPOCH

T = TypeVar("T")
ROOT = Path(__file__).parents[2]


def load_script(name: str) -> ModuleType:
    """Import a script of the product by its path."""
    path = ROOT / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


run_script = load_script("demo/run.py")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def key_toml(items: list[LoadKeyItem]) -> str:
    """Write items as a development key file."""
    lines = []
    for item in items:
        classes = [f"0.{s}" for s in range(8) if item.class0 >> s & 1] + [
            f"2.{s}" for s in range(16) if item.class2 >> s & 1
        ]
        lines += [
            "[[key]]",
            f'supply_group_code = "{item.supply_group_code}"',
            f"key_revision_number = {item.key_revision_number}",
            f"key_type = {item.key_type}",
            f"dkga = {item.dkga}",
            f"base_date = {item.base_date}",
            f"key_expiry_number = {item.key_expiry_number}",
            f"allowed_classes = {json.dumps(classes)}",
            f"key_change = {str(item.key_change).lower()}",
            f'key = "{item.key.hex()}"',
        ]
        for name, value in (("activation", item.activation), ("issued_until", item.issued_until)):
            if value:
                moment = EPOCH + timedelta(minutes=value)
                lines.append(f"{name} = {moment.isoformat()}")
    return "\n".join(lines) + "\n"


class NamespaceServers(run_script.Servers):  # type: ignore[misc,name-defined]  # loaded by path
    """The two processes inside a network namespace, as on a host of their own."""

    def __init__(self, state: Path, port: int, namespace: str) -> None:
        self._namespace = namespace
        super().__init__(state, port)

    def _start(self, name: str, user: str, command: list[str]) -> subprocess.Popen[bytes]:
        become = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--"]
        if command[0] != "ip":
            command = ["ip", "netns", "exec", self._namespace, *become, *command]
        with (self.logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, cwd="/")


class FillingClient(KeywattClient):
    """Gives every issuing request that has none a request id, and never repeats a call by itself."""

    def call(self, method: Callable[..., T], request: Any) -> T:
        if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
            bare, request = request, type(request)()
            request.CopyFrom(bare)
            request.request_id = request_ids.new()
        return super().call(method, request)


class System:
    """Module process and appliance, with a client."""

    def __init__(self, state: Path, mode: str, items: list[LoadKeyItem], address: str = "127.0.0.1") -> None:
        self.state = state
        self.address = address
        self.namespace = ""
        self.port = free_port()
        keys = state.parent / f"{state.name}-keys.toml"
        keys.write_text(key_toml(items))
        self._run("softhsm-config/setup.py", "--keys", str(keys), "--mode", mode)
        keys.unlink()
        self._run("demo/setup_appliance.py", "--address", address, "--port", str(self.port))
        self.servers: Any = None

    def _run(self, script: str, *arguments: str) -> None:
        command = [sys.executable, str(ROOT / script), "--state", str(self.state), *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def edit(self, name: str, old: str, new: str) -> None:
        """Change a configuration file before the start."""
        path = self.state / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def start(self) -> None:
        if not self.namespace:
            self.servers = run_script.Servers(self.state, self.port)
            self.servers.wait_until_up()
            return
        self.servers = NamespaceServers(self.state, self.port, self.namespace)
        end = time.monotonic() + 60
        while True:
            self.servers.check()
            with socket.socket() as probe:
                if probe.connect_ex((self.address, self.port)) == 0:
                    return
            assert time.monotonic() < end
            time.sleep(0.1)

    def stop(self) -> None:
        if self.servers is not None:
            self.servers.stop()

    @property
    def profile(self) -> ClientProfile:
        return ClientProfile.read(self.state / "client" / "client.toml")

    def client(self) -> KeywattClient:
        return FillingClient(self.profile)

    @property
    def supervisor_pid(self) -> int:
        return int(self.servers._processes[0].pid)

    @property
    def appliance_pid(self) -> int:
        return int(self.servers._processes[1].pid)

    @property
    def worker_pid(self) -> int:
        """The worker that serves now; waits for one."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            children = Path(f"/proc/{self.supervisor_pid}/task/{self.supervisor_pid}/children").read_text().split()
            if children:
                return int(children[0])
            time.sleep(0.005)
        raise AssertionError("no worker")

    def use_ledger(self, url: str) -> None:
        """Put the ledger elsewhere, before the start."""
        path = self.state / "appliance" / "appliance.toml"
        lines = [f'url = "{url}"' if line.startswith("url = ") else line for line in path.read_text().splitlines()]
        path.write_text("\n".join(lines) + "\n")

    def kill_appliance(self) -> None:
        process = self.servers._processes[1]
        process.kill()
        process.wait()

    def start_appliance(self) -> None:
        """Start the appliance again, as a service manager would; it may not serve yet on return."""
        command = self.servers._processes[1].args
        self.servers._processes[1] = self.servers._start("appliance", APPLIANCE_USER, command)

    def log(self, name: str) -> str:
        return (self.state / "log" / f"{name}.log").read_text()

    def kill_worker(self) -> int:
        pid = self.worker_pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return pid


@contextlib.contextmanager
def running(
    mode: str = "online",
    items: list[LoadKeyItem] | None = None,
    edits: list[tuple[str, str, str]] | None = None,
    ledger: str = "",
) -> Iterator[System]:
    """Set up, start, and clear away."""
    # Not pytest's folder: the two system users must be able to reach it.
    state = Path(tempfile.mkdtemp(prefix="keywatt-test-", dir="/var/tmp"))
    state.chmod(0o755)
    try:
        system = System(state / "state", mode, items or CONTEXTS)
        for edit in edits or []:
            system.edit(*edit)
        if ledger:
            system.use_ledger(ledger)
        try:
            system.start()
            yield system
        finally:
            system.stop()
    finally:
        shutil.rmtree(state)
