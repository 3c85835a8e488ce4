"""Transactions that write say so, because on SQLite they have to take their lock at the beginning."""

from __future__ import annotations

from sqlalchemy import Engine

WRITES = "keywatt_writes"


def writing(engine: Engine) -> Engine:
    """Return an engine on the same connections whose transactions write."""
    return engine.execution_options(**{WRITES: True})
