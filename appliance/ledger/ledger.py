"""The ledger as the use cases see it: begin a batch, commit it, look things up."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from time import time_ns
from typing import Self

from appliance.errors import ApplianceError, ConfigurationInvalid
from appliance.ledger.answers import AnswerCipher
from appliance.ledger.records import (
    Claim,
    ClockMark,
    Entry,
    Filter,
    Issuance,
    Method,
    RowNumbers,
    Stored,
    TokenEntry,
    Usage,
)
from appliance.ledger.storage import queries
from appliance.ledger.storage.open import open_storage
from appliance.ledger.storage.rows import Commit, FoundRequest, Lookup, Storage, UsageRow, Work
from sts.token_identifier import BaseDate

_COLUMN = {BaseDate.BDT_1993: 0, BaseDate.BDT_2014: 1, BaseDate.BDT_2035: 2}
_MARK_EVERY_MS = 1000


def milliseconds_now() -> int:
    """Return the wall clock, in milliseconds since 1970."""
    return time_ns() // 1_000_000


def _require_purpose(found: str, wanted: str) -> None:
    if found != wanted:
        raise ConfigurationInvalid(f"this ledger is for {found} mode, the module works in {wanted} mode")


class Ledger:
    """One appliance process's access to the ledger.

    Args:
        storage: the database.
        cipher: seals and opens stored answers.
        instance: number of this process among all that ever used the ledger.
        clients: numbers of the clients that are known already.
        logs: the same of the logs, by origin.
        now: the wall clock in milliseconds.
    """

    def __init__(
        self,
        storage: Storage,
        cipher: AnswerCipher,
        *,
        instance: int,
        clients: dict[str, int],
        logs: dict[str, int],
        now: Callable[[], int] = milliseconds_now,
    ) -> None:
        self._storage = storage
        self._cipher = cipher
        self._rows = RowNumbers(instance)
        self._clients = clients
        self._names = {number: name for name, number in clients.items()}
        self._logs = logs
        self._now = now
        self._marked = 0
        self.commits = 0
        """Batches made durable by this process."""

    @classmethod
    async def open(
        cls, url: str, cipher: AnswerCipher, *, certification: bool, now: Callable[[], int] = milliseconds_now
    ) -> Self:
        """Open a ledger for issuing; an empty SQLite file is set up first.

        Args:
            url: ``sqlite:///PATH`` or ``postgresql+psycopg://…``.
            cipher: seals and opens stored answers.
            certification: whether the module replays official tests; such a ledger is never used for anything else.
            now: the wall clock in milliseconds.

        Raises:
            ConfigurationInvalid: another schema or purpose, or a file that another process has.
            LedgerUnavailable: no database there.
        """
        storage = await asyncio.to_thread(open_storage, url)
        try:
            purpose = "certification" if certification else "online"
            found = await storage.write(lambda connection: queries.claim_purpose(connection, purpose))
            _require_purpose(found, purpose)
            host, process = socket.gethostname(), os.getpid()
            instance = await storage.write(
                lambda connection: queries.register_instance(connection, now(), host, process)
            )
            clients = await storage.read(queries.clients)
            logs = await storage.read(queries.logs)
        except BaseException:
            storage.close()
            raise
        return cls(storage, cipher, instance=instance, clients=clients, logs=logs, now=now)

    @property
    def lanes(self) -> int:
        """How many batches may be under way at once."""
        return self._storage.lanes

    async def begin(self, claims: Sequence[Claim]) -> Transaction:
        """Look up requests and meters; at most one claim for each client and request id.

        Raises:
            LedgerUnavailable, LedgerConflict: nothing was done; a retry may help.
        """
        for claim in claims:
            if claim.client not in self._clients:
                await self._add_client(claim.client)
        lookup = Lookup(
            requests=[(place, self._clients[c.client], c.request_id) for place, c in enumerate(claims)],
            meters=sorted({claim.meter for claim in claims if claim.meter is not None}),
            counters=sorted({counter for claim in claims for counter in claim.counters}),
        )
        work = await self._storage.begin(lookup)
        try:
            stored = {row[0]: self._open(claims[row[0]], row) for row in work.found}
        except BaseException:
            await work.abandon()
            raise
        return Transaction(self, work, stored)

    def _open(self, claim: Claim, row: FoundRequest) -> Stored | ApplianceError:
        _, fingerprint, method, key, sealed = row
        try:
            answer = self._cipher.open(key, sealed, claim.client, claim.request_id, fingerprint)
        except ApplianceError as error:
            # Of this request alone; the others of its batch are not held up by it.
            return error
        return Stored(fingerprint=fingerprint, method=Method(method), answer=answer)

    async def find(self, client: str, request_id: bytes) -> Issuance | None:
        """Return an issuance with its answer. Raises LedgerUnavailable or AnswerUnreadable."""
        number = await self._client(client)
        if number is None:
            return None
        row = await self._storage.read(lambda connection: queries.find(connection, number, request_id))
        if row is None:
            return None
        answer = self._cipher.open(row.answer_key, row.answer, client, request_id, row.fingerprint)
        return Issuance(
            row=row.id,
            client=client,
            request_id=request_id,
            method=Method(row.method),
            tokens=row.tokens,
            log=await self._log_of(row.tokens),
            answer=answer,
        )

    async def list(self, wanted: Filter, limit: int) -> list[Issuance]:
        """Return up to ``limit`` issuances, oldest first, without their answers. Raises LedgerUnavailable."""
        number = None if wanted.client is None else await self._client(wanted.client)
        if wanted.client is not None and number is None:
            return []
        rows = await self._storage.read(lambda connection: queries.list_issuances(connection, wanted, number, limit))
        if any(row.client_id not in self._names for row in rows):
            self._learn(await self._storage.read(queries.clients))
        return [
            Issuance(
                row=row.id,
                client=self._names[row.client_id],
                request_id=row.request_id,
                method=Method(row.method),
                tokens=row.tokens,
                log=await self._log_of(row.tokens),
            )
            for row in rows
        ]

    async def requests_of(self, meter: int, base_date: BaseDate, identifier: int) -> Sequence[tuple[str, bytes]]:
        """Return client and request id of what a meter's identifier was used for. Raises LedgerUnavailable."""
        wanted = partial(queries.requests_of, meter=meter, base_date=base_date, identifier=identifier)
        return await self._storage.read(wanted)

    async def clock_mark(self) -> ClockMark:
        """Read the clock's mark. Raises LedgerUnavailable."""
        return await self._storage.read(queries.clock_mark)

    async def forget_identifiers(self) -> int:
        """Forget requests, tokens and meters, in a certification ledger; return how many meters there were."""
        return await self._storage.write(queries.forget_identifiers)

    async def ping(self) -> None:
        """Raise LedgerUnavailable unless the database answers."""
        await self._storage.read(queries.ping)

    async def close(self) -> None:
        """Let go of the database."""
        await asyncio.to_thread(self._storage.close)

    def _learn(self, clients: dict[str, int]) -> None:
        self._clients |= clients
        self._names |= {number: name for name, number in clients.items()}

    async def client_number(self, name: str) -> int:
        """Return a client's number, a new one if need be. Raises LedgerUnavailable."""
        if name not in self._clients:
            await self._add_client(name)
        return self._clients[name]

    async def client_name(self, number: int) -> str:
        """Return a client's name; another appliance may have met it first. Raises LedgerUnavailable."""
        if number not in self._names:
            self._learn(await self._storage.read(queries.clients))
        return self._names[number]

    @property
    def storage(self) -> Storage:
        """The database, for what else is kept in it."""
        return self._storage

    async def _client(self, name: str) -> int | None:
        """Return a client's number; another appliance may have met it first."""
        if name not in self._clients:
            self._learn(await self._storage.read(queries.clients))
        return self._clients.get(name)

    async def _log_of(self, tokens: Sequence[TokenEntry]) -> str:
        """Return the origin of the log that has these tokens."""
        number = tokens[0].log_id if tokens else None
        return "" if number is None else await self._log_name(number)

    async def _log_name(self, number: int) -> str:
        """Return the origin of a log; another appliance may have met it first."""
        if number not in self._logs.values():
            self._logs |= await self._storage.read(queries.logs)
        return next(origin for origin, known in self._logs.items() if known == number)

    async def _add_client(self, name: str) -> None:
        number = await self._storage.write(lambda connection: queries.add_client(connection, name))
        self._learn({name: number})

    @property
    def is_shared(self) -> bool:
        """Whether other appliances may work on it at the same time."""
        return self._storage.is_shared

    async def raise_mark(self, name: str, value: int) -> int:
        """Keep the greatest number that ever stood under a name; return it. Raises LedgerUnavailable."""
        return await self._storage.write(partial(queries.raise_mark, name=name, value=value))

    async def usage_of(self, limits: Sequence[str], now: int) -> dict[str, Usage]:
        """Return the most that a counter of each of these limits has come to by now (milliseconds)."""
        rows = await self._storage.read(partial(queries.usage_of, limits=limits, now=now))
        return {limit: Usage(count=count, units=units, currency=currency) for limit, count, units, currency in rows}

    async def forget_usage(self, before: int) -> int:
        """Forget counters whose window was over before a time (milliseconds); return how many."""
        return await self._storage.write(partial(queries.forget_usage, before=before))

    def _commit_rows(self, entries: Sequence[Entry], epoch: int, now: int, usage: Sequence[UsageRow]) -> Commit:
        number = self._cipher.current
        requests, tokens = [], []
        nonces = self._cipher.nonces(len(entries))
        for row, nonce, entry in zip(self._rows.take(now, len(entries)), nonces, entries, strict=True):
            sealed = self._cipher.seal(nonce, entry.answer, entry.client, entry.request_id, entry.fingerprint)
            client = self._clients[entry.client]
            requests.append((row, client, entry.request_id, entry.fingerprint, int(entry.method), number, sealed))
            for position, token in enumerate(entry.tokens):
                base_date = None if token.base_date is None else int(token.base_date)
                tokens.append(
                    (
                        row,
                        position,
                        token.meter,
                        base_date,
                        token.identifier,
                        token.supply_group_code,
                        token.key_revision_number,
                        token.token_class,
                        token.subclass,
                        str(token.value),
                        None if token.log_index is None else self._logs[entry.log],
                        token.log_index,
                    )
                )
        clock = (now, epoch, now) if now - self._marked >= _MARK_EVERY_MS else None
        return Commit(requests=requests, tokens=tokens, clock=clock, usage=list(usage))

    async def _commit(
        self, work: Work, entries: Sequence[Entry], epoch: int, at: int | None, usage: Sequence[UsageRow]
    ) -> None:
        for entry in entries:
            if entry.log and entry.log not in self._logs:
                self._logs[entry.log] = await self._storage.write(partial(queries.add_log, origin=entry.log))
        commit = self._commit_rows(entries, epoch, self._now() if at is None else at, usage)
        await work.commit(commit)
        self.commits += 1
        if commit.clock is not None:
            self._marked = commit.clock[0]


class Transaction:
    """One batch: what was found, and the way to make it durable. Ends with :meth:`commit` or :meth:`abandon`."""

    def __init__(self, ledger: Ledger, work: Work, stored: dict[int, Stored | ApplianceError]) -> None:
        self._ledger = ledger
        self._work = work
        self.stored = stored
        """By place of the claim: requests that were answered before, or why an answer does not open."""

    def last(self, meter: int, base_date: BaseDate) -> int | None:
        """Return the last ordinary identifier of a meter that was claimed."""
        return self._work.lasts.get(meter, (None, None, None))[_COLUMN[base_date]]

    async def taken(self, meter: int, base_date: BaseDate, identifier: int) -> bool:
        """Tell whether a meter was given an identifier, reserved ones too. Raises LedgerUnavailable."""
        return await self._work.taken(meter, int(base_date), identifier)

    @property
    def usage(self) -> dict[str, Usage]:
        """What the counters that were claimed have come to, as far as there is anything."""
        return {
            counter: Usage(count=count, units=units, currency=currency)
            for counter, count, units, currency in self._work.usage
        }

    async def commit(
        self, entries: Sequence[Entry], *, epoch: int, at: int | None = None, usage: Sequence[UsageRow] = ()
    ) -> None:
        """Make entries durable; when this returns, they are.

        Args:
            entries: what was issued.
            epoch: of the clock's mark that the identifiers were taken under.
            at: the time that the batch was worked on, in milliseconds; the present if not given.
            usage: what counters grow by, in the order of their names.

        Raises:
            LedgerUnavailable: nothing of it is durable, or (connection lost at the very end) all of it: the same
                requests tell.
            LedgerConflict: nothing of it is durable.
        """
        if not entries:
            await self._work.abandon()
            return
        await self._ledger._commit(self._work, entries, epoch, at, usage)  # noqa: SLF001 - the other half of this class

    async def abandon(self) -> None:
        """Give up; nothing happened."""
        await self._work.abandon()
