# ruff: noqa: S608 - numbers of our own
"""Fills a SQLite ledger with rows of the past, so that growth can be measured."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

_CHUNK = 250_000
_SERIES = "WITH RECURSIVE n (i) AS (SELECT {low} UNION ALL SELECT i + 1 FROM n WHERE i < {high} - 1) "
# Luhn digits are not computed here: the last two digits of a meter PAN only have to spread the index.
_METER = "(600727 * 1000000000000 + (10000000 + i) * 100 + i % 100)"
_ANSWER_OCTETS = 200


def fill(path: Path, rows: int) -> float:
    """Add ``rows`` requests with one token each, of as many meters; return the seconds it took."""
    start = time.monotonic()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -500000")
    connection.execute("INSERT OR IGNORE INTO clients (name) VALUES ('filler')")
    (client,) = connection.execute("SELECT id FROM clients WHERE name = 'filler'").fetchone()
    # Rows carry their time in front: a month ago, some 3,500 a second.
    first = (int(time.time() * 1000) - 30 * 86_400_000) << 21
    for low in range(0, rows, _CHUNK):
        series = _SERIES.format(low=low, high=min(low + _CHUNK, rows))
        row = f"({first} + (i << 19))"
        connection.execute("BEGIN")
        connection.execute(
            f"INSERT INTO requests {series} SELECT {row}, {client}, CAST(printf('%016d', i) AS BLOB),"
            f" randomblob(32), 1, 1, randomblob({_ANSWER_OCTETS}) FROM n"
        )
        connection.execute(
            f"INSERT INTO tokens {series} SELECT {row}, 0, {_METER}, 14, 6000000 + i % 500000, 201457, 1, 0, 0, '256' FROM n"
        )
        connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return time.monotonic() - start
