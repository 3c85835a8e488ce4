"""Meters by the thousand: PANs with right check digits."""

from __future__ import annotations

from sts.identifiers import MeterPAN
from sts.luhn import check_digit


def pan(number: int) -> str:
    """Return the PAN of the meter with this number, of at most ten digits."""
    payload = f"{number:010d}"
    return MeterPAN.parse(payload + check_digit(payload)).digits
