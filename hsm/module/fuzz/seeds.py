"""Writes well-formed requests as seeds: python seeds.py FOLDER."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from pathlib import Path

from hsm.ceremony_requests import (
    BlockKeyItem,
    Centre,
    CentresItem,
    InitTokenItem,
    InstallTablesItem,
    KeyBlockItem,
    KeyNameItem,
    KeySource,
    LoadKeyItem,
    LoadWrappedItem,
)
from hsm.mandate import Lease, PolicyItem, PresentedLease
from hsm.officers import Approval, BeginItem, CeremonyKind, ComponentPart, Officer, OfficersItem
from hsm.requests import IssueItem, Item, KeyChangeItem, Operation, VerifyItem, pack_request
from sts.ciphers.sta_tables import SAMPLE_TABLES

_CLOCK_2014_03 = 23_228_000  # minutes since 1970
_TID_2014_03 = _CLOCK_2014_03 - 23_142_240
_PAN = "600727000000000009"
_ATTRIBUTES = (
    "sgc=700002 krn=1 kt=2 dkga=04 bdt=14 ken=255 act=- iut=- c0=00ff c2=fce7 kc=1 rfr=- ulm=0 clm=0 kcv=000000"
)
_OPTIONAL = f"41{len(_ATTRIBUTES) + 4:02X}{_ATTRIBUTES}"
_PADDING = -(len(_OPTIONAL) + 4) % 16 + 4
_CLEAR = f"41HX00N0200{_OPTIONAL}PB{_PADDING:02X}{'0' * (_PADDING - 4)}"
_KEY_BLOCK = f"D{len(_CLEAR) + 5 + 96:04d}{_CLEAR}{'0' * 96}"


def items() -> list[tuple[Operation, list[Item]]]:
    """One request of every kind and type."""
    requests: list[tuple[Operation, list[Item]]] = [
        (operation, []) for operation in (Operation.CHECK_VALUE, Operation.STATUS, Operation.SELF_TEST)
    ]
    for token_class, subclass in itertools.product((0, 1, 2, 3), range(16)):
        common = {"ea": 11, "tct": 2, "tariff_index": "01", "pan": _PAN, "token_identifier": _TID_2014_03}
        item = IssueItem(
            token_class=token_class,
            subclass=subclass,
            value=5,
            clock_minutes=_CLOCK_2014_03,
            **({} if token_class == 1 else common),  # type: ignore[arg-type]  # a mapping of fields
        )
        requests.append((Operation.ISSUE, [item]))
    requests.append(
        (Operation.VERIFY, [VerifyItem(digits="58625789986991357486", ea=11, tct=2, tariff_index="01", pan=_PAN)])
    )
    requests.append((Operation.VERIFY, [VerifyItem(digits="00000000000150997584")]))
    for ea, size in ((7, 2), (7, 3), (11, 4)):
        change = KeyChangeItem(
            ea=ea,
            set_size=size,
            tct=2,
            pan=_PAN,
            old_tariff_index="01",
            new_tariff_index="02",
            new_supply_group_code="201457",
            new_key_revision_number=1,
            clock_minutes=_CLOCK_2014_03,
        )
        requests.append((Operation.KEY_CHANGE, [change]))
    load = LoadKeyItem(
        supply_group_code="700001",
        key_revision_number=1,
        key_type=2,
        dkga=4,
        base_date=14,
        key_expiry_number=255,
        key_change=True,
        class0=0xFF,
        class2=0xFCE7,
        activation=1,
        issued_until=_CLOCK_2014_03,
        key=bytes(range(1, 21)),
    )
    requests.append((Operation.LOAD_KEY, [load]))
    requests.append((Operation.INSTALL_TABLES, [InstallTablesItem(name="tables", tables=SAMPLE_TABLES.octets)]))
    requests.append((Operation.INIT_TOKEN, [InitTokenItem(label="", so_pin="1" * 32, user_pin="2" * 32)]))
    people = [Officer(name=name, key=name.encode() * 32, valid_from=0, valid_until=1) for name in "AB"]
    requests += [
        (Operation.OFFICERS, []),
        (Operation.SET_OFFICERS, [OfficersItem(officers=people, thresholds=dict.fromkeys(CeremonyKind, 2))]),
        (Operation.BEGIN_CEREMONY, [BeginItem(kind=CeremonyKind.LOAD_KEY, plan=bytes(32), actions=[bytes(32)])]),
        (Operation.APPROVE, [Approval(key=bytes([1]) * 32, signature=bytes([1]) * 64)]),
        (Operation.DESTROY_KEY, [KeyNameItem(supply_group_code="201457", key_revision_number=1)]),
        (Operation.LOAD_KEY, [replace(load, key=b"", source=KeySource.COMPONENTS, expected=b"abc", components=2)]),
        (Operation.LOAD_KEY, [replace(load, key=b"", source=KeySource.GENERATE)]),
    ]
    wrapped = LoadWrappedItem(
        load=replace(load, key=b"", source=KeySource.WRAPPED, expected=b"abc"),
        point=b"\x04" + bytes(96),
        wrapped=bytes(32),
        centre=bytes([1]) * 32,
        signature=bytes([1]) * 64,
    )
    requests += [
        (Operation.RETIRE_KEY, [KeyNameItem(supply_group_code="201457", key_revision_number=1)]),
        (Operation.TRANSPORT_KEY, []),
        (Operation.END_TRANSPORT, []),
        (Operation.LOAD_WRAPPED, [wrapped]),
        (Operation.CENTRES, []),
        (Operation.SET_CENTRES, [CentresItem(centres=[Centre(name="C", key=bytes([1]) * 32)])]),
        (Operation.SET_BLOCK_KEY, [BlockKeyItem(components=2)]),
        (Operation.LOAD_BLOCK, [KeyBlockItem(block=_KEY_BLOCK)]),
    ]
    lease = Lease(number=1, valid_from=0, valid_until=60)
    requests += [
        (Operation.SET_LEASE, [lease]),
        (Operation.SET_POLICY, [PolicyItem(number=1, digest=bytes([1]) * 32)]),
        (Operation.MANDATE, []),
        (
            Operation.PRESENT_LEASE,
            [
                PresentedLease(
                    lease=lease, signatures=[Approval(key=bytes([seed]) * 32, signature=bytes(64)) for seed in (1, 2)]
                )
            ],
        ),
    ]
    for length in (8, 20):
        part = ComponentPart(
            number=1, total=2, offset=0, key_length=length, officer=bytes([1]) * 32, octets=bytes(range(1, length + 1))
        )
        requests.append((Operation.COMPONENT, [part]))
    return requests


def main() -> None:
    """Write the seeds, for every mode and key."""
    folder = Path(sys.argv[1])
    positions = {operation: position for position, operation in enumerate(Operation)}
    for number, (operation, request) in enumerate(items()):
        packed = pack_request(operation, request)
        for mode, key in itertools.product((0, 1, 2, 34, 97), (0, 1, 5)):
            (folder / f"seed-{number}-{mode}-{key}").write_bytes(bytes([positions[operation], mode, key, 0]) + packed)


if __name__ == "__main__":
    main()
