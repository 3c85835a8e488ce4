"""No key in the appliance's memory, ever; no decoder key in the module process after the work is done."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm.system_users import APPLIANCE_USER, as_user
from tests.support import oracle
from tests.support.lab import CONTEXTS, DEVELOPMENT_160, DEVELOPMENT_DES, PAN, RULES
from tests.support.load import Load
from tests.support.system import ROOT, System, key_toml, run_script, running

pytestmark = pytest.mark.root
GROUPS = [("600001", 11), ("600001", 7), ("600007", 7)]
VENDING_KEYS = {"DKGA04": DEVELOPMENT_160, "DKGA02": DEVELOPMENT_DES}


def memory(pid: int) -> Iterator[bytes]:
    """Every readable mapping of a process."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as source:
        for line in maps:
            span, permissions, *_ = line.split()
            if "r" not in permissions or line.rstrip().endswith(("[vvar]", "[vsyscall]")):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            with contextlib.suppress(OSError, ValueError):
                source.seek(start)
                yield source.read(end - start)


def forms(key: bytes) -> list[bytes]:
    """A vending key as octets, in either order, and as anyone would write it."""
    return [key, key[::-1], key.hex().encode(), key.hex().upper().encode()]


def scan(pid: int, patterns: dict[str, bytes]) -> set[str]:
    """Name what is found; vending keys in every form, all else as octets."""
    names = {form: name for name, key in patterns.items() for form in (forms(key) if name in VENDING_KEYS else [key])}
    return {names[form] for octets in memory(pid) for form in names if form in octets}


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running("online", CONTEXTS + RULES) as system:
        yield system


def decoder_keys(load: Load, limit: int) -> dict[str, bytes]:
    chosen = load.sales[-limit:]
    return {f"{s.pan}/{s.sgc}/EA{s.ea}": oracle.decoder_key(s.pan, s.sgc, s.ea).octets for s in chosen}


# Speaks to the module's socket as the appliance would, in full batches, so that the module is never idle.
HAMMER = """
import asyncio, sys
from pathlib import Path
from hsm.client import ModuleClient
from sts.token_identifier import skip_reserved
from tests.support.lab import credit, minutes, reference
from datetime import datetime
async def main():
    client = ModuleClient(Path(sys.argv[1]), answer_seconds=30)
    status = await client.status()
    tid = skip_reserved(status.clock_minutes - minutes(datetime(2014, 1, 1)))
    groups = [("600001", 11), ("600007", 7)]
    for turn in range(10**6):
        sgc, ea = groups[turn % 2]
        await client.issue(reference(sgc), [credit(tid, ea=ea)] * 1000)
asyncio.run(main())
"""


@contextlib.contextmanager
def hammering(system: System) -> Iterator[None]:
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": os.defpath}
    command = [sys.executable, "-c", HAMMER, str(system.state / "run" / "module.sock")]
    process = subprocess.Popen(command, env=environment, cwd="/", **as_user(APPLIANCE_USER))
    try:
        yield
        assert process.poll() is None, "the load ended before the scan"
    finally:
        process.kill()
        process.wait()


@pytest.mark.timeout(300)
def test_scan_under_load(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    worker, appliance = system.worker_pid, system.appliance_pid
    with Load(system, GROUPS, threads=6) as load:
        for _ in range(8):
            time.sleep(0.1)
            assert scan(appliance, VENDING_KEYS | decoder_keys(load, 15)) == set()
    assert len(load.sales) > 200
    after = decoder_keys(load, 100)
    assert scan(worker, after) == set()
    assert scan(appliance, VENDING_KEYS | after) == set()
    # The same scanner finds the vending keys where they are used: it works.
    seen, scans = set[str](), 0
    with hammering(system):
        end = time.monotonic() + 60
        while seen != set(VENDING_KEYS) and time.monotonic() < end:
            seen |= scan(worker, VENDING_KEYS)
            scans += 1
    assert seen == set(VENDING_KEYS), "the scanner does not find vending keys in the busy module process"
    meter = {f"hammered EA{ea}": oracle.decoder_key(PAN, sgc, ea).octets for sgc, ea in (("600001", 11), ("600007", 7))}
    time.sleep(1)
    assert scan(worker, meter | after) == set()
    assert system.worker_pid == worker
    with capsys.disabled():
        print(f"\n  {len(load.sales)} tokens; vending keys seen in the busy module process within {scans} scans")


def test_scanner_finds_what_is_there_and_nothing_else() -> None:
    canary = os.urandom(20)
    # The absent one is made only after the memory was read: it cannot have been in it.
    mapped = list(memory(os.getpid()))
    assert any(canary in octets for octets in mapped)
    absent = os.urandom(20)
    assert not any(absent in octets for octets in mapped)


def test_the_pin_is_in_no_command_line_environment_or_log(system: System) -> None:
    pin = (system.state / "module" / "pin").read_text().strip()
    for pid in (system.worker_pid, system.supervisor_pid, system.appliance_pid):
        for name in ("cmdline", "environ"):
            assert pin not in Path(f"/proc/{pid}/{name}").read_text("utf-8", "replace")
    for pid in (system.supervisor_pid, system.appliance_pid):
        assert scan(pid, {"pin": pin.encode()}) == set()
    for path in system.state.rglob("*"):
        if path.is_file() and path.name not in ("pin", "so-pin"):
            assert pin.encode() not in path.read_bytes(), path


def test_users_files_and_modes(system: System) -> None:
    import pwd
    import stat

    module_user, appliance_user = pwd.getpwnam("keywatt-hsm").pw_uid, pwd.getpwnam("keywatt").pw_uid
    status = Path(f"/proc/{system.worker_pid}/status").read_text()
    assert f"Uid:\t{module_user}" in status
    assert f"Uid:\t{appliance_user}" in Path(f"/proc/{system.appliance_pid}/status").read_text()
    module = system.state / "module"
    assert stat.S_IMODE((module / "pin").stat().st_mode) == 0o600
    assert stat.S_IMODE(module.stat().st_mode) == 0o700
    for path in (module / "tokens").resolve().rglob("*"):
        assert not path.stat().st_mode & 0o222, path
        assert path.stat().st_uid == module_user
    assert (system.state / "module.conf").stat().st_uid == 0
    for pid in (system.worker_pid, system.appliance_pid):
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert next(line for line in limits.splitlines() if "core file" in line).split()[4] == "0"


def test_strangers_cannot_speak_to_the_module(system: System) -> None:
    code = (
        "import socket,sys\ns=socket.socket(socket.AF_UNIX)\n"
        f"s.connect({str(system.state / 'run' / 'module.sock')!r})\n"
        "s.sendall(b'\\0\\0\\0\\x0c\\1\\5\\0\\0'+b'\\0'*8)\ns.settimeout(5)\nsys.exit(0 if s.recv(1) else 7)"
    )
    # Root may open the socket, and still is no client: the worker looks at the peer's user.
    answer = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert answer.returncode == 7 or b"ConnectionResetError" in answer.stderr or b"BrokenPipeError" in answer.stderr
    answer = subprocess.run([sys.executable, "-c", code], user="nobody", check=False, capture_output=True)
    assert b"PermissionError" in answer.stderr
    assert "connection-refused" in system.log("module")


@pytest.mark.parametrize("program", ["keywatt-module", "keywatt-appliance"])
def test_neither_process_runs_as_root(program: str) -> None:
    answer = subprocess.run([run_script.program(program)], capture_output=True, text=True, timeout=30, check=False)
    assert answer.returncode != 0
    assert "never runs as root" in answer.stderr


def test_setting_up_again_changes_nothing(system: System) -> None:
    before = (system.state / "module" / "tokens").resolve()
    keys = system.state.parent / "again.toml"
    keys.write_text(key_toml(CONTEXTS + RULES))
    command = [
        sys.executable,
        str(ROOT / "softhsm-config" / "setup.py"),
        "--state",
        str(system.state),
        "--keys",
        str(keys),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "nothing to change" in answer.stdout
    assert (system.state / "module" / "tokens").resolve() == before
