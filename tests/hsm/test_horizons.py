"""When keys stop."""

from __future__ import annotations

from datetime import datetime

import pytest

from hsm.horizons import horizons
from hsm.keys import VendingKey

LABEL = "keywatt-vk/{} sgc=201457 krn=1 kt=2 dkga=04 bdt={} ken={} act=- iut={} c0=00ff c2=fce7 kc=1{} origin=public kcv=000000"


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        # The last minutes of the base dates, as the standard's facts have them.
        (LABEL.format(1, 93, 255, "-", ""), [("2024-11-24T20:15", "base-date")]),
        (LABEL.format(1, 14, 255, "-", ""), [("2045-11-24T20:15", "base-date")]),
        (
            # One step of the KEN is 65,536 minutes: KEN 0 ends with the identifier 65,535.
            LABEL.format(1, 14, 0, "2014-02-01T00:00", ""),
            [
                ("2014-02-01T00:00", "issued-until"),
                ("2014-02-15T12:15", "key-expiry-number"),
                ("2045-11-24T20:15", "base-date"),
            ],
        ),
        (
            LABEL.format(2, 14, 255, "-", " rfr=2030-01-01T00:00 ulm=0 clm=5"),
            [("2030-01-01T00:00", "refresh-until"), ("2045-11-24T20:15", "base-date")],
        ),
    ],
)
def test_horizons(label: str, expected: list[tuple[str, str]]) -> None:
    found = horizons(VendingKey.from_label(label))
    assert [(one.moment, one.bound) for one in found] == [
        (datetime.fromisoformat(moment), bound) for moment, bound in expected
    ]
