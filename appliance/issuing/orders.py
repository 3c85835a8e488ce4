"""What is ordered and what is delivered, in the words of the standard. Delivered digits never show in a repr.

Nothing here is changed once it is made. What is made for every token is not frozen all the same: a frozen dataclass
takes three times as long to make, and a token passes through a dozen of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from appliance.issuing.meter import KeyAssignment, Meter
from appliance.issuing.quantities import Unit
from appliance.ledger.records import Method
from appliance.policy.judge import Asked
from hsm.keys import VendingKey
from hsm.requests import Mark
from sts.credit import CreditSubClass
from sts.token_identifier import TokenIdentifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a token is for.

    Args:
        reserved_date: take the reserved identifier of this date instead of the present minute.
        issue_time: naive local time, in certification mode only.
        validate_only: check everything, issue nothing.
    """

    reserved_date: datetime | None = None
    issue_time: datetime | None = None
    validate_only: bool = False


NOW = Timing()
"""The present minute."""


@dataclass(slots=True, kw_only=True)
class CreditOrder:
    """Credit for a meter: ``units`` in least significant bits of the subclass, signed for currency."""

    meter: Meter
    assignment: KeyAssignment | None
    subclass: CreditSubClass
    units: int
    timing: Timing


@dataclass(slots=True, kw_only=True)
class ManagementOrder:
    """A class 2 token other than key change: watts for limits, else the raw sixteen bits."""

    meter: Meter
    assignment: KeyAssignment | None
    subclass: int
    value: int
    timing: Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterTestOrder:
    """A class 1 token: the control field and the manufacturer code."""

    subclass: int
    control: int
    manufacturer_code: int
    validate_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChangeOrder:
    """A key-change set: ``set_size`` 0 takes the default of the algorithm."""

    meter: Meter
    target: KeyAssignment
    set_size: int
    issue_time: datetime | None
    validate_only: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """Where and with what tokens were made; the tokens of one key share one of these."""

    key: VendingKey | None
    module_id: str
    marks: Mark


@dataclass(slots=True, kw_only=True, repr=False)
class DeliveredToken:
    """One token; digits are empty and ``log_index`` is None if it was only validated."""

    digits: str
    token_class: int
    subclass: int
    identifier: TokenIdentifier | None
    log_index: int | None = None


@dataclass(slots=True, kw_only=True, repr=False)
class Delivery:
    """A token with what it grants and where it was made."""

    token: DeliveredToken
    granted: int
    unit: Unit
    origin: Origin
    key_change_tokens: tuple[DeliveredToken, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class KeyChangeDelivery:
    """A key-change set."""

    tokens: tuple[DeliveredToken, ...]
    origin: Origin
    new_key: VendingKey
    rollover: bool


Order = CreditOrder | ManagementOrder | MeterTestOrder | KeyChangeOrder


@dataclass(slots=True, kw_only=True)
class Submission:
    """A request to issue, with what makes it safe to repeat.

    Args:
        client: who asks.
        request_id: 16 octets, unique for the client.
        fingerprint: 32 octets of the body; the same id with another fingerprint is refused.
        method: which call it is.
        order: what is ordered.
        compose: makes the answer, which is stored and given out byte for byte.
        deadline: time of the event loop after which work on it must not begin, or None.
        approvers: clients who have approved it; None: only to be checked, as if enough had.
        asked: what the policy is asked, once that is known.
    """

    client: str
    request_id: bytes
    fingerprint: bytes
    method: Method
    order: Order
    compose: Callable[[Delivery | KeyChangeDelivery], bytes]
    deadline: float | None = None
    approvers: tuple[str, ...] | None = ()
    asked: list[Asked] = field(default_factory=list)

    @property
    def meter(self) -> int | None:
        """The meter PAN as a number, or None in class 1."""
        return None if isinstance(self.order, MeterTestOrder) else int(self.order.meter.pan.digits)

    @property
    def validate_only(self) -> bool:
        """Whether nothing is to be issued."""
        if isinstance(self.order, CreditOrder | ManagementOrder):
            return self.order.timing.validate_only
        return self.order.validate_only


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a verification found; everything else is empty unless the token is genuine."""

    genuine: bool
    token_class: int = 0
    subclass: int = 0
    identifier: TokenIdentifier | None = None
    key_change: bool = False
    key_expired: bool = False
    value: int = 0
    random_number: int | None = None
    unit: Unit = Unit.NUMBER
    origin: Origin | None = None
