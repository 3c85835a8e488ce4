"""Opening: which database, and whether its schema is the one that this version works with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection, Engine

from appliance.errors import ConfigurationInvalid, LedgerUnavailable
from appliance.ledger.storage import postgresql, sqlite
from appliance.ledger.storage.rows import Storage
from appliance.ledger.storage.schema import HEAD
from appliance.ledger.storage.writing import writing


def make_engine(url: str, *, operator: bool = False) -> Engine:
    """Return an engine for a ledger's URL; raises ConfigurationInvalid for a database that is none of the two.

    An operator's statements may take as long as they need.
    """
    try:
        parsed = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        raise ConfigurationInvalid("ledger.url: give sqlite:///PATH or postgresql+psycopg://HOST/DATABASE") from None
    if parsed.drivername == "sqlite" and parsed.database and parsed.database != ":memory:":
        return sqlite.make_engine(Path(parsed.database))
    if parsed.drivername == "postgresql+psycopg":
        if parsed.password is not None:
            raise ConfigurationInvalid("ledger.url: no password here; use a passfile, peer or certificate login")
        return postgresql.make_engine(url, 2, postgresql.OPERATOR_SESSION) if operator else postgresql.make_engine(url)
    raise ConfigurationInvalid("ledger.url: give sqlite:///PATH or postgresql+psycopg://HOST/DATABASE")


def revision(engine: Engine) -> str | None:
    """Return the revision of the schema, or None for an empty database; raises LedgerUnavailable."""
    try:
        with engine.connect() as connection:
            if not sqlalchemy.inspect(connection).has_table("alembic_version"):
                return None
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise LedgerUnavailable(f"the ledger cannot be opened: {type(error).__name__}") from error
    return None if found is None else str(found)


def require_head(found: str | None) -> None:
    """Raise ConfigurationInvalid for any other revision than this version's."""
    if found != HEAD:
        state = "empty" if found is None else f"at revision {found}"
        raise ConfigurationInvalid(f"the ledger is {state}, this version needs {HEAD}: run `keywatt-ledger upgrade`")


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Read from a ledger; raises LedgerUnavailable."""
    try:
        with engine.connect() as connection:
            yield connection
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise LedgerUnavailable(f"the ledger cannot be read: {type(error).__name__}") from error


def upgrade(engine: Engine) -> None:
    """Bring the schema to what this version works with; raises LedgerUnavailable."""
    from alembic import command  # noqa: PLC0415 - costs a third of a second that a start need not pay
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).resolve().parents[1] / "migrations"))
    try:
        with writing(engine).begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise LedgerUnavailable(f"the ledger cannot be upgraded: {type(error).__name__}") from error


def open_storage(url: str) -> Storage:
    """Open a ledger; an empty SQLite file is set up, anything else must be at the right revision.

    Raises:
        ConfigurationInvalid: another revision, a bad URL, or a file that another process has.
        LedgerUnavailable: no database there.
    """
    engine = make_engine(url)
    storage: Storage
    is_file = engine.dialect.name == "sqlite"
    storage = sqlite.SqliteStorage(engine) if is_file else postgresql.PostgresStorage(engine)
    try:
        found = revision(engine)
        if found is None and is_file:
            upgrade(engine)
        else:
            require_head(found)
    except BaseException:
        storage.close()
        raise
    return storage
