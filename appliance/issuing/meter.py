"""A meter as a request describes it, and whether it holds the key that it ought to."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.errors import KeyChangeRequired, MeterKeyMismatch
from hsm.keys import KeyReference, VendingKey
from sts.identifiers import EncryptionAlgorithm, KeyExpiryNumber, KeyType, MeterPAN, TariffIndex, TokenCarrierType
from sts.token_identifier import BaseDate


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAssignment:
    """The vending key and tariff that a meter holds or ought to hold."""

    reference: KeyReference
    tariff_index: TariffIndex


@dataclass(slots=True, kw_only=True)
class Meter:
    """A meter with what it holds now; key type, base date and expiry where they are known."""

    pan: MeterPAN
    holds: KeyAssignment
    ea: EncryptionAlgorithm
    carrier: TokenCarrierType
    key_type: KeyType | None
    base_date: BaseDate | None
    key_expiry_number: KeyExpiryNumber | None

    def differences(self, key: VendingKey, assignment: KeyAssignment | None) -> list[str]:
        """Name what differs between the meter, the record of its vending key and its assignment."""
        if assignment is None and self.key_type is None and self.base_date is None and self.key_expiry_number is None:
            return []
        target = assignment or self.holds
        pairs = {
            "supply_group_code": (self.holds.reference.supply_group_code, target.reference.supply_group_code),
            "key_revision_number": (self.holds.reference.key_revision_number, target.reference.key_revision_number),
            "tariff_index": (self.holds.tariff_index, target.tariff_index),
            "key_type": (self.key_type or key.key_type, key.key_type),
            "base_date": (self.base_date or key.base_date, key.base_date),
            "key_expiry_number": (self.key_expiry_number or key.key_expiry_number, key.key_expiry_number),
        }
        return [name for name, (held, wanted) in pairs.items() if held != wanted]

    def require_held(self, key: VendingKey) -> None:
        """Raise MeterKeyMismatch if the meter cannot hold a key of this vending key, as type or base date differ.

        Tokens under such a key, key-change tokens among them, would be refused by the meter.
        """
        if self.key_type is None and self.base_date is None:
            return
        stated = {"key_type": (self.key_type, key.key_type), "base_date": (self.base_date, key.base_date)}
        fields = ", ".join(name for name, (held, has) in stated.items() if held not in (None, has))
        if fields:
            raise MeterKeyMismatch(f"the meter and its vending key differ: {fields}", fields=fields)


def require_current(meter: Meter, key: VendingKey, assignment: KeyAssignment | None) -> None:
    """Raise KeyChangeRequired, naming the fields, unless the meter holds what it ought to."""
    differences = meter.differences(key, assignment)
    if differences:
        fields = ", ".join(differences)
        raise KeyChangeRequired(f"the meter needs a key change: {fields}", fields=fields)
