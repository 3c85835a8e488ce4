"""The authorisation matrix on the running system: every issuing call x role x supply group x class."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from keywatt.type.v1 import meter_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client import request_ids
from appliance.client.client import ClientError, KeywattClient, info_of
from tests.appliance.test_approvals import wrapped
from tests.faults.test_policy import request
from tests.policy.governed import govern
from tests.policy.texts import client
from tests.support.authority import Clients
from tests.support.lab import CONTEXTS, DEVELOPMENT_160, key_item
from tests.support.system import running

pytestmark = pytest.mark.root
GROUPS = ("600801", "600802")
CREDIT = [(0, subclass) for subclass in range(8)]
MANAGEMENT = [(2, subclass) for subclass in (0, 1, 2, 5, 6, 7, 10, 11)]
KEY_CHANGE = (2, 3)
TEST = [(1, subclass) for subclass in (0, 1, 2, 6, 11)]
Kind = tuple[int, int]


def grant(groups: str, *classes: str) -> str:
    names = ", ".join(f'"{name}"' for name in classes)
    return f"[[client.grant]]\nsupply_groups = [{groups}]\nclasses = [{names}]\n"


FIRST, SECOND, ANY = f'"{GROUPS[0]}"', f'"{GROUPS[1]}"', '"*"'
ROLES: dict[str, tuple[str, set[tuple[Kind, str]]]] = {
    "vendor": (grant(FIRST, "0.0", "0.4"), {((0, 0), GROUPS[0]), ((0, 4), GROUPS[0])}),
    "all-groups": (grant(ANY, "0.1-3"), {((0, n), group) for n in (1, 2, 3) for group in GROUPS}),
    "engineer": (
        grant(FIRST, "2.1", "2.5") + grant(SECOND, "key-change", "2.0"),
        {((2, 1), GROUPS[0]), ((2, 5), GROUPS[0]), (KEY_CHANGE, GROUPS[1]), ((2, 0), GROUPS[1])},
    ),
    "tester": (grant(ANY, "1.0-15"), {(kind, "") for kind in TEST}),
    "auditor": ("", set()),
    "revoked": (grant(ANY, "0.0-7", "1.0-15", "2.0-2", "2.5-7", "2.10-15", "key-change"), set()),
}
CELLS = [
    *itertools.product([*CREDIT, *MANAGEMENT, KEY_CHANGE], GROUPS),
    *((kind, "") for kind in TEST),
]


def message(kind: Kind, group: str) -> tuple[str, Any]:
    """Return the call and a request that is good, and issues nothing."""
    fields: dict[str, Any] = {"validate_only": True, "request_id": request_ids.new()}
    token_class, subclass = kind
    if token_class == 1:
        selection = {"extended_read_index": 3} if subclass == 2 else {"control": 0}
        return "IssueMeterTestToken", vending_pb2.IssueMeterTestTokenRequest(subclass=subclass, **selection, **fields)
    meter = request(1).meter
    meter.supply_group_code = group
    if kind == KEY_CHANGE:
        target = meter_pb2.KeyAssignment(supply_group_code=group, key_revision_number=1, tariff_index="02")
        return "IssueKeyChangeTokens", vending_pb2.IssueKeyChangeTokensRequest(meter=meter, target=target, **fields)
    if token_class == 0:
        credit = vending_pb2.CreditType.ValueType(subclass + 1)
        return "IssueCreditToken", vending_pb2.IssueCreditTokenRequest(
            meter=meter, credit_type=credit, amount="10", **fields
        )
    command = {
        0: {"maximum_power_limit": 100},
        1: {"clear_credit": vending_pb2.CREDIT_REGISTER_ALL},
        2: {"tariff_rate": 1},
        5: {"clear_tamper": vending_pb2.ClearTamper()},
        6: {"maximum_phase_power_unbalance_limit": 100},
        7: {"water_meter_factor": 1},
        10: {"extended_set": vending_pb2.ExtendedSet(index=1, data=2)},
        11: {"proprietary": vending_pb2.Proprietary(subclass=11, data=3)},
    }[subclass]
    return "IssueManagementToken", vending_pb2.IssueManagementTokenRequest(meter=meter, **command, **fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def asked() -> Iterator[dict[str, KeywattClient]]:
    keys = [key_item(group, key=DEVELOPMENT_160) for group in GROUPS]
    with running("online", [*CONTEXTS, *keys]) as system:
        clients = Clients(system)
        profiles = {name: clients.add(name) for name in (*ROLES, "stranger")}
        parts = [
            client(name, grants, audits=name == "auditor", is_revoked=name == "revoked")
            for name, (grants, _) in ROLES.items()
        ]
        govern(system, *parts, client("spiffe://keywatt.dev/development"))
        opened = {name: KeywattClient(profile) for name, profile in profiles.items()}
        try:
            yield opened
        finally:
            for one in opened.values():
                one.close()


def outcome(client_: KeywattClient, name: str, wanted: Any) -> str:
    try:
        client_.call(getattr(client_.vending, name), wanted)
    except ClientError as error:
        return error.reason
    return "OK"


def alone(client_: KeywattClient, kind: Kind, group: str) -> str:
    return outcome(client_, *message(kind, group))


def in_a_batch(client_: KeywattClient, kind: Kind, group: str) -> str:
    _, wanted = message(kind, group)
    batch = vending_pb2.BatchIssueTokensRequest(requests=[wrapped(wanted)])
    try:
        (result,) = client_.call(client_.vending.BatchIssueTokens, batch).results
    except ClientError as error:
        return error.reason
    if result.WhichOneof("result") != "error":
        return "OK"
    return info_of(result.error).reason


def in_a_stream(client_: KeywattClient, kind: Kind, group: str) -> str:
    _, wanted = message(kind, group)
    one = vending_pb2.StreamIssueTokensRequest(requests=[wrapped(wanted)])
    try:
        (answer,) = client_.stream(client_.vending.StreamIssueTokens, iter([one]))
    except ClientError as error:
        return error.reason
    return "OK" if answer.results[0].WhichOneof("result") != "error" else "refused"


@pytest.mark.parametrize("role", [*ROLES, "stranger"])
def test_alone(asked: dict[str, KeywattClient], role: str) -> None:
    allowed = ROLES[role][1] if role in ROLES else set()
    found = {cell: alone(asked[role], *cell) for cell in CELLS}
    assert {cell for cell, reason in found.items() if reason == "OK"} == allowed
    refusal = "CLIENT_REVOKED" if role == "revoked" else "NOT_AUTHORISED"
    assert {reason for reason in found.values() if reason != "OK"} <= {refusal}
    assert len(found) > len(allowed)


@pytest.mark.parametrize("role", [*ROLES, "stranger"])
def test_in_batches_and_streams(asked: dict[str, KeywattClient], role: str) -> None:
    allowed = ROLES[role][1] if role in ROLES else set()
    for ask in (in_a_batch, in_a_stream):
        assert {cell for cell in CELLS if ask(asked[role], *cell) == "OK"} == allowed


def test_a_key_change_between_groups_needs_both(asked: dict[str, KeywattClient]) -> None:
    name, wanted = message(KEY_CHANGE, GROUPS[1])
    for held, target, reason in (
        (GROUPS[1], GROUPS[1], "OK"),
        (GROUPS[0], GROUPS[1], "NOT_AUTHORISED"),
        (GROUPS[1], GROUPS[0], "NOT_AUTHORISED"),
    ):
        wanted.meter.supply_group_code, wanted.target.supply_group_code = held, target
        assert outcome(asked["engineer"], name, wanted) == reason
