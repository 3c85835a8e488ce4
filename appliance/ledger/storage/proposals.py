"""Proposals and approvals in SQL: each function is one transaction's work on a connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from appliance.ledger.storage.schema import approvals, proposals, requests


def _insert_once(connection: Connection, table: Any, row: dict[str, object]) -> bool:
    """Insert a row unless one of its kind is there; tell whether it was inserted."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return connection.execute(dialect.insert(table).values(**row).on_conflict_do_nothing()).rowcount > 0


def add(connection: Connection, row: dict[str, object], now: int, most: int) -> Row[Any] | None:
    """Add a proposal; return it, or the one that this client has under this request id, or None: it has too many."""
    of_client = proposals.c.client_id == row["client_id"]
    known = select(proposals).where(of_client, proposals.c.request_id == row["request_id"])
    found = connection.execute(known).one_or_none()
    if found is not None:
        return found
    is_issued = exists().where(
        requests.c.client_id == proposals.c.client_id, requests.c.request_id == proposals.c.request_id
    )
    # Rejected ones count too: else somebody could propose and reject without end.
    counted = select(func.count()).select_from(proposals).where(of_client, proposals.c.expires_at > now, ~is_issued)
    if connection.execute(counted).scalar_one() >= most:
        return None
    _insert_once(connection, proposals, row)
    return connection.execute(known).one()


def get(connection: Connection, proposal: bytes) -> tuple[Row[Any], list[tuple[int, int]]] | None:
    """Return a proposal, and who has approved it and when; None if there is none."""
    row = connection.execute(select(proposals).where(proposals.c.id == proposal)).one_or_none()
    return None if row is None else (row, _approvals(connection, proposal))


def _approvals(connection: Connection, proposal: bytes) -> list[tuple[int, int]]:
    query = (
        select(approvals.c.client_id, approvals.c.approved_at)
        .where(approvals.c.proposal == proposal)
        .order_by(approvals.c.approved_at, approvals.c.client_id)
    )
    return [(row.client_id, row.approved_at) for row in connection.execute(query)]


def approve(connection: Connection, proposal: bytes, client: int, now: int) -> bool:
    """Note an approval of a proposal that is open; tell whether it was open. Twice by one client is once."""
    # Locked, so that nobody rejects it in between.
    row = connection.execute(
        select(proposals.c.rejected_by, proposals.c.expires_at).where(proposals.c.id == proposal).with_for_update()
    ).one_or_none()
    if row is None or row.rejected_by is not None or row.expires_at <= now:
        return False
    _insert_once(connection, approvals, {"proposal": proposal, "client_id": client, "approved_at": now})
    return True


def reject(connection: Connection, proposal: bytes, client: int) -> bool:
    """Reject a proposal, unless it is being executed; tell whether it is rejected."""
    connection.execute(
        update(proposals)
        .where(proposals.c.id == proposal, proposals.c.rejected_by.is_(None), proposals.c.claims == 0)
        .values(rejected_by=client)
    )
    found = connection.execute(select(proposals.c.rejected_by).where(proposals.c.id == proposal)).scalar_one_or_none()
    return found is not None


def claim(connection: Connection, proposal: bytes, now: int) -> bool:
    """Count one more execution of a proposal that is open; tell whether it was."""
    claimed = connection.execute(
        update(proposals)
        .where(proposals.c.id == proposal, proposals.c.rejected_by.is_(None), proposals.c.expires_at > now)
        .values(claims=proposals.c.claims + 1)
    )
    return claimed.rowcount == 1


def give_back(connection: Connection, proposal: bytes) -> None:
    """Count one execution less."""
    connection.execute(update(proposals).where(proposals.c.id == proposal).values(claims=proposals.c.claims - 1))


def forget(connection: Connection, before: int) -> int:
    """Forget proposals whose time was over before a time, with their approvals; return how many."""
    gone = select(proposals.c.id).where(proposals.c.expires_at < before)
    connection.execute(delete(approvals).where(approvals.c.proposal.in_(gone)))
    return connection.execute(delete(proposals).where(proposals.c.expires_at < before)).rowcount


def list_open(
    connection: Connection, after: bytes, now: int, limit: int
) -> Sequence[tuple[Row[Any], list[tuple[int, int]]]]:
    """Return proposals that are open, by id, which is by time."""
    rows = connection.execute(
        select(proposals)
        .where(proposals.c.id > after, proposals.c.expires_at > now, proposals.c.rejected_by.is_(None))
        .order_by(proposals.c.id)
        .limit(limit)
    ).all()
    return [(row, _approvals(connection, row.id)) for row in rows]
