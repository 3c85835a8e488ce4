"""Proposals and their approvals."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add both."""
    op.create_table(
        "proposals",
        sa.Column("id", sa.LargeBinary, primary_key=True),
        sa.Column("client_id", sa.Integer, nullable=False),
        sa.Column("request_id", sa.LargeBinary, nullable=False),
        sa.Column("method", sa.SmallInteger, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("rejected_by", sa.Integer),
        sa.Column("claims", sa.Integer, nullable=False),
        sa.UniqueConstraint("client_id", "request_id", name="proposal_once"),
    )
    op.create_index("proposal_over", "proposals", ["expires_at"])
    op.create_table(
        "approvals",
        sa.Column("proposal", sa.LargeBinary, primary_key=True),
        sa.Column("client_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("approved_at", sa.BigInteger, nullable=False),
    )
