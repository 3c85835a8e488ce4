"""The issuer: takes a batch of submissions from the ledger's first look to its commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from appliance import clock
from appliance.errors import ApplianceError, LedgerConflict
from appliance.issuing.asked import asked_of
from appliance.issuing.batch import Batch, Job, require_judged, settle_stored
from appliance.issuing.held import Held, Judged, usage_rows
from appliance.issuing.identifiers import BatchIdentifiers
from appliance.issuing.module import ModuleCatalogue, ModuleView
from appliance.issuing.orders import Submission
from appliance.issuing.time_guard import TimeGuard
from appliance.issuing.usage import UsageBook
from appliance.issuing.watched import Watched
from appliance.ledger.ledger import Ledger, Transaction
from appliance.ledger.records import Claim
from appliance.policy.authority import Authority
from appliance.policy.lease import LeaseKeeper
from hsm.errors import HsmError

Outcome = bytes | Exception


class Issuer:
    """Issues tokens through one module, on one ledger.

    Args:
        catalogue: the module.
        ledger: where everything is made durable.
        guard: the clock.
        look_ahead_minutes: how far identifiers may run ahead of the clock.
        automatic_key_change: deliver key-change tokens with a credit instead of refusing it.
        authority: who may issue what; open if not given.
        lease: looked at before the module is asked, if given.
    """

    def __init__(
        self,
        *,
        catalogue: ModuleCatalogue,
        ledger: Ledger,
        guard: TimeGuard,
        look_ahead_minutes: int,
        automatic_key_change: bool = False,
        authority: Authority | None = None,
        lease: LeaseKeeper | None = None,
    ) -> None:
        self._authority = authority or Authority()
        self._lease = lease
        # One process has the whole ledger: one book. Else each batch has its own, under locks of the database.
        self._book = None if ledger.is_shared else UsageBook()
        self._catalogue = catalogue
        self._ledger = ledger
        self._guard = guard
        self._look_ahead = look_ahead_minutes
        self._automatic_key_change = automatic_key_change
        self.tokens: Counter[tuple[int, int]] = Counter()
        """Tokens made durable by this process, by class and subclass."""

    @property
    def lanes(self) -> int:
        """How many batches may be under way at once."""
        return self._ledger.lanes

    async def issue(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Return the outcome of each: its answer, durable, or the error that it is refused with.

        No two of them may have the same client and request id, and no other call may be under way for one of their
        meters or request ids in this process: :class:`appliance.issuing.pipeline.Pipeline` sees to both.
        """
        try:
            return await self._issue(submissions)
        except LedgerConflict as conflict:
            # Another appliance was faster with one of them: one by one, the rest is not held up by it.
            return [await self._issue_again(submission, conflict) for submission in submissions]

    async def _issue_again(self, submission: Submission, conflict: LedgerConflict) -> Outcome:
        try:
            return (await self._issue([submission]))[0]
        except LedgerConflict:
            return conflict

    async def _issue(self, submissions: Sequence[Submission]) -> list[Outcome]:
        jobs = [Job(submission) for submission in submissions]
        judged, local = await self._judge(submissions)
        claims = [
            Claim(client=s.client, request_id=s.request_id, meter=s.meter, counters=_counters(found))
            for s, found in zip(submissions, judged, strict=True)
        ]
        try:
            transaction = await self._ledger.begin(claims)
        except LedgerConflict:
            raise
        except ApplianceError as error:
            return [error] * len(jobs)
        try:
            await self._work(jobs, judged, local, transaction)
        except BaseException:
            await transaction.abandon()
            raise
        return [_outcome(job) for job in jobs]

    async def _judge(self, submissions: Sequence[Submission]) -> tuple[list[Judged], datetime | None]:
        """Say of each what it counts against, or why it is refused, and the time of the judgement, if there is one."""
        authority = self._authority
        if authority.policy is None:
            return [()] * len(submissions), None
        try:
            view = await self._catalogue.view()
            if view.certification:
                return [()] * len(submissions), None
            local = clock.to_local(self._guard.now(), view.status.utc_offset_minutes)
        except (ApplianceError, HsmError) as error:
            # Whoever asks again gets the answer of before; whoever asks anew hears of this.
            return [error] * len(submissions), None
        if self._book is not None:
            self._book.prune(local)
        return [self._judge_one(submission, view, local) for submission in submissions], local

    def _judge_one(self, submission: Submission, view: ModuleView, local: datetime) -> Judged:
        authority = self._authority
        asked = submission.asked = asked_of(submission, view, automatic_key_change=self._automatic_key_change)
        try:
            charges = authority.judge(asked, local, submission.approvers)
        except ApplianceError as error:
            return error
        return tuple(charges)

    async def _work(
        self, jobs: list[Job], judged: list[Judged], local: datetime | None, transaction: Transaction
    ) -> None:
        for place, stored in transaction.stored.items():
            if not jobs[place].submission.validate_only:
                settle_stored(jobs[place], stored)
        book = UsageBook() if self._book is None else self._book
        book.learn(transaction.usage)
        signals = self._authority.signals
        watched = Watched(signals, jobs, judged, local) if local is not None and signals.are_watched else None
        held = Held(book, jobs, judged)
        try:
            await self._work_within(jobs, held, transaction)
        finally:
            held.release()
            if watched is not None:
                watched.end()

    async def _work_within(self, jobs: list[Job], held: Held, transaction: Transaction) -> None:
        waiting = [job for job in jobs if job.is_open]
        if not waiting:
            await transaction.abandon()
            return
        try:
            batch = await self._batch(transaction)
        except (ApplianceError, HsmError) as error:
            await transaction.abandon()
            _fail(waiting, error)
            return
        for job in waiting:
            await batch.plan(job)
            if self._authority.policy is not None and not batch.view.certification:
                require_judged(job)
        await batch.ask_module(waiting)
        done = [(job, entry) for job in waiting if job.is_open and (entry := batch.answer(job)) is not None]
        finished = [job for job, _ in done]
        usage = usage_rows(held.of(finished), batch.view.status.utc_offset_minutes)
        try:
            at = int(batch.now().timestamp() * 1000)
            await transaction.commit([entry for _, entry in done], epoch=self._guard.epoch, at=at, usage=usage)
        except LedgerConflict:
            raise
        except ApplianceError as error:
            # Durable or not, nobody can say: it counts as if it were, until the ledger is read again.
            held.settle(finished)
            _fail(waiting, error)
        else:
            held.settle(finished)
            for job in finished:
                job.is_issued = True
            self.tokens.update((token.token_class, token.subclass) for _, entry in done for token in entry.tokens)

    async def _batch(self, transaction: Transaction) -> Batch:
        if self._lease is not None:
            self._lease.require()
        view = await self._catalogue.view()
        # Tests give the time of each token themselves; the ledger's rows carry the wall clock all the same.
        present = self._guard.wall() if view.certification else self._guard.now()

        def now() -> datetime:
            # One batch, one time: what the guard let through is what tokens, rows and mark carry.
            return present

        floor = self._guard.floor
        return Batch(
            view=view,
            client=self._catalogue.client,
            identifiers=BatchIdentifiers(
                transaction,
                look_ahead_minutes=self._look_ahead,
                floor=None if floor is None else clock.to_local(floor, view.status.utc_offset_minutes),
                replay=view.certification,
            ),
            automatic_key_change=self._automatic_key_change,
            now=now,
        )


def _counters(found: Judged) -> tuple[str, ...]:
    return () if isinstance(found, Exception) else tuple(charge.bound.counter for charge in found)


def _fail(jobs: list[Job], error: Exception) -> None:
    for job in jobs:
        if job.is_open:
            job.outcome = error


def _outcome(job: Job) -> Outcome:
    return job.answer if job.outcome is None else job.outcome
