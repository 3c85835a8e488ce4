"""From an order to what the policy is asked: class, supply groups, and what will be granted at the most."""

from __future__ import annotations

from appliance.issuing.module import ModuleView
from appliance.issuing.orders import CreditOrder, KeyChangeOrder, ManagementOrder, MeterTestOrder, Order, Submission
from appliance.policy.judge import Asked
from sts.amount import Amount16
from sts.credit import CreditSubClass
from sts.currency import CurrencyAmount
from sts.errors import StsError

_FIRST_SECTION = 3


def asked_of(submission: Submission, view: ModuleView, *, automatic_key_change: bool) -> list[Asked]:
    """Return everything that a submission would issue.

    Args:
        submission: what is asked for.
        view: the module, whose records say whether a meter needs a key change.
        automatic_key_change: whether a credit brings one along.
    """
    order: Order = submission.order
    client = submission.client
    match order:
        case CreditOrder():
            return _credit(client, order, view if automatic_key_change else None)
        case ManagementOrder():
            return [
                Asked(
                    client=client,
                    supply_groups=(order.meter.holds.reference.supply_group_code.digits,),
                    token_class=2,
                    subclass=order.subclass,
                    meter=int(order.meter.pan.digits),
                    is_free=order.timing.reserved_date is not None,
                )
            ]
        case MeterTestOrder():
            return [Asked(client=client, supply_groups=(), token_class=1, subclass=order.subclass)]
        case KeyChangeOrder():
            old = order.meter.holds.reference.supply_group_code.digits
            new = order.target.reference.supply_group_code.digits
            return [_key_change(client, int(order.meter.pan.digits), old, new)]


def _credit(client: str, order: CreditOrder, view: ModuleView | None) -> list[Asked]:
    held = order.meter.holds.reference.supply_group_code.digits
    group, asked = held, []
    meter = int(order.meter.pan.digits)
    if view is not None and needs_key_change(order, view):
        group = (order.assignment or order.meter.holds).reference.supply_group_code.digits
        asked.append(_key_change(client, meter, held, group))
    is_currency = order.subclass >= CreditSubClass.ELECTRICITY_CURRENCY
    granted = _granted(order.units, is_currency=is_currency)
    asked.append(
        Asked(
            client=client,
            supply_groups=(group,),
            token_class=0,
            subclass=int(order.subclass),
            meter=meter,
            units=0 if is_currency else granted,
            currency=granted if is_currency else 0,
            is_free=order.timing.reserved_date is not None,
        )
    )
    return asked


def needs_key_change(order: CreditOrder, view: ModuleView) -> bool:
    """Tell whether a credit would bring key-change tokens along, where that is so; not for a key that is not there."""
    key = view.keys.get(order.meter.holds.reference)
    return key is not None and bool(order.meter.differences(key, order.assignment))


def _key_change(client: str, meter: int, old: str, new: str) -> Asked:
    groups = (old,) if old == new else (old, new)
    return Asked(client=client, supply_groups=groups, token_class=2, subclass=_FIRST_SECTION, meter=meter)


def _granted(units: int, *, is_currency: bool) -> int:
    """Return what a token grants, which is rounded up to what its field can say; nothing for a negative amount."""
    try:
        found = CurrencyAmount.from_units(units).units if is_currency else Amount16.from_units(units).units
    except StsError:
        # The module refuses it, and says why.
        return max(units, 0)
    return max(found, 0)
