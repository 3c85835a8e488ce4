"""Where each token stands in the log of the module that made it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the logs, and to every token its place in one; tokens of before have none."""
    op.create_table(
        "logs",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("origin", sa.Text, nullable=False, unique=True),
    )
    op.add_column("tokens", sa.Column("log_id", sa.SmallInteger))
    op.add_column("tokens", sa.Column("log_index", sa.BigInteger))
