"""The tables, for both databases. Changing one needs a migration; a test holds them against each other."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

HEAD = "0004"
"""Revision of the schema that this version works with."""

metadata = MetaData()

clients = Table(
    "clients",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False, unique=True),
)
"""Clients by the name in their certificate."""

requests = Table(
    "requests",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("client_id", Integer, nullable=False),
    Column("request_id", LargeBinary, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("method", SmallInteger, nullable=False),
    Column("answer_key", SmallInteger, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    UniqueConstraint("client_id", "request_id", name="request_once"),
    Index("request_of_client", "client_id", "id"),
)
"""One row for each request that was answered; the id carries the time (records.RowNumbers)."""

tokens = Table(
    "tokens",
    metadata,
    # Of requests.id; no foreign key: both are written by one statement list in one transaction, or neither.
    Column("request", BigInteger, primary_key=True, autoincrement=False),
    Column("position", SmallInteger, primary_key=True, autoincrement=False),
    Column("meter", BigInteger),
    Column("base_date", SmallInteger),
    Column("identifier", Integer),
    Column("supply_group_code", Integer),
    Column("key_revision_number", SmallInteger),
    Column("token_class", SmallInteger, nullable=False),
    Column("subclass", SmallInteger, nullable=False),
    # Decimal digits: currency reaches beyond 64 bits.
    Column("value", Text, nullable=False),
    # Its place in the log of the module that made it; none if it was made before there was one.
    Column("log_id", SmallInteger),
    Column("log_index", BigInteger),
    UniqueConstraint("meter", "base_date", "identifier", name="identifier_once"),
    Index("token_of_key", "supply_group_code", "key_revision_number", "request"),
    sqlite_with_rowid=False,
)
"""One row for each token; the constraint is what keeps an identifier from being used twice for a meter."""

logs = Table(
    "logs",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("origin", Text, nullable=False, unique=True),
)
"""Logs by their origin, which is the id of the module."""

meters = Table(
    "meters",
    metadata,
    Column("meter", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
)
"""What a meter is locked by on a shared ledger, and nothing more; not used on SQLite."""

clock = Table(
    "clock",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("high_water", BigInteger),
    Column("epoch", Integer, nullable=False),
    Column("floor", BigInteger, nullable=False),
)
"""One row, id 1: the latest time of issuing in milliseconds, how often it was confirmed, and a floor."""

usage = Table(
    "usage",
    metadata,
    Column("counter", Text, primary_key=True),
    Column("ends", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("currency", BigInteger, nullable=False),
    Index("usage_over", "ends"),
    sqlite_with_rowid=False,
)
"""What each counter of a limit has come to in its window; ``ends`` in milliseconds, after which nobody asks."""

proposals = Table(
    "proposals",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("client_id", Integer, nullable=False),
    Column("request_id", LargeBinary, nullable=False),
    Column("method", SmallInteger, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("rejected_by", Integer),
    # Executions under way, and those that a crash cut off: nobody rejects it any more.
    Column("claims", Integer, nullable=False),
    UniqueConstraint("client_id", "request_id", name="proposal_once"),
    Index("proposal_over", "expires_at"),
)
"""Requests that others must approve; ids are UUIDs of version 7, times in milliseconds. No token is in one."""

approvals = Table(
    "approvals",
    metadata,
    Column("proposal", LargeBinary, primary_key=True),
    Column("client_id", Integer, primary_key=True, autoincrement=False),
    Column("approved_at", BigInteger, nullable=False),
)
"""Who has approved a proposal; each client once."""

confirmations = Table(
    "confirmations",
    metadata,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("confirmed_at", BigInteger, nullable=False),
    Column("mark_before", BigInteger),
    Column("operator", Text, nullable=False),
    Column("note", Text, nullable=False),
)
"""Every confirmation of the clock by an operator."""

instances = Table(
    "instances",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("started_at", BigInteger, nullable=False),
    Column("host", Text, nullable=False),
    Column("process", Integer, nullable=False),
)
"""Every start of an appliance process; its number goes into row numbers."""

settings = Table(
    "settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""What the ledger is for: ``purpose`` is online or certification, for ever."""
