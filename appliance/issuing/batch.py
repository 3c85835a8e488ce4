"""One batch on its way: look up, plan, ask the module, make durable, answer. Each request in it stands or falls alone.

The order of steps is what keeps the promises. First the ledger: a request that was answered before gets that answer,
even if the module is away or the clock has stopped. The module is asked next to last and decides. Then one commit for
all, and only then an answer for anybody.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from appliance import clock
from appliance.errors import ApplianceError, NotAuthorised, RequestIdReused
from appliance.issuing.identifiers import BatchIdentifiers
from appliance.issuing.meter import KeyAssignment, Meter, require_current
from appliance.issuing.module import ModuleView
from appliance.issuing.orders import (
    CreditOrder,
    DeliveredToken,
    Delivery,
    KeyChangeDelivery,
    KeyChangeOrder,
    ManagementOrder,
    MeterTestOrder,
    Submission,
    Timing,
)
from appliance.issuing.quantities import Unit, unit_of
from appliance.ledger.records import Entry, Stored, TokenEntry
from hsm.client import ModuleClient
from hsm.errors import HsmError, ModuleRefusal
from hsm.frames import Asker
from hsm.keys import KeyReference, VendingKey
from hsm.reasons import Reason
from hsm.requests import Issued, IssueItem, KeyChanged, KeyChangeItem
from sts.errors import StsError
from sts.identifiers import EncryptionAlgorithm
from sts.token_identifier import TokenIdentifier

CERTIFICATION_RANDOM_NUMBER = 5
_RANDOM_POOL = 64
_KEY_CHANGE_ORDER = (3, 4, 8, 9)
_REFUSALS = (StsError, HsmError, ApplianceError)
T = TypeVar("T")


@dataclass(slots=True)
class _Change:
    """A key-change set to make, and what came of it."""

    old: VendingKey
    new: VendingKey
    item: KeyChangeItem
    made: KeyChanged | None = None


@dataclass(slots=True)
class Job:
    """One submission under way. ``outcome`` is set once: the answer, or why there is none."""

    submission: Submission
    outcome: bytes | Exception | None = None
    key: VendingKey | None = None
    item: IssueItem | None = None
    issued: Issued | None = None
    change: _Change | None = None
    trial: IssueItem | None = None
    answer: bytes = b""
    is_issued: bool = False
    """Whether its tokens are durable."""

    @property
    def is_open(self) -> bool:
        """Whether it still has to be worked on."""
        return self.outcome is None


@dataclass(slots=True, kw_only=True)
class Batch:
    """What a batch works with.

    Args:
        view: the module.
        client: the way to it.
        identifiers: gives out identifiers.
        automatic_key_change: deliver key-change tokens with a credit instead of refusing it.
        now: the clock, aware; raises ClockStopped.
    """

    view: ModuleView
    client: ModuleClient
    identifiers: BatchIdentifiers
    automatic_key_change: bool
    now: Callable[[], datetime]
    _local: datetime | None = field(default=None, init=False)
    _random: bytearray = field(default_factory=bytearray, init=False)

    async def plan(self, job: Job) -> None:
        """Find out what the module is to be asked for a job; a refusal is its outcome."""
        try:
            match job.submission.order:
                case CreditOrder() as order:
                    await self._plan_credit(job, order)
                case ManagementOrder() as order:
                    await self._plan_management(job, order)
                case MeterTestOrder() as order:
                    self._plan_meter_test(job, order)
                case KeyChangeOrder() as order:
                    job.change = self._change(order)
        except _REFUSALS as error:
            job.outcome = error

    async def ask_module(self, jobs: Sequence[Job]) -> None:
        """Ask the module for all that is planned, few questions for many jobs."""
        # A credit that comes with a key change is tried first: a set alone, for a sale that cannot be, would be a loss.
        await self._in_groups([job for job in jobs if job.trial is not None], _issue_key, self._try)
        await self._in_groups([job for job in jobs if job.change is not None], _change_key, self._make_changes)
        await self._in_groups([job for job in jobs if job.item is not None], _issue_key, self._issue)

    def answer(self, job: Job) -> Entry | None:
        """Compose the answer of a job; return what the ledger has to hold of it, None if it was only validated."""
        submission = job.submission
        delivery, tokens = self._deliver(job)
        job.answer = submission.compose(delivery)
        if submission.validate_only:
            return None
        return Entry(
            client=submission.client,
            request_id=submission.request_id,
            fingerprint=submission.fingerprint,
            method=submission.method,
            answer=job.answer,
            tokens=tokens,
            log=self.view.status.module_id,
        )

    # --- planning -----------------------------------------------------------------------------------------------

    async def _plan_credit(self, job: Job, order: CreditOrder) -> None:
        view = self.view
        key = view.key(order.meter.holds.reference)
        order.meter.require_held(key)
        holds = order.meter.holds
        changes = self.automatic_key_change and order.meter.differences(key, order.assignment)
        if changes:
            holds = order.assignment or holds
            key = view.key(holds.reference)
        else:
            require_current(order.meter, key, order.assignment)
        content = (0, int(order.subclass), order.units)
        job.key = key
        job.item = await self._item(key, order.meter, holds, content, order.timing)
        if changes:
            job.trial = replace(job.item, validate_only=True)
            job.change = self._change(
                KeyChangeOrder(
                    meter=order.meter,
                    target=holds,
                    set_size=0,
                    issue_time=order.timing.issue_time,
                    validate_only=order.timing.validate_only,
                )
            )

    async def _plan_management(self, job: Job, order: ManagementOrder) -> None:
        key = self.view.key(order.meter.holds.reference)
        order.meter.require_held(key)
        require_current(order.meter, key, order.assignment)
        content = (2, order.subclass, order.value)
        job.key = key
        job.item = await self._item(key, order.meter, order.meter.holds, content, order.timing)

    def _plan_meter_test(self, job: Job, order: MeterTestOrder) -> None:
        job.item = IssueItem(
            token_class=1,
            subclass=order.subclass,
            value=order.control << 16 | order.manufacturer_code,
            # In clear and timeless: any minute satisfies the module's certification clock.
            clock_minutes=1 if self.view.certification else 0,
            validate_only=order.validate_only,
        )

    def _change(self, order: KeyChangeOrder) -> _Change:
        meter, certification = order.meter, self.view.certification
        old, new = self.view.key(meter.holds.reference), self.view.key(order.target.reference)
        meter.require_held(old)
        given = order.issue_time
        if certification and given is None:
            # Key-change tokens carry no time: a test that gives none gets the present.
            given = self.now().replace(tzinfo=None, second=0, microsecond=0)
        local = self._local_time(given)
        if not certification:
            # The module says no as well; here it can be said which base date, and why.
            TokenIdentifier.from_naive(local, new.base_date)
        item = KeyChangeItem(
            ea=meter.ea,
            set_size=order.set_size or (2 if meter.ea is EncryptionAlgorithm.STA else 4),
            tct=meter.carrier,
            pan=meter.pan.digits,
            old_tariff_index=meter.holds.tariff_index.digits,
            new_tariff_index=order.target.tariff_index.digits,
            new_supply_group_code=order.target.reference.supply_group_code.digits,
            new_key_revision_number=order.target.reference.key_revision_number.number,
            clock_minutes=clock.minutes_since_1970(local) if certification else 0,
            validate_only=order.validate_only,
        )
        return _Change(old=old, new=new, item=item)

    async def _item(
        self, key: VendingKey, meter: Meter, holds: KeyAssignment, content: tuple[int, int, int], timing: Timing
    ) -> IssueItem:
        token_class, subclass, value = content
        certification = self.view.certification
        local = self._local_time(timing.issue_time)
        keep = not timing.validate_only
        if timing.reserved_date is None:
            identifier = await self.identifiers.take(meter.pan, key.base_date, local, keep=keep)
        else:
            identifier = await self.identifiers.take_reserved(meter.pan, key.base_date, timing.reserved_date, keep=keep)
        return IssueItem(
            token_class=token_class,
            subclass=subclass,
            value=value,
            ea=meter.ea,
            tct=meter.carrier,
            random_number=self._random_number(token_class, subclass),
            tariff_index=holds.tariff_index.digits,
            pan=meter.pan.digits,
            token_identifier=identifier.minutes,
            reserved=timing.reserved_date is not None,
            clock_minutes=clock.minutes_since_1970(local) if certification else 0,
            validate_only=timing.validate_only,
        )

    def _local_time(self, given: datetime | None) -> datetime:
        if given is None and self._local is not None:
            return self._local
        offset = self.view.status.utc_offset_minutes
        local = clock.issue_time(given, certification=self.view.certification, utc_offset_minutes=offset, now=self.now)
        if given is None:
            # One batch, one time.
            self._local = local
        return local

    def _random_number(self, token_class: int, subclass: int) -> int:
        if unit_of(token_class, subclass) is Unit.CURRENCY:
            return 0
        if self.view.certification:
            return CERTIFICATION_RANDOM_NUMBER
        if not self._random:
            self._random = bytearray(os.urandom(_RANDOM_POOL))
        return self._random.pop() & 0xF

    # --- the module ---------------------------------------------------------------------------------------------

    async def _in_groups(
        self,
        jobs: Sequence[Job],
        key_of: Callable[[Job], VendingKey | None],
        ask: Callable[[KeyReference | None, list[Job]], Awaitable[None]],
    ) -> None:
        # By identity, which costs less than comparing: one reading of the module has one record of each key.
        groups: dict[int, tuple[VendingKey | None, list[Job]]] = {}
        for job in jobs:
            if job.outcome is None:
                key = key_of(job)
                groups.setdefault(id(key), (key, []))[1].append(job)
        for key, group in groups.values():
            try:
                await ask(None if key is None else key.reference, group)
            except _REFUSALS as error:
                for job in group:
                    job.outcome = error

    async def _try(self, reference: KeyReference | None, group: list[Job]) -> None:
        items = [job.trial for job in group if job.trial is not None]
        for job, tried in zip(group, await self.client.issue(reference, items, _askers(group)), strict=True):
            _settle(job, tried.reason)

    async def _make_changes(self, reference: KeyReference | None, group: list[Job]) -> None:
        changes = [job.change for job in group if job.change is not None]
        if reference is None:
            raise AssertionError("a key change has an old key")
        made = await self.client.key_change(reference, [change.item for change in changes], _askers(group))
        for job, change, answer in zip(group, changes, made, strict=True):
            change.made = answer
            _settle(job, answer.reason)

    async def _issue(self, reference: KeyReference | None, group: list[Job]) -> None:
        items = [job.item for job in group if job.item is not None]
        for job, issued in zip(group, await self.client.issue(reference, items, _askers(group)), strict=True):
            job.issued = issued
            _settle(job, issued.reason)

    # --- answers ------------------------------------------------------------------------------------------------

    def _deliver(self, job: Job) -> tuple[Delivery | KeyChangeDelivery, tuple[TokenEntry, ...]]:
        change = job.change
        before: tuple[DeliveredToken, ...] = ()
        before_entries: tuple[TokenEntry, ...] = ()
        if change is not None and change.made is not None:
            before = tuple(
                DeliveredToken(
                    digits=digits,
                    token_class=2,
                    subclass=subclass,
                    identifier=None,
                    log_index=change.made.log_index,
                )
                for digits, subclass in zip(change.made.tokens, _KEY_CHANGE_ORDER, strict=False)
            )
            at = change.made.log_index
            before_entries = tuple(
                _entry(change.item.pan, change.old, 2, token.subclass, log_index=at) for token in before
            )
            if job.issued is None:
                origin = self.view.origin(change.old, change.made.marks)
                delivery = KeyChangeDelivery(
                    tokens=before, origin=origin, new_key=change.new, rollover=change.made.rollover
                )
                return delivery, before_entries
        issued, key, item = job.issued, job.key, job.item
        if issued is None or item is None:
            raise AssertionError("a job without an answer of the module")
        identifier = None
        if key is not None:
            identifier = TokenIdentifier(minutes=issued.token_identifier, base_date=key.base_date)
        token = DeliveredToken(
            digits=issued.digits,
            token_class=issued.token_class,
            subclass=issued.subclass,
            identifier=identifier,
            log_index=issued.log_index,
        )
        delivered = Delivery(
            token=token,
            granted=issued.granted,
            unit=unit_of(issued.token_class, issued.subclass),
            origin=self.view.origin(key, issued.marks),
            key_change_tokens=before,
        )
        entry = _entry(item.pan, key, issued.token_class, issued.subclass, identifier, issued.granted, issued.log_index)
        return delivered, (*before_entries, entry)


def require_judged(job: Job) -> None:
    """Refuse what is planned beyond what the policy was asked: a key's record may have changed in between."""
    if job.change is not None and job.is_open and not any(asked.token_class == 2 for asked in job.submission.asked):
        job.outcome = NotAuthorised("the policy was not asked for the key change that this needs; ask again")


def settle_stored(job: Job, stored: Stored | ApplianceError) -> None:
    """Give a job the answer that it got before, or refuse another request under the same id."""
    submission = job.submission
    if isinstance(stored, ApplianceError):
        job.outcome = stored
    elif stored.fingerprint == submission.fingerprint:
        job.outcome = stored.answer
    else:
        job.outcome = RequestIdReused("this request id was used for another request")


def _settle(job: Job, reason: Reason) -> None:
    if reason is not Reason.OK:
        job.outcome = ModuleRefusal(reason)


def _askers(group: Sequence[Job]) -> list[Asker]:
    return [Asker(client=job.submission.client, request_id=job.submission.request_id) for job in group]


def _change_key(job: Job) -> VendingKey | None:
    return None if job.change is None else job.change.old


def _issue_key(job: Job) -> VendingKey | None:
    return job.key


def _entry(
    pan: str,
    key: VendingKey | None,
    token_class: int,
    subclass: int,
    identifier: TokenIdentifier | None = None,
    value: int = 0,
    log_index: int | None = None,
) -> TokenEntry:
    return TokenEntry(
        meter=int(pan) if key is not None else None,
        base_date=None if identifier is None else identifier.base_date,
        identifier=None if identifier is None else identifier.minutes,
        supply_group_code=None if key is None else int(key.reference.supply_group_code.digits),
        key_revision_number=None if key is None else key.reference.key_revision_number.number,
        token_class=token_class,
        subclass=subclass,
        value=value,
        log_index=log_index,
    )
