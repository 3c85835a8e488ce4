"""A PostgreSQL 15 server of the tests' own, from Debian's package: its own folder, a unix socket, no network."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

BIN = Path("/usr/lib/postgresql/15/bin")
USER = "postgres"


class Postgres:
    """One server; every database in it is a ledger or will be one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "run"
        self._server: subprocess.Popen[bytes] | None = None
        self.listen = ""
        self.port = 5432

    def create(self) -> None:
        self.socket.mkdir()
        # Any system user may connect: the appliance has its own.
        self.socket.chmod(0o755)
        self.folder.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER)
            shutil.chown(self.socket, USER)
        self._run("initdb", "-D", str(self.data), "-A", "trust", "-U", USER, "--no-sync", "--locale=C", "-E", "UTF8")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def _as_user(self) -> dict[str, object]:
        if os.geteuid() != 0:
            return {}
        entry = pwd.getpwnam(USER)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(BIN / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd="/", timeout=60, **self._as_user())  # type: ignore[call-overload]

    def listen_to(self, address: str, network: str) -> None:
        """Take connections from a network of the tests' own, before the start."""
        self.listen = address
        with (self.data / "pg_hba.conf").open("a") as file:
            file.write(f"host all all {network} trust\n")

    def start(self) -> None:
        command = [str(BIN / "postgres"), "-D", str(self.data), "-k", str(self.socket), "-p", str(self.port)]
        command += ["-c", f"listen_addresses={self.listen}", "-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB"]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(command, stderr=log, stdout=log, cwd="/", **self._as_user())  # type: ignore[call-overload]
        end = time.monotonic() + 30
        while True:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError:
                assert time.monotonic() < end, (self.folder / "log").read_text()[-2000:]
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT is PostgreSQL's fast shutdown, SIGQUIT the one that is like a crash."""
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(30)
            self._server = None

    def connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self.socket), port=self.port, dbname=database, user=USER, autocommit=True, connect_timeout=3
        )

    def database(self, name: str, template: str = "template1") -> str:
        """Make a database; return the URL of a ledger in it."""
        with contextlib.closing(self.connect("postgres")) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def url(self, name: str, host: str = "") -> str:
        return f"postgresql+psycopg://{USER}@/{name}?host={host or self.socket}&port={self.port}"


@contextlib.contextmanager
def server(address: str = "", network: str = "") -> Iterator[Postgres]:
    """Run a server in a folder that every system user can reach; with an address on the network too."""
    folder = Path(tempfile.mkdtemp(prefix="keywatt-postgres-", dir="/var/tmp"))
    postgres = Postgres(folder)
    try:
        postgres.create()
        if address:
            postgres.listen_to(address, network)
        postgres.start()
        yield postgres
    finally:
        postgres.stop(signal.SIGQUIT)
        shutil.rmtree(folder)
