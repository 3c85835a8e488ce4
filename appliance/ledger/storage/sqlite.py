"""The ledger in one SQLite file: WAL, synchronous FULL, one process, one connection.

One connection, because a second one that only reads would have to read again what the first has changed. Small work
is done where it comes up: it takes less time than waking a thread. Large work goes to a thread of its own, and every
statement takes a whole batch, because python gives up its lock around each one: a thousand statements would wait a
thousand times for it. Sizes are powers of two, so that few statements stay prepared.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection, Engine, event

from appliance.errors import ConfigurationInvalid, LedgerConflict, LedgerUnavailable
from appliance.ledger.storage.rows import LAST_IDENTIFIERS, Commit, FoundRequest, LastIdentifiers, Lookup
from appliance.ledger.storage.threads import StorageThreads
from appliance.ledger.storage.writing import WRITES, writing

_CHUNK_MAX = 256
_CACHE_KIB = 64 * 1024
# So few rows cost less than waking a thread and being woken by it.
_INLINE_MAX = 2
_CHECKPOINT_PAGES = 4000
_BUSY_SECONDS = 5
T = TypeVar("T")

_COLUMNS = {"requests": 7, "tokens": 12}
_USAGE = "SELECT counter, count, units, currency FROM json_each(?) AS wanted JOIN usage ON usage.counter = wanted.value"
_COUNT = (
    "INSERT INTO usage (counter, ends, count, units, currency)"
    " SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(?) WHERE true"
    " ON CONFLICT (counter) DO UPDATE SET count = count + excluded.count, units = units + excluded.units,"
    " currency = currency + excluded.currency"
)


@functools.cache
def _insert(table: str, rows: int) -> str:
    row = "(" + ", ".join("?" * _COLUMNS[table]) + ")"
    return f"INSERT INTO {table} VALUES " + ", ".join([row] * rows)  # noqa: S608 - our own names, placeholders only


@functools.cache
def _find(rows: int) -> str:
    values = ", ".join(["(?, ?, ?)"] * rows)
    return (
        f"WITH wanted (place, client_id, request_id) AS (VALUES {values}) "  # noqa: S608 - placeholders only
        "SELECT place, fingerprint, method, answer_key, answer FROM wanted JOIN requests USING (client_id, request_id)"
    )


@functools.cache
def _lasts(rows: int) -> str:
    values = ", ".join(["(?)"] * rows)
    return (
        f"WITH wanted (meter) AS (VALUES {values}) "  # noqa: S608 - placeholders only
        f"SELECT json_group_array(json_array(meter, {LAST_IDENTIFIERS})) FROM wanted WHERE meter IS NOT NULL"
    )


def _powers(count: int) -> list[int]:
    sizes = [_CHUNK_MAX] * (count // _CHUNK_MAX)
    return sizes + [1 << bit for bit in reversed(range(8)) if count % _CHUNK_MAX >> bit & 1]


def _padded(count: int) -> int:
    return 1 << (count - 1).bit_length()


def make_engine(path: Path) -> Engine:
    """Return an engine whose connections are durable: a commit returns when the disk has it."""
    engine = sqlalchemy.create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False, "cached_statements": 256},
    )

    def connected(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            f"cache_size = -{_CACHE_KIB}",
            f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    def begin(connection: Connection) -> None:
        # Who reads takes no lock: a count over ten million rows must not hold up a sale.
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begin)
    return engine


def lock_file(path: Path) -> int:
    """Take the ledger for this process alone; raises ConfigurationInvalid if another has it."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigurationInvalid(
            f"{path}: another appliance process has this ledger; several share one on PostgreSQL only"
        ) from None
    return descriptor


class _Busy(Exception):
    """Another process holds the lock, and we did not wait for it."""


class SqliteStorage:
    """Reads and commits on one connection, one after the other."""

    lanes = 2
    is_shared = False

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # By its real name: a link would be locked beside it.
        path = Path(str(engine.url.database)).resolve()
        try:
            self._lock = lock_file(path)
        except OSError as error:
            raise ConfigurationInvalid(f"{path}: {error.strerror}") from None
        self._thread = StorageThreads(1, "ledger")
        # Lists may take long; they have a thread and a connection of their own.
        self._readers = StorageThreads(1, "ledger-lists")
        self._open: sqlite3.Connection | None = None
        self._patience = _BUSY_SECONDS * 1000

    async def begin(self, lookup: Lookup) -> SqliteWork:
        """Read what a batch needs; raises LedgerUnavailable."""
        found, lasts, usage = await self._run(len(lookup.requests), self._begin, lookup)
        return SqliteWork(self, found, lasts, usage)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a query; raises LedgerUnavailable."""
        return await self._readers.run(self._in_transaction, self.engine, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run a change in a transaction of its own; raises LedgerUnavailable."""
        return await self._thread.run(self._in_transaction, writing(self.engine), work)

    def close(self) -> None:
        """Finish what is under way and give the file free."""
        self._thread.close()
        self._readers.close()
        if self._open is not None:
            self._open.close()
        self.engine.dispose()
        os.close(self._lock)

    async def taken(self, meter: int, base_date: int, identifier: int) -> bool:
        """Tell whether a meter was given an identifier."""
        return await self._run(1, self._taken, meter, base_date, identifier)

    async def commit(self, commit: Commit) -> None:
        """Make a batch durable, or raise LedgerUnavailable or LedgerConflict: then nothing of it is there."""
        await self._run(len(commit.requests), self._commit, commit)

    async def _run(self, size: int, work: Callable[..., T], *arguments: Any) -> T:
        if size <= _INLINE_MAX and not self._thread.is_busy:
            try:
                with self._impatiently():
                    return work(*arguments)
            except _Busy:
                # Somebody else writes: waiting for it is nothing for the event loop.
                pass
        return await self._thread.run(work, *arguments)

    @contextlib.contextmanager
    def _impatiently(self) -> Iterator[None]:
        self._patience = 0
        try:
            yield
        finally:
            self._patience = _BUSY_SECONDS * 1000

    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            pooled = self.engine.raw_connection()
            driver: Any = pooled.driver_connection
            # It is ours for as long as it works; the pool need not remember it.
            pooled.detach()
            self._open = driver
        connection: sqlite3.Connection = self._open
        return connection

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._give_up()
            if self._patience == 0 and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                raise _Busy from error
            raise _translated(error) from error
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise LedgerUnavailable(f"the ledger cannot be opened: {type(error).__name__}") from error
        except BaseException:
            # No memory, say. No transaction may stay open: the next batch would read what is not durable.
            self._give_up()
            raise

    def _begin(self, lookup: Lookup) -> tuple[list[FoundRequest], LastIdentifiers, list[tuple[str, int, int, int]]]:
        with self._guarded():
            connection = self._connection()
            found: list[FoundRequest] = []
            for start in range(0, len(lookup.requests), _CHUNK_MAX):
                part = lookup.requests[start : start + _CHUNK_MAX]
                parameters: list[int | bytes | None] = [value for row in part for value in row]
                parameters += [None] * 3 * (_padded(len(part)) - len(part))
                found += connection.execute(_find(_padded(len(part))), parameters).fetchall()
            lasts: LastIdentifiers = {}
            for start in range(0, len(lookup.meters), _CHUNK_MAX):
                meters: list[int | None] = [*lookup.meters[start : start + _CHUNK_MAX]]
                meters += [None] * (_padded(len(meters)) - len(meters))
                (text,) = connection.execute(_lasts(len(meters)), meters).fetchone()
                lasts |= {row[0]: row[1:] for row in json.loads(text)}
            usage: list[tuple[str, int, int, int]] = []
            if lookup.counters:
                usage = connection.execute(_USAGE, (json.dumps(lookup.counters),)).fetchall()
        return found, lasts, usage

    def _taken(self, meter: int, base_date: int, identifier: int) -> bool:
        with self._guarded():
            connection = self._connection()
            row = connection.execute(
                "SELECT 1 FROM tokens WHERE meter = ? AND base_date = ? AND identifier = ?",
                (meter, base_date, identifier),
            ).fetchone()
        return row is not None

    def _commit(self, commit: Commit) -> None:
        with self._guarded():
            execute = self._connection().execute
            execute(f"PRAGMA busy_timeout = {self._patience}")
            execute("BEGIN IMMEDIATE")
            _insert_all(execute, "requests", commit.requests)
            _insert_all(execute, "tokens", commit.tokens)
            if commit.usage:
                execute(_COUNT, (json.dumps(commit.usage),))
            if commit.clock is not None:
                execute("UPDATE clock SET high_water = ? WHERE epoch = ? AND coalesce(high_water, 0) < ?", commit.clock)
            execute("COMMIT")

    @staticmethod
    def _in_transaction(engine: Engine, work: Callable[[Connection], T]) -> T:
        try:
            with engine.begin() as connection:
                return work(connection)
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise LedgerUnavailable(f"the ledger cannot be used: {type(error).__name__}") from error

    def _give_up(self) -> None:
        # After an error of the disk nothing that this connection remembers is trusted.
        connection, self._open = self._open, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _insert_all(execute: Callable[..., object], table: str, rows: Sequence[tuple[object, ...]]) -> None:
    start = 0
    for size in _powers(len(rows)):
        execute(_insert(table, size), [value for row in rows[start : start + size] for value in row])
        start += size


def _translated(error: sqlite3.Error) -> LedgerUnavailable | LedgerConflict:
    if isinstance(error, sqlite3.IntegrityError):
        return LedgerConflict("the ledger holds this already")
    # The name of SQLite's code says what is wrong with the disk; its text could name a path.
    return LedgerUnavailable(f"the ledger cannot be used: {getattr(error, 'sqlite_errorname', type(error).__name__)}")


class SqliteWork:
    """A batch under way; exclusion between batches is the pipeline's, for there is one process."""

    def __init__(
        self,
        storage: SqliteStorage,
        found: list[FoundRequest],
        lasts: LastIdentifiers,
        usage: list[tuple[str, int, int, int]],
    ) -> None:
        self.found = found
        self.lasts = lasts
        self.usage = usage
        self.taken = storage.taken
        self.commit = storage.commit

    async def abandon(self) -> None:
        """Nothing was locked."""
