"""The ledger: requests, tokens, meters, clock."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables of the first version."""
    op.create_table(
        "clients",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
    )
    op.create_table(
        "requests",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("client_id", sa.Integer, nullable=False),
        sa.Column("request_id", sa.LargeBinary, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("method", sa.SmallInteger, nullable=False),
        sa.Column("answer_key", sa.SmallInteger, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("client_id", "request_id", name="request_once"),
    )
    op.create_index("request_of_client", "requests", ["client_id", "id"])
    op.create_table(
        "tokens",
        sa.Column("request", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("meter", sa.BigInteger),
        sa.Column("base_date", sa.SmallInteger),
        sa.Column("identifier", sa.Integer),
        sa.Column("supply_group_code", sa.Integer),
        sa.Column("key_revision_number", sa.SmallInteger),
        sa.Column("token_class", sa.SmallInteger, nullable=False),
        sa.Column("subclass", sa.SmallInteger, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.UniqueConstraint("meter", "base_date", "identifier", name="identifier_once"),
        sqlite_with_rowid=False,
    )
    op.create_index("token_of_key", "tokens", ["supply_group_code", "key_revision_number", "request"])
    op.create_table(
        "meters",
        sa.Column("meter", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    )
    clock = op.create_table(
        "clock",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("high_water", sa.BigInteger),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("floor", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(clock, [{"id": 1, "high_water": None, "epoch": 0, "floor": 0}])
    op.create_table(
        "confirmations",
        sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("confirmed_at", sa.BigInteger, nullable=False),
        sa.Column("mark_before", sa.BigInteger),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table(
        "instances",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("process", sa.Integer, nullable=False),
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
