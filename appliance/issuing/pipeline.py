"""The pipeline: whatever waits becomes the next batch, without a timer; few batches are under way at once.

One commit costs the same for one sale as for five hundred, so the longer the disk takes, the more go with the next
one. What must not meet is kept apart here: one request id and one meter are in one batch at a time. A request that is
under way already is not begun again; whoever repeats it waits for the same answer.

A single call is not even read before its batch is formed: reading sixty requests in a row takes a third of the time
that reading each in the middle of the library's work does, because code and data are at hand.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from appliance.errors import DeadlinePassed, QueueFull, RequestIdReused
from appliance.issuing.issuer import Issuer, Outcome
from appliance.issuing.orders import Submission

logger = structlog.get_logger("keywatt.appliance")
_BATCH_MAX = 500
_BATCH_LARGE = 32
_QUIET_TURNS = 8
_HELD_UP_SECONDS = 0.05
_GATHER_SECONDS = 0.005


class _Call:
    """One call of a client with its requests; done when all of them are."""

    __slots__ = ("future", "left", "outcomes")

    def __init__(self, count: int) -> None:
        self.outcomes: list[Outcome | None] = [None] * count
        self.left = count
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, place: int, outcome: Outcome) -> None:
        self.outcomes[place] = outcome
        self.left -= 1
        if self.left == 0 and not self.future.done():
            self.future.set_result(None)


class _Single:
    """A call with one request, which is read when a batch is formed."""

    __slots__ = ("future", "read")

    def __init__(self, read: Callable[[], Submission]) -> None:
        self.read = read
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def settle(self, _: int, outcome: Outcome) -> None:
        if self.future.done():
            return
        if isinstance(outcome, bytes):
            self.future.set_result(outcome)
        else:
            self.future.set_exception(outcome)


class _Ticket:
    """One request in the queue or under way, and every call that waits for it."""

    __slots__ = ("deadline", "meter", "submission", "waiting")

    def __init__(self, submission: Submission, call: _Call | _Single, place: int) -> None:
        self.submission = submission
        self.meter = submission.meter
        self.deadline = submission.deadline
        self.waiting: list[tuple[_Call | _Single, int]] = [(call, place)]

    def join(self, call: _Call | _Single, place: int, deadline: float | None) -> None:
        """Let another call wait for the same answer; who has more time keeps the request alive."""
        self.waiting.append((call, place))
        if self.deadline is not None:
            self.deadline = None if deadline is None else max(self.deadline, deadline)

    def settle(self, outcome: Outcome) -> None:
        for call, place in self.waiting:
            call.settle(place, outcome)


class Pipeline:
    """Forms batches and hands them to the issuer.

    Args:
        issuer: works on batches.
        queue_max: requests that may wait or be under way; one more is refused.
    """

    def __init__(self, issuer: Issuer, *, queue_max: int) -> None:
        self._issuer = issuer
        self._queue_max = queue_max
        self._unread: list[_Single] = []
        self._queue: deque[_Ticket] = deque()
        self._tickets: dict[tuple[str, bytes], _Ticket] = {}
        self._busy_meters: set[int] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._is_scheduled = self._is_waiting = False
        self._seen = self._quiet = 0
        self._first = self._begun = 0.0
        self._is_loaded = False
        self.batches = 0
        """Batches begun."""
        self.requests = 0
        """Requests that went into them."""

    async def submit(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Return the outcome of each request: its answer, durable, or the error that it is refused with.

        Cancelled before work on them began, they are forgotten; afterwards they are finished, and the answers are
        there for whoever repeats the requests.
        """
        call = _Call(len(submissions))
        for place, submission in enumerate(submissions):
            self._admit(submission, call, place)
        if call.left:
            self._schedule()
            await call.future
        return [outcome for outcome in call.outcomes if outcome is not None]

    def ask(self, read: Callable[[], Submission]) -> asyncio.Future[bytes]:
        """Return the answer of one request, durable, as it will be, or the error that it is refused with.

        Args:
            read: reads the request; what it raises is the call's outcome. Called once, with others of its kind, when
                a batch is formed; not at all if the call was cancelled before.

        Raises:
            QueueFull: too many wait.
        """
        if self.waiting >= self._queue_max:
            raise self._full()
        call = _Single(read)
        self._unread.append(call)
        self._schedule()
        return call.future

    @property
    def waiting(self) -> int:
        """Requests that wait or are under way."""
        return len(self._tickets) + len(self._unread)

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while self._running:
            await asyncio.wait(self._running)

    def _admit(self, submission: Submission, call: _Call | _Single, place: int) -> None:
        name = (submission.client, submission.request_id)
        ticket = self._tickets.get(name)
        if ticket is not None:
            if ticket.submission.fingerprint == submission.fingerprint:
                ticket.join(call, place, submission.deadline)
            else:
                call.settle(place, RequestIdReused("this request id is under way for another request"))
        elif len(self._tickets) >= self._queue_max:
            call.settle(place, self._full())
        else:
            ticket = self._tickets[name] = _Ticket(submission, call, place)
            self._queue.append(ticket)

    def _full(self) -> QueueFull:
        return QueueFull(f"{self._queue_max} requests wait already")

    def _read(self) -> None:
        """Let in the calls that came one by one."""
        calls, self._unread = self._unread, []
        for call in calls:
            if call.future.cancelled():
                continue
            try:
                submission = call.read()
            except Exception as error:  # noqa: BLE001 - one bad request does not stop the others
                call.settle(0, error)
            else:
                self._admit(submission, call, 0)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._seen, self._quiet = 0, 0
            self._first = asyncio.get_running_loop().time()
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        # While calls keep coming in, turn after turn of the loop, they are let in: they go with this batch.
        count = len(self._queue) + len(self._unread)
        self._quiet = self._quiet + 1 if count == self._seen else 0
        self._seen = count
        patience = _QUIET_TURNS if self._is_loaded else 1
        if self._quiet < patience and self._seen < _BATCH_MAX and loop.time() - self._first < _GATHER_SECONDS:
            loop.call_soon(self._pump)
            return
        self._is_scheduled = False
        self._read()
        while self._queue and self._may_begin():
            batch = self._form()
            if not batch:
                return
            self._begun = asyncio.get_running_loop().time()
            task = asyncio.create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._finished)
        if self._queue and self._running and not self._is_waiting:
            self._is_waiting = True
            loop.call_later(_HELD_UP_SECONDS, self._look_again)

    def _look_again(self) -> None:
        """Look once more when what is under way ought to be over."""
        self._is_waiting = False
        if self._queue:
            self._schedule()

    def _may_begin(self) -> bool:
        # A second batch beside the first only if it is a large one: two half-full ones cost more than one full.
        under_way = len(self._running)
        if not under_way:
            return True
        # Nor do all wait for one that is held up, by a lock of another appliance or by the disk.
        is_held_up = asyncio.get_running_loop().time() - self._begun > _HELD_UP_SECONDS
        return under_way < self._issuer.lanes and (is_held_up or len(self._queue) >= _BATCH_LARGE)

    def _form(self) -> list[_Ticket]:
        """Take what may go together: no meter that is under way, nothing that nobody waits for any more."""
        batch: list[_Ticket] = []
        held: list[_Ticket] = []
        now = asyncio.get_running_loop().time()
        while self._queue and len(batch) < _BATCH_MAX:
            ticket = self._queue.popleft()
            if all(call.future.cancelled() for call, _ in ticket.waiting):
                self._forget(ticket)
            elif ticket.deadline is not None and ticket.deadline < now:
                self._forget(ticket)
                ticket.settle(DeadlinePassed("the deadline passed while the request waited; nothing was issued"))
            elif ticket.meter in self._busy_meters:
                held.append(ticket)
            else:
                batch.append(ticket)
        self._queue.extendleft(reversed(held))
        self._busy_meters.update(ticket.meter for ticket in batch if ticket.meter is not None)
        return batch

    def _forget(self, ticket: _Ticket) -> None:
        del self._tickets[ticket.submission.client, ticket.submission.request_id]

    async def _run(self, batch: list[_Ticket]) -> None:
        self._is_loaded = len(batch) > 1
        self.batches += 1
        self.requests += len(batch)
        outcomes: Sequence[Outcome]
        try:
            outcomes = await self._issuer.issue([ticket.submission for ticket in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, every call must hear of it
            outcomes = [error] * len(batch)
        self._busy_meters.difference_update(ticket.meter for ticket in batch if ticket.meter is not None)
        for ticket, outcome in zip(batch, outcomes, strict=True):
            self._forget(ticket)
            ticket.settle(outcome)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._queue:
            self._schedule()
