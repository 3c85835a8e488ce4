"""What a virtual meter measures and switches: credit registers, load switch, power limits, tamper state."""

from __future__ import annotations

from sts.credit import CreditSubClass
from sts.management import ClearCreditRegister

REGISTER_MAX_UNITS = 10**12 - 1
"""Capacity of a credit register, in its least significant bits; the standard leaves it to the meter."""


class CreditRegisterOverflow(Exception):
    """The credit would not fit into its register."""


class MeterRegisters:
    """Eight credit registers (four services, the same in currency) and a load switch per service.

    Service registers count in 0.1 kWh, 0.1 m3, 0.1 m3 and 0.1 min, currency registers in 1e-5 base units. The supply
    of a service is connected while its service register or its currency register is above zero, no tamper is
    pending and, for electricity, no power limit is exceeded.
    """

    def __init__(self) -> None:
        self._credit = dict.fromkeys(CreditSubClass, 0)
        self.maximum_power_limit_watts: int | None = None
        self.maximum_phase_unbalance_watts: int | None = None
        self.tariff_rate = 0
        self.water_meter_factor = 1
        self.extended: dict[int, int] = {}
        self.proprietary: dict[int, int] = {}
        self._load_watts = 0
        self._unbalance_watts = 0
        self._tampered = False

    def credit(self, register: CreditSubClass) -> int:
        """Return a register in its least significant bits; below zero is debt."""
        return self._credit[register]

    def add(self, register: CreditSubClass, units: int) -> None:
        """Add signed units; raises CreditRegisterOverflow beyond the register, and changes nothing then."""
        total = self._credit[register] + units
        if abs(total) > REGISTER_MAX_UNITS:
            raise CreditRegisterOverflow
        self._credit[register] = total

    def consume(self, register: CreditSubClass, units: int) -> int:
        """Draw up to ``units`` (zero or more) while the supply is connected; return what was drawn.

        The supply disconnects when the register reaches zero.
        """
        if units < 0:
            raise ValueError("consumption is zero or more")
        if not self.is_connected(register):
            return 0
        drawn = min(units, max(0, self._credit[register]))
        self._credit[register] -= drawn
        return drawn

    def clear(self, register: ClearCreditRegister) -> None:
        """Empty one register, or all."""
        for subclass in CreditSubClass:
            if register is ClearCreditRegister.ALL or int(subclass) == int(register):
                self._credit[subclass] = 0

    def set_load(self, *, watts: int, unbalance_watts: int = 0) -> None:
        """Say what load is drawn, and how far the phases are apart."""
        self._load_watts = watts
        self._unbalance_watts = unbalance_watts

    def tamper(self) -> None:
        """Detect a tampering: disconnects every supply until a ClearTamperCondition token."""
        self._tampered = True

    def clear_tamper(self) -> None:
        """Clear the tamper state."""
        self._tampered = False

    @property
    def is_tampered(self) -> bool:
        """True from a tampering until it is cleared."""
        return self._tampered

    @property
    def is_overloaded(self) -> bool:
        """True while a power limit is exceeded."""
        limit, unbalance = self.maximum_power_limit_watts, self.maximum_phase_unbalance_watts
        over_limit = limit is not None and self._load_watts > limit
        return over_limit or (unbalance is not None and self._unbalance_watts > unbalance)

    def is_connected(self, service: CreditSubClass) -> bool:
        """Tell whether the supply of a service (named by either of its registers) is on."""
        number = service % 4
        has_credit = self._credit[CreditSubClass(number)] > 0 or self._credit[CreditSubClass(number + 4)] > 0
        blocked = self._tampered or (number == CreditSubClass.ELECTRICITY and self.is_overloaded)
        return has_credit and not blocked
