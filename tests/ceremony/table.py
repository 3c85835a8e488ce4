"""A key loader on a pseudo-terminal, and the people who sit at it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "keyloader")
_CLEAR_SCROLLBACK = b"\x1b[3J"
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Terminal:
    """A process on a pseudo-terminal; ``shown`` is all that it ever showed, ``cleared`` how often it wiped it."""

    process: subprocess.Popen[bytes]
    master: int
    shown: str = ""
    cleared: int = 0
    _seen: int = field(default=0)

    def read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return False
        try:
            octets = os.read(self.master, 65536)
        except OSError:
            return False
        self.cleared += octets.count(_CLEAR_SCROLLBACK)
        self.shown += _CONTROL.sub("", octets.decode("utf-8", "replace")).replace("\r", "")
        return bool(octets)

    def expect(self, text: str, seconds: float = 30) -> str:
        """Wait until something is shown that was not yet waited for; return what came before it."""
        end = time.monotonic() + seconds
        while (found := self.shown.find(text, self._seen)) < 0:
            if not self.read(0.2) and (time.monotonic() > end or self.process.poll() is not None):
                raise AssertionError(f"{text!r} was never shown:\n{self.shown[self._seen :]}")
        before, self._seen = self.shown[self._seen : found], found + len(text)
        return before

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def answer(self, question: str, text: str) -> None:
        self.expect(question)
        self.type(text + "\n")

    def choose(self, question: str, name: str) -> None:
        """Answer a list with the number of a name."""
        self.expect(question)
        listed = self.expect("Number, 1 to")
        lines = [line.replace("REHEARSAL", "").strip() for line in listed.splitlines()]
        number = next(line.split()[0] for line in lines if line.endswith(name) and line[:1].isdigit())
        self.expect(": ")
        self.type(number + "\n")

    def end(self, seconds: float = 60) -> int:
        end = time.monotonic() + seconds
        while self.process.poll() is None or self.read(0):
            assert time.monotonic() < end, self.shown[self._seen :]
            self.read(0.1)
        return int(self.process.returncode)


@contextlib.contextmanager
def at_terminal(arguments: Sequence[str], user: dict[str, Any] | None = None, **environment: str) -> Iterator[Terminal]:
    """Run the key loader on a terminal of its own."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        # As a terminal's shell starts it: one that runs the tests in the background has Ctrl-C ignored.
        ["env", "--default-signal=INT", PROGRAM, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=os.environ | {"COLUMNS": "100", "TERM": "xterm"} | environment,
        start_new_session=True,
        cwd="/",
        **(user or {}),
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        os.close(master)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the key loader without a terminal."""
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=120, check=False)


@dataclass(frozen=True)
class Officer:
    """An officer with a key that ssh-keygen made."""

    name: str
    path: Path

    @classmethod
    def make(cls, folder: Path, name: str) -> Officer:
        path = folder / f"{name.lower()}.key"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return cls(name, path)

    @property
    def line(self) -> str:
        return " ".join(self.path.with_name(self.path.name + ".pub").read_text().split()[:2])


@dataclass
class Room:
    """Where ceremonies are held: a token folder, records, officers."""

    folder: Path
    officers: list[Officer]
    module: str = "lab"
    user: dict[str, Any] | None = None

    @classmethod
    def make(cls, folder: Path, softhsm: str) -> Room:
        for name in ("module", "records", "plans"):
            (folder / name).mkdir(mode=0o700)
        fields = {
            "library": softhsm,
            "token_label": "keywatt",
            "module_id": "lab",
            "profile": "development",
            "utc_offset": "+00:00",
            "tid_past_minutes": 10,
            "tid_future_minutes": 60,
            "reserved_past_minutes": 44640,
            "reserved_future_minutes": 1440,
        }
        for name in ("ceremony", "online", "certification"):
            lines = [f"{key} = {value}" for key, value in (fields | {"mode": name}).items()]
            (folder / f"{name}.conf").write_text("\n".join(lines) + "\n")
            (folder / f"{name}.conf").chmod(0o644)
        (folder / "site.toml").write_text(
            f'token_folder = "{folder}/module"\nceremony_config = "{folder}/ceremony.conf"\nrecords = "{folder}/records"\n'
        )
        return cls(folder, [Officer.make(folder, name) for name in ("Alice", "Bob", "Carol")])

    @property
    def site(self) -> Path:
        return self.folder / "site.toml"

    def officer(self, name: str) -> Officer:
        return next(officer for officer in self.officers if officer.name == name)

    def plan(self, name: str, ceremony: str, *, days: tuple[str, str] = ("2020-01-01", "2099-12-31")) -> Path:
        """Write a plan for the officers of this room."""
        people = "".join(f'[[participants]]\nname = "{one.name}"\nrole = "officer"\n' for one in self.officers)
        text = (
            f'format = "keywatt-plan/1"\ntitle = "{name}"\nmodule = "{self.module}"\n'
            f"not_before = {days[0]}\nnot_after = {days[1]}\n"
            f'{people}[[participants]]\nname = "Wanda"\nrole = "witness"\n[ceremony]\n{ceremony}'
        )
        path = self.folder / "plans" / f"{name}.toml"
        path.write_text(text)
        return path

    @property
    def officer_list(self) -> str:
        entries = "".join(
            f'[[ceremony.officers.officer]]\nname = "{one.name}"\nkey = "{one.line}"\n'
            "valid_from = 2020-01-01\nvalid_until = 2099-01-01\n"
            for one in self.officers
        )
        return f"[ceremony.officers]\nneeded = 2\n{entries}"

    def initialise_plan(self) -> Path:
        return self.plan("initialise", f'kind = "initialise"\n{self.officer_list}')

    @property
    def stores(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "module").iterdir())

    @property
    def records(self) -> list[Path]:
        return sorted((self.folder / "records").glob("*.json"))


def digest_end(plan: Path) -> str:
    import hashlib

    return hashlib.sha256(plan.read_bytes()).hexdigest()[-8:]


def begin(terminal: Terminal, plan: Path) -> None:
    """Confirm the plan, as somebody does who has compared the digests."""
    terminal.answer("anything else to stop: ", digest_end(plan))


def approve(terminal: Terminal, *officers: Officer) -> None:
    for officer in officers:
        terminal.choose("Who approves now?", officer.name)
        terminal.answer("to sign here: ", str(officer.path))


def hold(room: Room, plan: Path, *names: str) -> str:
    """Hold a ceremony in which nothing but approvals is asked; return what was shown."""
    with at_terminal(["run", str(plan), "--site", str(room.site)], room.user) as terminal:
        begin(terminal, plan)
        approve(terminal, *[room.officer(name) for name in names])
        assert terminal.end() == 0, terminal.shown
        return terminal.shown
