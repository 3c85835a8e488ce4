"""Known secrets, placed everywhere they live; everything that the product says or leaves is searched for them.

Secrets: both PINs, the vending keys, the ledger's key, the private keys of TLS, the digits of tokens. What is searched:
logs, errors, metrics, the module's log, the database, output of every command, command lines and environments.
"""

from __future__ import annotations

import base64
import itertools
import os
import re
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import descriptor
from google.protobuf.message import Message
from keywatt.audit.v1 import audit_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client.client import ClientError, KeywattClient
from hsm.system_users import APPLIANCE_USER, MODULE_USER, as_user
from tests.appliance.test_transport import secure_channel
from tests.faults.test_policy import every_call, request
from tests.policy.governed import client_name, govern
from tests.policy.texts import client, limit
from tests.security.test_rpc_fuzz import method_path
from tests.support.lab import CONTEXTS, DEVELOPMENT_160, DEVELOPMENT_DES, RULES
from tests.support.meters import pan
from tests.support.system import System, free_port, running

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]


EXPECTED = {
    "keywatt status": b"module_id",
    "keywatt issuances": b"identifier",
    "keywatt verify": b"TOKEN_NUMBER_FORMAT",
    "keywatt credit": b"AMOUNT_TOO_LARGE",
    "keywatt mandate": b"Policy 1",
    "keywatt-ledger status": b"requests",
    "keyloader inventory": b"audit_key",
    "keywatt-policy check": b"sha256",
    "log of appliance": b"CONFIGURATION_INVALID",
    "log of module": b"serving",
    "metrics": b"keywatt_tokens_total",
    "leaves": b"issue",
}
"""That everything was asked, and answered with more than an error of its own."""


class Canaries:
    """What must not be found, by name."""

    def __init__(self) -> None:
        self.forms: dict[bytes, str] = {}

    def add(self, name: str, octets: bytes) -> None:
        """Add a secret of octets, in every form in which somebody would write it."""
        texts = {octets.hex(), octets.hex().upper(), base64.b64encode(octets).decode().rstrip("="), str(list(octets))}
        texts |= {" ".join(part) for part in (re.findall("..", octets.hex()), re.findall("....", octets.hex()))}
        for form in (octets, *(text.encode() for text in texts)):
            self.forms[form] = name

    def add_text(self, name: str, text: str) -> None:
        """Add a secret of characters."""
        for form in (text, " ".join(re.findall("....", text)), "-".join(re.findall("....", text))):
            self.forms[form.encode()] = name
        self.forms[base64.b64encode(text.encode()).rstrip(b"=")[:-1]] = name

    def found_in(self, octets: bytes) -> set[str]:
        """Name those that are found."""
        return {name for form, name in self.forms.items() if form in octets}


class Heard:
    """Everything that was said, by where it was said."""

    def __init__(self) -> None:
        self.said: dict[str, bytes] = {}

    def add(self, where: str, octets: bytes | str) -> None:
        text = octets.encode() if isinstance(octets, str) else octets
        self.said[where] = self.said.get(where, b"") + text + b"\n"


def program(name: str) -> str:
    return str(Path(sysconfig.get_path("scripts")) / name)


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[System, Canaries, Heard]]:
    port = free_port()
    with running("online", CONTEXTS + RULES) as system:
        path = system.state / "appliance" / "appliance.toml"
        path.write_text(
            path.read_text().replace("listen =", "log_calls = true\nlisten =", 1)
            + f'\n[metrics]\nlisten = "127.0.0.1:{port}"\n'
        )
        name = client_name(system)
        govern(system, client(name, audits=True), limit("meter-a-day", "meter", count=40))
        system.metrics = f"http://127.0.0.1:{port}/metrics"  # type: ignore[attr-defined]  # for this test
        canaries, heard = Canaries(), Heard()
        for file, secret in (("module/pin", "user PIN"), ("module/so-pin", "officer PIN")):
            canaries.add_text(secret, (system.state / file).read_text().strip())
        canaries.add("DKGA04 key", DEVELOPMENT_160)
        canaries.add("DKGA02 key", DEVELOPMENT_DES)
        for line in (system.state / "appliance" / "ledger.key").read_text().split():
            if len(line) > 20:
                canaries.add_text("ledger key", line.rpartition("=")[2].rpartition(":")[2].strip('"'))
        for file in ("appliance/server.key", "client/client.key"):
            body = (system.state / file).read_text().splitlines()[1:-1]
            for number, line in enumerate(body):
                canaries.add_text(f"{file} {number}", line)
        yield system, canaries, heard


def sell(system: System, canaries: Canaries) -> list[str]:
    """Issue tokens of every kind; each becomes a canary."""
    with KeywattClient(system.profile) as asked:
        digits = [asked.issue(asked.vending.IssueCreditToken, request(number)).token.digits for number in range(40, 60)]
        for method, message in every_call(asked)[:4]:
            answer: Any = asked.issue(method, message)
            tokens = answer.tokens if hasattr(answer, "tokens") else [answer.token]
            digits += [token.digits for token in tokens]
    for token in digits:
        canaries.add_text("token", token)
    return digits


def texts_of(message: Message, path: str = "") -> Iterator[str]:
    """Name every text field of a message, those within others too."""
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            continue
        if field.type == descriptor.FieldDescriptor.TYPE_STRING:
            yield path + field.name
        elif field.type == descriptor.FieldDescriptor.TYPE_MESSAGE and message.HasField(field.name):
            yield from texts_of(getattr(message, field.name), f"{path}{field.name}.")


def filled(message: Message, path: str, text: str) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    *inner, last = path.split(".")
    target: Any = copy
    for name in inner:
        target = getattr(target, name)
    setattr(target, last, text)
    return copy


def provoke(system: System, heard: Heard, digits: list[str]) -> int:
    """Put tokens into every text field of every call, and among the octets; keep the errors."""
    count = 0
    turn = itertools.cycle(digits)
    with KeywattClient(system.profile) as asked, secure_channel(system) as channel:
        for method, message in every_call(asked):
            for path in texts_of(message):
                for shape in ("{}", "{} {}", "'{}", "\0{}", "{}" * 40):
                    one = next(turn)
                    wrong = filled(message, path, shape.format(*[one] * 40))
                    try:
                        asked.call(method, wrong)
                    except ClientError as error:
                        heard.add("errors", f"{error} {error.reason} {error.hint} {error.details}")
                        count += 1
            for octets in (next(turn).encode(), b"\x0a\x14" + next(turn).encode() + b"\xff"):
                try:
                    channel.unary_unary(method_path(method))(octets, timeout=10)
                except grpc.RpcError as error:
                    heard.add("errors", f"{error.details()} {error.trailing_metadata()}")  # type: ignore[attr-defined]
                    count += 1
        with pytest.raises(ClientError) as refused:
            asked.call(asked.vending.VerifyToken, vending_pb2.VerifyTokenRequest(token=digits[0] + "1"))
        heard.add("errors", f"{refused.value} {refused.value.details}")
        found = asked.call(asked.vending.ListIssuances, vending_pb2.ListIssuancesRequest())
        heard.add("lists", str(found))
        for leaf in asked.stream(asked.audit.ListLeaves, audit_pb2.ListLeavesRequest()):
            heard.add("leaves", str(leaf))
            if len(heard.said["leaves"]) > 200_000:
                break
    return count


def run(heard: Heard, name: str, *arguments: str, user: str | None = None, **environment: str) -> None:
    """Run a command of the product, and keep what it says."""
    done = subprocess.run(
        [program(name), *arguments],
        capture_output=True,
        timeout=60,
        check=False,
        cwd="/",
        env=os.environ | {"COLUMNS": "200"} | environment,
        **(as_user(user) if user else {}),
    )
    heard.add(f"{name} {arguments[0] if arguments else ''}", done.stdout + done.stderr)
    assert b"Traceback" not in done.stderr, done.stderr


def support(system: System, heard: Heard, digits: list[str]) -> None:
    """Run every command whose output goes to somebody who helps."""
    state, meter = system.state, ["--meter", pan(40), "--sgc", "201457"]
    client_toml = str(state / "client" / "client.toml")
    config = ["--config", str(state / "appliance" / "appliance.toml")]
    for arguments in (
        ["status", "--json"],
        ["keys"],
        ["mandate"],
        ["issuances", "--meter", pan(40)],
        ["verify", digits[0] + "7", *meter],
        ["verify", digits[0], "--meter", digits[0], "--sgc", "201457"],
        ["audit", "identify", digits[0][:-1], *meter],
        ["issuance", digits[0]],
        ["audit", "checkpoint"],
        ["approval", "list"],
        ["credit", "--meter", digits[1], "--sgc", "201457", "--amount", digits[2]],
    ):
        run(heard, "keywatt", *arguments, KEYWATT_CLIENT=client_toml)
    for arguments in (["status"], ["check"]):
        run(heard, "keywatt-ledger", *arguments, *config, user=APPLIANCE_USER)
    run(heard, "keywatt-reconcile", *config, user=APPLIANCE_USER)
    run(heard, "keyloader", "inventory", "--site", str(state / "site.toml"), "--json", user=MODULE_USER)
    run(heard, "keywatt-policy", "check", str(state / "appliance" / "policy" / "policy.toml"))
    run(heard, "keywatt-export", "--help")


def processes(system: System) -> Iterator[int]:
    yield from (system.supervisor_pid, system.worker_pid, system.appliance_pid)


def look_at_processes(system: System, heard: Heard) -> None:
    for pid in processes(system):
        for name in ("cmdline", "environ"):
            heard.add(f"{name} of processes", Path(f"/proc/{pid}/{name}").read_bytes())
        if pid == system.supervisor_pid:
            # It starts workers and holds nothing.
            continue
        limits = Path(f"/proc/{pid}/limits").read_text()
        core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"]
        # Not dumpable: its own user can neither trace it nor read its memory.
        assert Path(f"/proc/{pid}/mem").stat().st_uid == 0


def until_up(system: System) -> None:
    number = int(time.time() * 1000) % 10**6 + 100_000
    with KeywattClient(system.profile.model_copy(update={"retry_seconds": 60})) as asked:
        asked.issue(asked.vending.IssueCreditToken, request(number))


def break_things(system: System, heard: Heard) -> None:
    """Crashes and set-ups that are wrong: what is said then is read by more people than anything else."""
    for number in (signal.SIGABRT, signal.SIGSEGV):
        os.kill(system.worker_pid, number)
        time.sleep(0.5)
        until_up(system)
    os.kill(system.appliance_pid, signal.SIGUSR1)
    os.kill(system.appliance_pid, signal.SIGABRT)
    system.servers._processes[1].wait(20)
    appliance = system.state / "appliance"
    key, config = appliance / "ledger.key", appliance / "appliance.toml"
    kept = {path: path.read_bytes() for path in (key, config, appliance / "server.key")}
    secret = kept[key].decode()
    for path, octets in (
        (key, kept[key][:-5]),
        (key, kept[key] * 2),
        (config, kept[config].replace(b"listen =", f"ledger_key = '''{secret}'''\nlisten =".encode(), 1)),
        (config, kept[config] + secret.encode()),
        (appliance / "server.key", kept[appliance / "server.key"][:-60]),
    ):
        path.write_bytes(octets)
        system.start_appliance()
        system.servers._processes[1].wait(40)
        path.write_bytes(kept[path])
    system.start_appliance()
    until_up(system)
    pin = system.state / "module" / "pin"
    right = pin.read_text()
    pin.write_text(right[::-1])
    os.kill(system.worker_pid, signal.SIGKILL)
    time.sleep(2)
    pin.chmod(0o644)
    time.sleep(1.5)
    pin.write_text(right)
    pin.chmod(0o600)
    until_up(system)
    heard.add("log of the appliance", system.log("appliance"))


def test_no_secret_is_said_anywhere(told: tuple[System, Canaries, Heard]) -> None:
    system, canaries, heard = told
    digits = sell(system, canaries)
    assert len(digits) >= 27
    assert provoke(system, heard, digits) > 150
    support(system, heard, digits)
    look_at_processes(system, heard)
    break_things(system, heard)
    heard.add("metrics", httpx.get(system.metrics, timeout=10).text)  # type: ignore[attr-defined]  # see told
    for name in ("appliance", "module"):
        heard.add(f"log of {name}", system.log(name))
    kept = [
        *(system.state / "ledger").iterdir(),
        *(path for path in (system.state / "audit").rglob("*") if path.is_file()),
    ]
    for path in kept:
        heard.add(f"file {path.name}", path.read_bytes())
    found = {where: canaries.found_in(octets) for where, octets in heard.said.items()}
    assert {where: names for where, names in found.items() if names} == {}
    # The search would find what is there.
    names = set(canaries.forms.values())
    assert {"user PIN", "officer PIN", "DKGA04 key", "DKGA02 key", "ledger key", "token"} <= names
    assert {"appliance/server.key 0", "client/client.key 0"} <= names
    for where, said in EXPECTED.items():
        assert said in heard.said[where], where
    assert heard.said["errors"].count(b"PAN_INVALID") > 3
    assert canaries.found_in(b"x" + digits[3].encode() + b"y") == {"token"}
    assert not [*Path("/").glob("core*"), *system.state.rglob("core*")]


def test_the_search_finds_what_it_looks_for() -> None:
    canaries = Canaries()
    canaries.add("key", DEVELOPMENT_160)
    canaries.add_text("token", "12345678901234567890")
    for said in (
        b"1234 5678 9012 3456 7890",
        b"1234-5678-9012-3456-7890",
        base64.b64encode(b"12345678901234567890"),
        DEVELOPMENT_160.hex().upper().encode(),
        base64.b64encode(DEVELOPMENT_160),
    ):
        assert canaries.found_in(b"before " + said + b" after")
    assert not canaries.found_in(b"12345678901234567891")
