"""The ledger in PostgreSQL, shared by several appliances: one transaction for each batch, from lock to commit.

The rows of its meters stay locked while the module works, so that no other appliance takes the same identifiers;
always in ascending order, so that no two wait for each other. Arrays carry a whole batch in one statement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
import sqlalchemy
from sqlalchemy import Connection, Engine, PoolProxiedConnection

from appliance.errors import LedgerConflict, LedgerUnavailable
from appliance.ledger.storage.rows import LAST_IDENTIFIERS, Commit, FoundRequest, LastIdentifiers, Lookup
from appliance.ledger.storage.threads import StorageThreads

_LANES = 4
_READERS = 3
_CONNECT_SECONDS = 3
# A lock is held for one call of the module; whoever holds it longer is gone.
_SESSION = (
    "-c synchronous_commit=on -c lock_timeout=3s -c statement_timeout=10s -c idle_in_transaction_session_timeout=8s"
)
# Whoever looks after the ledger may take his time.
OPERATOR_SESSION = "-c synchronous_commit=on -c lock_timeout=10s"
T = TypeVar("T")

_NEW_METERS = "INSERT INTO meters (meter) SELECT * FROM unnest(%s::bigint[]) ON CONFLICT DO NOTHING"
_LOCK_METERS = "SELECT meter FROM meters WHERE meter = ANY(%s::bigint[]) ORDER BY meter FOR UPDATE"
# psycopg reads a percent sign as the beginning of a parameter.
_NEW_COUNTERS = (
    "INSERT INTO usage (counter, ends, count, units, currency)"
    " SELECT counter, 0, 0, 0, 0 FROM unnest(%s::text[]) AS wanted (counter) ORDER BY counter ON CONFLICT DO NOTHING"
)
_LOCK_COUNTERS = (
    "SELECT counter, count, units, currency FROM usage WHERE counter = ANY(%s::text[]) ORDER BY counter FOR UPDATE"
)
_COUNT = (
    "UPDATE usage SET ends = added.ends, count = usage.count + added.count, units = usage.units + added.units,"
    " currency = usage.currency + added.currency"
    " FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])"
    " AS added (counter, ends, count, units, currency) WHERE usage.counter = added.counter"
)
_LASTS = (
    f"SELECT meter, {LAST_IDENTIFIERS.replace('%', '%%')}"  # noqa: S608 - our own SQL
    " FROM unnest(%s::bigint[]) AS wanted (meter)"
)
_FIND = (
    "SELECT place, fingerprint, method, answer_key, answer"
    " FROM unnest(%s::int[], %s::int[], %s::bytea[]) AS wanted (place, client_id, request_id)"
    " JOIN requests USING (client_id, request_id)"
)
_TYPES = {
    "requests": ("bigint", "int", "bytea", "bytea", "smallint", "smallint", "bytea"),
    "tokens": (
        *("bigint", "smallint", "bigint", "smallint", "int", "int", "smallint", "smallint", "smallint", "text"),
        *("smallint", "bigint"),
    ),
}
_ARRAYS = {table: ", ".join(f"%s::{name}[]" for name in types) for table, types in _TYPES.items()}
_INSERT = {
    table: f"INSERT INTO {table} SELECT * FROM unnest({_ARRAYS[table]})"  # noqa: S608 - our own names
    for table in ("requests", "tokens")
}
_CLOCK = "UPDATE clock SET high_water = %s WHERE epoch = %s AND coalesce(high_water, 0) < %s"
_TAKEN = "SELECT 1 FROM tokens WHERE meter = %s AND base_date = %s AND identifier = %s"


# A server that is silent is a server that is gone: 10 s, not the system's quarter of an hour.
_SOCKET = {"keepalives_idle": 3, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}


def make_engine(url: str, connections: int = _LANES + 1, session: str = _SESSION) -> Engine:
    """Return an engine; ``session`` are settings of the server for each of its connections."""
    options = {"options": session, "connect_timeout": _CONNECT_SECONDS, "application_name": "keywatt"} | _SOCKET
    return sqlalchemy.create_engine(url, pool_size=connections, max_overflow=0, connect_args=options)


class PostgresStorage:
    """Each batch has a connection and a thread to itself, from lock to commit."""

    lanes = _LANES
    is_shared = True

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._threads = StorageThreads(_LANES + 1, "ledger")
        # Lists may take long; they have threads and connections of their own.
        self._lists = make_engine(engine.url.render_as_string(hide_password=False), _READERS)
        self._readers = StorageThreads(_READERS, "ledger-lists")

    async def begin(self, lookup: Lookup) -> PostgresWork:
        """Lock the meters and read; raises LedgerUnavailable or LedgerConflict."""
        try:
            return await self.run(self._begin, lookup)
        except LedgerUnavailable:
            # The pool may have held connections of a server that has restarted since; nothing was done yet.
            return await self.run(self._begin, lookup)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a query; raises LedgerUnavailable."""
        return await self._readers.run(self._in_transaction, self._lists, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run a change in a transaction of its own; raises LedgerUnavailable."""
        return await self.run(self._in_transaction, self.engine, work)

    def close(self) -> None:
        """Finish what is under way and close every connection."""
        self._threads.close()
        self._readers.close()
        self._lists.dispose()
        self.engine.dispose()

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run blocking work on a thread of the ledger."""
        return await self._threads.run(work, *arguments)

    def _begin(self, lookup: Lookup) -> PostgresWork:
        pooled: PoolProxiedConnection | None = None
        try:
            pooled = self.engine.raw_connection()
            driver: Any = pooled.driver_connection
            connection: psycopg.Connection[Any] = driver
            with connection.pipeline():
                cursors = []
                counted: psycopg.Cursor[Any] | None = None
                if lookup.meters:
                    connection.execute(_NEW_METERS, (lookup.meters,))
                    connection.execute(_LOCK_METERS, (lookup.meters,))
                    # A statement of its own: it sees what whoever held the locks has committed.
                    cursors.append(connection.execute(_LASTS, (lookup.meters,)))
                if lookup.counters:
                    # Locked after the meters and in order, so that no two batches wait for each other.
                    connection.execute(_NEW_COUNTERS, (lookup.counters,))
                    counted = connection.execute(_LOCK_COUNTERS, (lookup.counters,))
                # Read after the locks: whoever held them may have answered one of these requests.
                columns = [list(column) for column in zip(*lookup.requests, strict=True)]
                cursors.append(connection.execute(_FIND, columns))
            found: list[FoundRequest] = cursors[-1].fetchall()
            rows: list[Any] = cursors[0].fetchall() if lookup.meters else []
            lasts: LastIdentifiers = {row[0]: list(row[1:]) for row in rows}
            usage: list[Any] = [] if counted is None else counted.fetchall()
        except (psycopg.Error, sqlalchemy.exc.SQLAlchemyError) as error:
            self.discard(pooled)
            raise _translated(error) from error
        return PostgresWork(self, pooled, found, lasts, usage)

    @staticmethod
    def _in_transaction(engine: Engine, work: Callable[[Connection], T]) -> T:
        try:
            with engine.begin() as connection:
                return work(connection)
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise _translated(error) from error

    @staticmethod
    def discard(pooled: PoolProxiedConnection | None) -> None:
        """Close a connection whose state is in doubt; the pool makes another."""
        if pooled is not None:
            pooled.invalidate()
            pooled.close()


def _translated(error: Exception) -> LedgerUnavailable | LedgerConflict:
    original = getattr(error, "orig", None) or error
    conflicts = (
        psycopg.errors.UniqueViolation,
        psycopg.errors.DeadlockDetected,
        psycopg.errors.LockNotAvailable,
        psycopg.errors.SerializationFailure,
    )
    if isinstance(original, conflicts):
        return LedgerConflict(f"another appliance was faster: {type(original).__name__}")
    return LedgerUnavailable(f"the ledger cannot be used: {type(original).__name__}")


class PostgresWork:
    """A batch under way: an open transaction that holds the rows of its meters."""

    def __init__(
        self,
        storage: PostgresStorage,
        pooled: PoolProxiedConnection,
        found: list[FoundRequest],
        lasts: LastIdentifiers,
        usage: list[tuple[str, int, int, int]],
    ) -> None:
        self._storage = storage
        self._pooled = pooled
        driver: Any = pooled.driver_connection
        self._connection: psycopg.Connection[Any] = driver
        self._is_over = False
        self.found = found
        self.lasts = lasts
        self.usage = usage

    async def taken(self, meter: int, base_date: int, identifier: int) -> bool:
        """Tell whether a meter was given an identifier; raises LedgerUnavailable."""
        return await self._storage.run(self._guarded, self._taken, meter, base_date, identifier)

    async def commit(self, commit: Commit) -> None:
        """Make it durable; raises LedgerUnavailable or LedgerConflict."""
        await self._storage.run(self._guarded, self._commit, commit)

    async def abandon(self) -> None:
        """Roll back and give the connection back, unless all is over; never raises."""
        if not self._is_over:
            await self._storage.run(self._abandon)

    def _guarded(self, work: Callable[..., T], *arguments: Any) -> T:
        try:
            return work(*arguments)
        except psycopg.Error as error:
            self._is_over = True
            self._storage.discard(self._pooled)
            raise _translated(error) from error

    def _taken(self, meter: int, base_date: int, identifier: int) -> bool:
        return self._connection.execute(_TAKEN, (meter, base_date, identifier)).fetchone() is not None

    def _commit(self, commit: Commit) -> None:
        with self._connection.pipeline():
            for table in ("requests", "tokens"):
                self._all(_INSERT[table], commit.requests if table == "requests" else commit.tokens)
            self._all(_COUNT, commit.usage)
            if commit.clock is not None:
                self._connection.execute(_CLOCK, commit.clock)
            self._connection.commit()
        self._is_over = True
        self._pooled.close()

    def _all(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            self._connection.execute(statement, [list(column) for column in zip(*rows, strict=True)])

    def _abandon(self) -> None:
        self._is_over = True
        try:
            self._connection.rollback()
            self._pooled.close()
        except (psycopg.Error, sqlalchemy.exc.SQLAlchemyError):
            self._storage.discard(self._pooled)
