"""The issuer: from an order to a delivery. Each method is one RPC; all share the order of steps.

Module view, key, assignment, time, identifier, module. The module is asked last and decides; whatever it refuses
gives the identifier back, so that a refused order changes nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from appliance import clock
from appliance.issuing.identifiers import IdentifierRegister, Reservation
from appliance.issuing.meter import KeyAssignment, Meter, require_current
from appliance.issuing.module import ModuleCatalogue, ModuleView
from appliance.issuing.orders import (
    CreditOrder,
    DeliveredToken,
    Delivery,
    KeyChangeDelivery,
    KeyChangeOrder,
    ManagementOrder,
    MeterTestOrder,
    Origin,
    Timing,
    Verification,
)
from appliance.issuing.quantities import Unit
from hsm.errors import FrameInvalid, ModuleBusy, ModuleRefusal, ModuleUnavailable, VendingKeyUnknown
from hsm.keys import VendingKey
from hsm.reasons import Reason
from hsm.requests import Issued, IssueItem, KeyChangeItem, Verified, VerifyItem
from sts import errors as sts_errors
from sts.credit import CreditSubClass
from sts.identifiers import EncryptionAlgorithm
from sts.management import KEY_CHANGE_SUBCLASSES, ManagementSubClass
from sts.token_identifier import TokenIdentifier
from sts.token_number import TokenNumber

CERTIFICATION_RANDOM_NUMBER = 5
_KEY_CHANGE_ORDER = (3, 4, 8, 9)
_CREDIT_UNITS = (Unit.KILOWATT_HOUR, Unit.CUBIC_METRE, Unit.CUBIC_METRE, Unit.MINUTE)
_WATT_SUBCLASSES = frozenset(
    {ManagementSubClass.SET_MAXIMUM_POWER_LIMIT, ManagementSubClass.SET_MAXIMUM_PHASE_POWER_UNBALANCE_LIMIT}
)


def unit_of(token_class: int, subclass: int) -> Unit:
    """Return what the value of a token counts."""
    if token_class == 0:
        return Unit.CURRENCY if subclass >= CreditSubClass.ELECTRICITY_CURRENCY else _CREDIT_UNITS[subclass]
    return Unit.WATT if token_class == 2 and subclass in _WATT_SUBCLASSES else Unit.NUMBER


class Issuer:
    """Issues and verifies tokens through one module.

    Args:
        catalogue: the module.
        identifiers: the register of token identifiers.
        automatic_key_change: deliver key-change tokens with a credit instead of refusing it.
        now: the clock, aware.
    """

    def __init__(
        self,
        *,
        catalogue: ModuleCatalogue,
        identifiers: IdentifierRegister,
        automatic_key_change: bool = False,
        now: Callable[[], datetime] = clock.utc_now,
    ) -> None:
        self._catalogue = catalogue
        self._identifiers = identifiers
        self._automatic_key_change = automatic_key_change
        self._now = now

    async def issue_credit(self, order: CreditOrder) -> Delivery:
        """Issue a credit token.

        Raises:
            KeyChangeRequired: the meter holds another key than it ought to, and the policy does not change it here.
            StsError, HsmError, ApplianceError: as their classes say; nothing was issued.
        """
        view = await self._catalogue.view()
        key = view.key(order.meter.holds.reference)
        order.meter.require_held(key)
        holds = order.meter.holds
        before: tuple[DeliveredToken, ...] = ()
        if order.meter.differences(key, order.assignment) and self._automatic_key_change:
            holds = order.assignment or holds
            target = view.key(holds.reference)
            # The credit is tried first, without making it: a set alone, for a sale that cannot be, would be a loss.
            trial = replace(order.timing, validate_only=True)
            await self._issue(view, target, order.meter, holds, (0, order.subclass, order.units), trial)
            change = KeyChangeOrder(
                meter=order.meter,
                target=holds,
                set_size=0,
                issue_time=order.timing.issue_time,
                validate_only=order.timing.validate_only,
            )
            before = (await self.issue_key_change(change)).tokens
            key = target
        else:
            require_current(order.meter, key, order.assignment)
        issued = await self._issue(view, key, order.meter, holds, (0, order.subclass, order.units), order.timing)
        return self._deliver(view, key, issued, before)

    async def issue_management(self, order: ManagementOrder) -> Delivery:
        """Issue a management token. Raises as :meth:`issue_credit`."""
        view = await self._catalogue.view()
        key = view.key(order.meter.holds.reference)
        order.meter.require_held(key)
        require_current(order.meter, key, order.assignment)
        content = (2, order.subclass, order.value)
        issued = await self._issue(view, key, order.meter, order.meter.holds, content, order.timing)
        return self._deliver(view, key, issued, ())

    async def issue_meter_test(self, order: MeterTestOrder) -> Delivery:
        """Issue a class 1 token, which needs no key and no identifier. Raises as :meth:`issue_credit`."""
        view = await self._catalogue.view()
        item = IssueItem(
            token_class=1,
            subclass=order.subclass,
            value=order.control << 16 | order.manufacturer_code,
            # In clear and timeless: any minute satisfies the module's certification clock.
            clock_minutes=1 if view.certification else 0,
            validate_only=order.validate_only,
        )
        (issued,) = await self._catalogue.client.issue(None, [item])
        _require_ok(issued.reason)
        return self._deliver(view, None, issued, ())

    async def issue_key_change(self, order: KeyChangeOrder) -> KeyChangeDelivery:
        """Make a key-change set. Raises as :meth:`issue_credit`."""
        view = await self._catalogue.view()
        meter = order.meter
        old, new = view.key(meter.holds.reference), view.key(order.target.reference)
        meter.require_held(old)
        given = order.issue_time
        if view.certification and given is None:
            # Key-change tokens carry no time: a test that gives none gets the present.
            given = self._now().replace(tzinfo=None, second=0, microsecond=0)
        local = self._local_time(view, given)
        if not view.certification:
            # The module says no as well; here it can be said which base date, and why.
            TokenIdentifier.from_naive(local, new.base_date)
        default_size = 2 if meter.ea is EncryptionAlgorithm.STA else 4
        item = KeyChangeItem(
            ea=meter.ea,
            set_size=order.set_size or default_size,
            tct=meter.carrier,
            pan=meter.pan.digits,
            old_tariff_index=meter.holds.tariff_index.digits,
            new_tariff_index=order.target.tariff_index.digits,
            new_supply_group_code=order.target.reference.supply_group_code.digits,
            new_key_revision_number=order.target.reference.key_revision_number.number,
            clock_minutes=clock.minutes_since_1970(local) if view.certification else 0,
            validate_only=order.validate_only,
        )
        (changed,) = await self._catalogue.client.key_change(meter.holds.reference, [item])
        _require_ok(changed.reason)
        tokens = tuple(
            DeliveredToken(digits=digits, token_class=2, subclass=subclass, identifier=None)
            for digits, subclass in zip(changed.tokens, _KEY_CHANGE_ORDER, strict=False)
        )
        origin = Origin(key=old, module_id=view.status.module_id, marks=changed.marks)
        return KeyChangeDelivery(tokens=tokens, origin=origin, new_key=new, rollover=changed.rollover)

    async def verify(self, number: TokenNumber, meter: Meter | None) -> Verification:
        """Verify a token; one that is not genuine is an answer, not an error.

        Raises:
            ReservedTokenClass: class 3.
            StsError, HsmError, ApplianceError: the question makes no sense, or cannot be answered now.
        """
        view = await self._catalogue.view()
        if number.token_class == 3:
            raise sts_errors.ReservedTokenClass("class 3 is reserved")
        key: VendingKey | None = None
        if number.token_class == 1:
            item = VerifyItem(digits=number.digits)
        elif meter is None:
            raise sts_errors.InvalidMeterPAN("a token of class 0 or 2 is verified for a meter")
        else:
            key = view.key(meter.holds.reference)
            item = VerifyItem(
                digits=number.digits,
                ea=meter.ea,
                tct=meter.carrier,
                tariff_index=meter.holds.tariff_index.digits,
                pan=meter.pan.digits,
            )
        (verified,) = await self._catalogue.client.verify(key.reference if key is not None else None, [item])
        if verified.reason is Reason.CRC_MISMATCH:
            return Verification(genuine=False)
        _require_ok(verified.reason)
        return self._verification(view, key, verified)

    def reset_identifiers(self) -> int:
        """Forget every identifier, between official tests; return the number of meters."""
        return self._identifiers.reset()

    def _local_time(self, view: ModuleView, given: datetime | None) -> datetime:
        offset = view.status.utc_offset_minutes
        return clock.issue_time(given, certification=view.certification, utc_offset_minutes=offset, now=self._now)

    def _random_number(self, view: ModuleView, token_class: int, subclass: int) -> int:
        if unit_of(token_class, subclass) is Unit.CURRENCY:
            return 0
        return CERTIFICATION_RANDOM_NUMBER if view.certification else secrets.randbelow(16)

    def _reserve(self, meter: Meter, key: VendingKey, local: datetime, timing: Timing) -> Reservation:
        if timing.reserved_date is not None:
            return self._identifiers.take_reserved(meter.pan, key.base_date, timing.reserved_date)
        return self._identifiers.take(meter.pan, key.base_date, local)

    async def _issue(
        self,
        view: ModuleView,
        key: VendingKey,
        meter: Meter,
        holds: KeyAssignment,
        content: tuple[int, int, int],
        timing: Timing,
    ) -> Issued:
        token_class, subclass, value = content
        local = self._local_time(view, timing.issue_time)
        reservation = self._reserve(meter, key, local, timing)
        item = IssueItem(
            token_class=token_class,
            subclass=subclass,
            value=value,
            ea=meter.ea,
            tct=meter.carrier,
            random_number=self._random_number(view, token_class, subclass),
            tariff_index=holds.tariff_index.digits,
            pan=meter.pan.digits,
            token_identifier=reservation.identifier.minutes,
            reserved=reservation.reserved,
            clock_minutes=clock.minutes_since_1970(local) if view.certification else 0,
            validate_only=timing.validate_only,
        )
        try:
            (issued,) = await self._catalogue.client.issue(holds.reference, [item])
        except (ModuleBusy, ModuleUnavailable, FrameInvalid, VendingKeyUnknown):
            # Never executed. After any other error the token may exist, and its identifier stays taken.
            self._identifiers.give_back(reservation)
            raise
        if issued.reason is not Reason.OK or timing.validate_only:
            self._identifiers.give_back(reservation)
        _require_ok(issued.reason)
        return issued

    def _deliver(
        self, view: ModuleView, key: VendingKey | None, issued: Issued, before: tuple[DeliveredToken, ...]
    ) -> Delivery:
        identifier = None
        if key is not None:
            identifier = TokenIdentifier(minutes=issued.token_identifier, base_date=key.base_date)
        token = DeliveredToken(
            digits=issued.digits, token_class=issued.token_class, subclass=issued.subclass, identifier=identifier
        )
        return Delivery(
            token=token,
            granted=issued.granted,
            unit=unit_of(issued.token_class, issued.subclass),
            origin=Origin(key=key, module_id=view.status.module_id, marks=issued.marks),
            key_change_tokens=before,
        )

    def _verification(self, view: ModuleView, key: VendingKey | None, verified: Verified) -> Verification:
        is_timed = key is not None and not (verified.token_class == 2 and verified.subclass in KEY_CHANGE_SUBCLASSES)
        identifier = None
        if key is not None and is_timed:
            identifier = TokenIdentifier(minutes=verified.token_identifier, base_date=key.base_date)
        unit = unit_of(verified.token_class, verified.subclass)
        return Verification(
            genuine=True,
            token_class=verified.token_class,
            subclass=verified.subclass,
            identifier=identifier,
            key_change=verified.is_key_change,
            key_expired=verified.key_expired,
            value=verified.value,
            random_number=verified.random_number if is_timed and unit is not Unit.CURRENCY else None,
            unit=unit,
            origin=Origin(key=key, module_id=view.status.module_id, marks=verified.marks),
        )


def _require_ok(reason: Reason) -> None:
    if reason is not Reason.OK:
        raise ModuleRefusal(reason)
