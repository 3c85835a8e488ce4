"""Questions that are the same for both databases, in SQLAlchemy Core; none of them is on the path of a token."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from appliance.ledger.records import Accounted, ClockMark, Filter, TokenEntry, created_at, row_range
from appliance.ledger.storage.schema import clients as client_table
from appliance.ledger.storage.schema import clock, confirmations, instances, meters, requests, settings, tokens, usage
from appliance.ledger.storage.schema import logs as log_table
from sts.token_identifier import BaseDate

_PURGE_CHUNK = 1000
_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RequestRow:
    """A request with its tokens; the answer is sealed, or empty in lists."""

    id: int
    client_id: int
    request_id: bytes
    method: int
    tokens: tuple[TokenEntry, ...]
    fingerprint: bytes = b""
    answer_key: int = 0
    answer: bytes = b""


def _insert_or_ignore(connection: Connection, table: Any, values: dict[str, Any]) -> None:
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(dialect.insert(table).values(values).on_conflict_do_nothing())


def ping(connection: Connection) -> None:
    """Read something."""
    connection.execute(select(clock.c.id)).one()


def clients(connection: Connection) -> dict[str, int]:
    """Return every client's number."""
    return {row.name: row.id for row in connection.execute(select(client_table))}


def add_client(connection: Connection, name: str) -> int:
    """Return a client's number, a new one if need be."""
    _insert_or_ignore(connection, client_table, {"name": name})
    number: int = connection.execute(select(client_table.c.id).where(client_table.c.name == name)).scalar_one()
    return number


def logs(connection: Connection) -> dict[str, int]:
    """Return every log's number."""
    return {row.origin: row.id for row in connection.execute(select(log_table))}


def add_log(connection: Connection, origin: str) -> int:
    """Return a log's number, a new one if need be."""
    _insert_or_ignore(connection, log_table, {"origin": origin})
    number: int = connection.execute(select(log_table.c.id).where(log_table.c.origin == origin)).scalar_one()
    return number


def claim_purpose(connection: Connection, purpose: str) -> str:
    """Say what the ledger is for; a new one is for ``purpose`` from now on."""
    _insert_or_ignore(connection, settings, {"name": "purpose", "value": purpose})
    found: str = connection.execute(select(settings.c.value).where(settings.c.name == "purpose")).scalar_one()
    return found


def raise_mark(connection: Connection, name: str, value: int) -> int:
    """Keep the greatest number that ever stood under a name among the settings; return it."""
    _insert_or_ignore(connection, settings, {"name": name, "value": "0"})
    found = int(
        connection.execute(select(settings.c.value).where(settings.c.name == name).with_for_update()).scalar_one()
    )
    if value > found:
        connection.execute(update(settings).where(settings.c.name == name).values(value=str(value)))
    return max(found, value)


def usage_of(connection: Connection, limits: Sequence[str], now: int) -> list[tuple[str, int, int, int]]:
    """Return, for each of these limits, the most that one of its counters has come to in a window that goes on."""
    found = []
    for limit in limits:
        # Names of counters begin with that of their limit and a bar.
        within = usage.c.counter.startswith(f"{limit}|", autoescape=True)
        most = [func.coalesce(func.max(column), 0) for column in (usage.c.count, usage.c.units, usage.c.currency)]
        row = connection.execute(select(*most).where(within, usage.c.ends > now)).one()
        found.append((limit, int(row[0]), int(row[1]), int(row[2])))
    return found


def forget_usage(connection: Connection, before: int) -> int:
    """Forget counters whose window was over before a time; one that was never used has none."""
    return connection.execute(delete(usage).where(usage.c.ends < before, usage.c.ends > 0)).rowcount


def register_instance(connection: Connection, now: int, host: str, process: int) -> int:
    """Note the start of a process and return its number."""
    row = insert(instances).values(started_at=now, host=host, process=process).returning(instances.c.id)
    number: int = connection.execute(row).scalar_one()
    return number


def clock_mark(connection: Connection) -> ClockMark:
    """Read the mark."""
    row = connection.execute(select(clock).where(clock.c.id == 1)).one()
    return ClockMark(milliseconds=row.high_water, epoch=row.epoch, floor=row.floor)


def confirm_clock(connection: Connection, now: int, operator: str, note: str) -> ClockMark:
    """Set the mark to ``now``, be it forward or back; return what it was."""
    before = clock_mark(connection)
    connection.execute(update(clock).where(clock.c.id == 1).values(high_water=now, epoch=before.epoch + 1))
    connection.execute(
        insert(confirmations).values(
            epoch=before.epoch + 1, confirmed_at=now, mark_before=before.milliseconds, operator=operator, note=note
        )
    )
    return before


def set_floor(connection: Connection, floor: int) -> None:
    """Let no identifier lie before ``floor``; it is never lowered."""
    connection.execute(update(clock).where(clock.c.id == 1, clock.c.floor < floor).values(floor=floor))


def counts(connection: Connection) -> dict[str, int]:
    """Count rows; reads the whole ledger."""
    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in (requests, tokens, client_table)
    }


def find(connection: Connection, client_id: int, request_id: bytes) -> RequestRow | None:
    """Return one request with its sealed answer."""
    query = select(requests).where(requests.c.client_id == client_id, requests.c.request_id == request_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return RequestRow(
        id=row.id,
        client_id=row.client_id,
        request_id=bytes(row.request_id),
        method=row.method,
        tokens=_tokens(connection, [row.id])[row.id],
        fingerprint=bytes(row.fingerprint),
        answer_key=row.answer_key,
        answer=bytes(row.answer),
    )


def requests_of(connection: Connection, meter: int, base_date: int, identifier: int) -> list[tuple[str, bytes]]:
    """Return client and request id of the tokens with an identifier."""
    query = (
        select(client_table.c.name, requests.c.request_id)
        .join(requests, requests.c.client_id == client_table.c.id)
        .join(tokens, tokens.c.request == requests.c.id)
        .where(
            tokens.c.meter == meter,
            tokens.c.base_date == int(base_date),
            tokens.c.identifier == identifier,
        )
    )
    return [(row.name, bytes(row.request_id)) for row in connection.execute(query)]


def accounted(connection: Connection, origin: str) -> Iterator[Accounted]:
    """Give every token of a log, by its place in it; what is missing of a row is empty. Reads as it goes."""
    query = (
        select(tokens, requests.c.request_id.label("asked"), client_table.c.name)
        .outerjoin(requests, tokens.c.request == requests.c.id)
        .outerjoin(client_table, requests.c.client_id == client_table.c.id)
        .join(log_table, tokens.c.log_id == log_table.c.id)
        .where(log_table.c.origin == origin, tokens.c.log_index.is_not(None))
        .order_by(tokens.c.log_index, tokens.c.request, tokens.c.position)
    )
    for row in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query):
        key = "" if row.supply_group_code is None else f"{row.supply_group_code:06d}/{row.key_revision_number}"
        yield Accounted(
            client=row.name or "",
            request_id=bytes(row.asked or b""),
            meter="" if row.meter is None else f"{row.meter:018d}",
            key=key,
            base_date=row.base_date,
            identifier=row.identifier,
            token_class=row.token_class,
            subclass=row.subclass,
            value=str(row.value),
            log_index=row.log_index,
            created=created_at(row.request),
        )


def tokens_elsewhere(connection: Connection, origin: str, since: int = 0) -> dict[str, int]:
    """Count the tokens that are not in a log, from a time on, in milliseconds.

    By the origin of their log, or under the empty name if they have none.
    """
    query = (
        select(log_table.c.origin, func.count())
        .select_from(tokens.outerjoin(log_table, tokens.c.log_id == log_table.c.id))
        .where((log_table.c.origin.is_(None)) | (log_table.c.origin != origin) | (tokens.c.log_index.is_(None)))
        .where(tokens.c.request >= row_range(since, None)[0])
        .group_by(log_table.c.origin)
    )
    found: dict[str, int] = {}
    for name, count in connection.execute(query):
        # With an origin and no index it is in no log either.
        place = "" if name in (None, origin) else str(name)
        found[place] = found.get(place, 0) + count
    return found


def entry_of(connection: Connection, origin: str, client: str, request_id: bytes) -> int | None:
    """Return the entry in a log that answers a request of a client, or None."""
    query = (
        select(tokens.c.log_index)
        .join(requests, tokens.c.request == requests.c.id)
        .join(client_table, requests.c.client_id == client_table.c.id)
        .join(log_table, tokens.c.log_id == log_table.c.id)
        .where(client_table.c.name == client, requests.c.request_id == request_id, log_table.c.origin == origin)
        .order_by(tokens.c.position)
        .limit(1)
    )
    found: int | None = connection.execute(query).scalar_one_or_none()
    return found


def list_issuances(connection: Connection, wanted: Filter, client_id: int | None, limit: int) -> list[RequestRow]:
    """Return up to ``limit`` requests, oldest first."""
    low, high = row_range(wanted.since, wanted.until)
    low = max(low, (wanted.after or -1) + 1)
    query = select(requests.c.id, requests.c.client_id, requests.c.request_id, requests.c.method)
    query = query.where(requests.c.id >= low, requests.c.id < high)
    if client_id is not None:
        query = query.where(requests.c.client_id == client_id)
    if wanted.meter is not None or wanted.vending_key is not None:
        of = select(tokens.c.request).where(tokens.c.request >= low, tokens.c.request < high)
        if wanted.meter is not None:
            of = of.where(tokens.c.meter == wanted.meter)
        if wanted.vending_key is not None:
            sgc, krn = wanted.vending_key
            of = of.where(tokens.c.supply_group_code == sgc, tokens.c.key_revision_number == krn)
        query = query.where(requests.c.id.in_(of))
    rows = connection.execute(query.order_by(requests.c.id).limit(limit)).all()
    by_request = _tokens(connection, [row.id for row in rows])
    return [
        RequestRow(
            id=row.id,
            client_id=row.client_id,
            request_id=bytes(row.request_id),
            method=row.method,
            tokens=by_request[row.id],
        )
        for row in rows
    ]


def _tokens(connection: Connection, ids: list[int]) -> dict[int, tuple[TokenEntry, ...]]:
    query = select(tokens).where(tokens.c.request.in_(ids)).order_by(tokens.c.request, tokens.c.position)
    found = itertools.groupby(connection.execute(query), key=lambda row: int(row.request))
    return dict.fromkeys(ids, ()) | {request: tuple(map(_token, rows)) for request, rows in found}


def _token(row: Any) -> TokenEntry:
    return TokenEntry(
        meter=row.meter,
        base_date=None if row.base_date is None else BaseDate(row.base_date),
        identifier=row.identifier,
        supply_group_code=row.supply_group_code,
        key_revision_number=row.key_revision_number,
        token_class=row.token_class,
        subclass=row.subclass,
        value=int(row.value),
        log_id=row.log_id,
        log_index=row.log_index,
    )


def forget_identifiers(connection: Connection) -> int:
    """Empty a certification ledger; return how many meters there were."""
    count: int = connection.execute(
        select(func.count(tokens.c.meter.distinct())).where(tokens.c.identifier.is_not(None))
    ).scalar_one()
    for table in (tokens, requests, meters, usage):
        connection.execute(delete(table))
    return count


def purge_chunk(connection: Connection, before: int) -> int:
    """Delete up to 1,000 requests older than ``before`` (milliseconds), with their tokens; return how many."""
    _, high = row_range(None, before)
    ids = (
        connection.execute(
            select(requests.c.id).where(requests.c.id < high).order_by(requests.c.id).limit(_PURGE_CHUNK)
        )
        .scalars()
        .all()
    )
    if ids:
        connection.execute(delete(tokens).where(tokens.c.request <= ids[-1]))
        connection.execute(delete(requests).where(requests.c.id <= ids[-1]))
    return len(ids)


def integrity(connection: Connection) -> list[str]:
    """Return what is wrong with the ledger; reads all of it."""
    wrong = []
    if connection.dialect.name == "sqlite":
        wrong += [row[0] for row in connection.execute(text("PRAGMA integrity_check")) if row[0] != "ok"]
    orphans = (
        select(func.count())
        .select_from(tokens.outerjoin(requests, tokens.c.request == requests.c.id))
        .where(requests.c.id.is_(None))
    )
    if count := connection.execute(orphans).scalar_one():
        wrong.append(f"{count} tokens belong to no request")
    return wrong


def purpose(connection: Connection) -> str:
    """Say what the ledger is for, if anything yet."""
    found = connection.execute(select(settings.c.value).where(settings.c.name == "purpose")).scalar_one_or_none()
    return "any" if found is None else str(found)
