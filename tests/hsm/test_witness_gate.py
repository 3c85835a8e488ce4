"""Which tokens wait for witnesses, and when they no longer have to."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsm.errors import CosignaturesRefused
from hsm.log.errors import PolicyInvalid
from hsm.log.notes import COSIGNATURE, Note
from hsm.log.policy import WitnessPolicy
from hsm.partial_batches import work_on_rest
from hsm.reasons import Reason
from hsm.requests import (
    ANSWER_LENGTH,
    HEADER_LENGTH,
    IssueItem,
    KeyChangeItem,
    Operation,
    pack_request,
    split_answer,
)
from hsm.settings import ModuleSettings, SettingsInvalid
from hsm.witness_gate import WitnessDemands, WitnessGate, WitnessRule
from tests.log.support import SIGNER, Signer

WITNESSES = [Signer.make(f"witness-{place}", COSIGNATURE, seed=50 + place) for place in range(3)]
POLICY = WitnessPolicy.parse(
    "".join(f"witness {one.key.name} {one.key}\n" for one in WITNESSES)
    + "group two 2 witness-0 witness-1 witness-2\nquorum two\n"
)
NOW = 1_800_000_000


def rule(
    *tokens: str, quorum: str | None = None, age: float = 60, entries: int = 100, start: bool = True
) -> WitnessRule:
    return WitnessRule(
        tokens=tokens or ("*",), quorum=quorum, max_age_seconds=age, max_entries=entries, after_start=start
    )


class Clocks:
    def __init__(self) -> None:
        self.now, self.steady = float(NOW), 1000.0

    def gate(self, *rules: WitnessRule) -> WitnessGate:
        return WitnessGate(SIGNER.key, POLICY, rules, lambda: self.now, lambda: self.steady)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.steady += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def checkpoint(size: int) -> Note:
    return SIGNER.checkpoint(size, size.to_bytes(32, "big"))


def cosigned(size: int, *who: int, at: float = NOW) -> Note:
    note = checkpoint(size)
    return note.merged([WITNESSES[place].sign(note.text, int(at)) for place in who])


def issue(*kinds: tuple[int, int]) -> bytes:
    return pack_request(Operation.ISSUE, [IssueItem(token_class=c, subclass=s, value=1) for c, s in kinds])


def key_change() -> bytes:
    item = KeyChangeItem(
        ea=11,
        set_size=4,
        tct=2,
        pan="600727000000000009",
        old_tariff_index="01",
        new_tariff_index="01",
        new_supply_group_code="201457",
        new_key_revision_number=2,
    )
    return pack_request(Operation.KEY_CHANGE, [item])


def is_free(gate: WitnessGate, size: int = 10, start: int = 5) -> bool:
    return not gate.blocked(Operation.ISSUE, issue((0, 0)), size, start)


def test_a_quorum_on_a_recent_checkpoint_lets_tokens_through(clocks: Clocks) -> None:
    gate = clocks.gate(rule())
    assert not is_free(gate)
    gate.take(10, cosigned(10, 0))
    assert not is_free(gate)
    gate.take(10, cosigned(10, 2))
    assert is_free(gate)


def test_two_cosignatures_on_two_checkpoints_are_not_two_on_one(clocks: Clocks) -> None:
    gate = clocks.gate(rule())
    gate.take(9, cosigned(9, 0))
    gate.take(10, cosigned(10, 1))
    assert not is_free(gate)
    gate.take(9, cosigned(9, 1))
    assert is_free(gate)


def test_which_tokens_a_rule_covers(clocks: Clocks) -> None:
    for tokens, operation, request, places in (
        (("*",), Operation.ISSUE, issue((0, 0), (1, 0), (2, 15)), {0, 1, 2}),
        (("0",), Operation.ISSUE, issue((0, 0), (1, 0), (0, 7), (2, 1)), {0, 2}),
        (("0.4", "2.1"), Operation.ISSUE, issue((0, 0), (0, 4), (2, 1), (2, 11)), {1, 2}),
        (("2.1",), Operation.ISSUE, issue((2, 11)), set()),
        (("0",), Operation.KEY_CHANGE, key_change(), set()),
        (("2",), Operation.KEY_CHANGE, key_change(), {0}),
        (("2.3",), Operation.KEY_CHANGE, key_change(), {0}),
        (("*",), Operation.VERIFY, pack_request(Operation.VERIFY), set()),
    ):
        assert clocks.gate(rule(*tokens)).blocked(operation, request, 10, 5) == places, tokens


def test_every_rule_that_covers_a_token_must_be_met(clocks: Clocks) -> None:
    gate = clocks.gate(rule("0", quorum="witness-0"), rule("0.4", quorum="two"))
    gate.take(10, cosigned(10, 0))
    assert gate.blocked(Operation.ISSUE, issue((0, 0), (0, 4)), 10, 5) == {1}
    gate.take(10, cosigned(10, 1))
    assert is_free(gate)


def test_old_cosignatures_are_none(clocks: Clocks) -> None:
    gate = clocks.gate(rule(age=60))
    gate.take(10, cosigned(10, 0, 1))
    clocks.advance(59)
    assert is_free(gate)
    clocks.advance(2)
    assert not is_free(gate)
    gate.take(10, cosigned(10, 0, at=clocks.now))
    assert not is_free(gate)
    gate.take(10, cosigned(10, 1, at=clocks.now))
    assert is_free(gate)


def test_a_clock_that_is_put_back_makes_nothing_recent(clocks: Clocks) -> None:
    gate = clocks.gate(rule(age=60))
    gate.take(10, cosigned(10, 0, 1))
    clocks.advance(61)
    clocks.now = NOW
    assert not is_free(gate)
    # Shown again, it is no newer.
    gate.take(10, cosigned(10, 0, 1))
    assert not is_free(gate)


def test_a_cosignature_from_the_future_is_none(clocks: Clocks) -> None:
    gate = clocks.gate(rule())
    with pytest.raises(CosignaturesRefused):
        gate.take(10, cosigned(10, 0, 1, at=NOW + 1000))
    assert not is_free(gate)


def test_one_that_was_withheld_until_the_clock_was_put_back_is_old(clocks: Clocks) -> None:
    gate = clocks.gate(rule(age=60))
    withheld = cosigned(10, 0, 1)
    clocks.advance(86_400)
    clocks.now = NOW
    gate.take(10, withheld)
    assert not is_free(gate)


def test_a_start_knows_the_time_from_what_was_cosigned_before(clocks: Clocks) -> None:
    gate = clocks.gate(rule(age=60))
    gate.take(10, cosigned(10, 0, 1))
    clocks.now -= 100
    # A new worker, the clock put back a little: what is recalled says what time it was.
    again = clocks.gate(rule(age=60))
    again.take(10, cosigned(10, 0, 1))
    again.take(9, cosigned(9, 0, 1, at=NOW - 61))
    assert is_free(again)
    assert not again.blocked(Operation.ISSUE, issue((0, 0)), 10, 10)
    assert again.blocked(Operation.ISSUE, issue((0, 0)), 10, 11) == {0}


def test_the_log_signs_once_in_a_note(clocks: Clocks) -> None:
    gate = clocks.gate(rule())
    note = checkpoint(10)
    repeated = Note(text=note.text, signatures=note.signatures * 60)
    gate.take(10, repeated.merged([WITNESSES[0].sign(note.text, NOW)]))
    kept = gate.take(10, repeated.merged([WITNESSES[1].sign(note.text, NOW)]))
    assert kept == cosigned(10, 0, 1)


def test_too_many_entries_after_the_checkpoint(clocks: Clocks) -> None:
    gate = clocks.gate(rule(entries=100))
    gate.take(10, cosigned(10, 0, 1))
    assert is_free(gate, size=109)
    # The batch itself counts.
    assert not is_free(gate, size=110)
    assert gate.blocked(Operation.ISSUE, issue(*[(0, 0)] * 11), 100, 5) == frozenset(range(11))
    assert gate.entries_max == 100


def test_the_start_of_this_worker_must_be_seen(clocks: Clocks) -> None:
    gate = clocks.gate(rule())
    gate.take(4, cosigned(4, 0, 1))
    assert not is_free(gate, start=5)
    assert is_free(gate, start=4)
    lenient = clocks.gate(rule(start=False))
    lenient.take(4, cosigned(4, 0, 1))
    assert is_free(lenient, start=5)


def test_what_strangers_signed_is_left_out(clocks: Clocks) -> None:
    gate = clocks.gate(rule())
    stranger = Signer.make("stranger", COSIGNATURE, seed=60)
    note = cosigned(10, 0)
    namesake = Signer.make(SIGNER.key.name, seed=61)
    kept = gate.take(10, note.merged([stranger.sign(note.text), namesake.sign(note.text)]))
    assert kept == note
    assert gate.take(10, cosigned(10, 1)).signatures == cosigned(10, 0, 1).signatures


def test_what_proves_nothing_is_refused(clocks: Clocks) -> None:
    gate = clocks.gate(rule())
    note = checkpoint(10)
    wrong = WITNESSES[0].sign(checkpoint(11).text, NOW)
    for refused in (
        note,
        note.merged([Signer.make("stranger", COSIGNATURE, seed=60).sign(note.text)]),
        note.merged([wrong]),
    ):
        with pytest.raises(CosignaturesRefused):
            gate.take(10, refused)
    assert gate.newest() is None


def test_the_newest_that_is_cosigned_by_enough(clocks: Clocks) -> None:
    gate = clocks.gate()
    gate.take(10, cosigned(10, 0, 1))
    gate.take(20, cosigned(20, 0))
    assert gate.newest() == (10, cosigned(10, 0, 1))
    for size in range(21, 60):
        gate.take(size, cosigned(size, 0))
    # Memory has an end, but not for the one that counts.
    assert len(gate._candidates) == 9
    assert gate.newest() == (10, cosigned(10, 0, 1))


def test_demands_survive_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "policy").write_text(f"witness a {WITNESSES[0].key}\nquorum none\n")
    demands = WitnessDemands(policy=tmp_path / "policy", rules=(rule("0.4", "2", quorum="a"), rule("*", quorum="a")))
    assert WitnessDemands.unpack(demands.pack()) == demands
    assert demands.read_policy().has("a")


def test_a_rule_that_demands_nobody_is_refused(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text(f"witness a {WITNESSES[0].key}\nquorum none\n")
    for quorum in (None, "b"):
        with pytest.raises(PolicyInvalid):
            WitnessDemands(policy=policy, rules=(rule(quorum=quorum),)).read_policy()
    for missing in (tmp_path / "missing", tmp_path):
        with pytest.raises(PolicyInvalid):
            WitnessDemands(policy=missing, rules=()).read_policy()


SETTINGS = """
socket = "/run/module.sock"
module_config = "/etc/module.conf"
pin_file = "/etc/pin"
client_users = ["nobody"]
[log]
folder = "/var/log"
[log.witnesses]
policy = "{policy}"
[[log.witnesses.require]]
tokens = {tokens}
{more}
"""


def settings(folder: Path, tokens: str, more: str = "", policy: str = "quorum none\n") -> ModuleSettings:
    (folder / "policy").write_text(policy)
    (folder / "module.toml").write_text(SETTINGS.format(policy=folder / "policy", tokens=tokens, more=more))
    return ModuleSettings.read(folder / "module.toml")


def test_settings_name_their_witnesses(tmp_path: Path) -> None:
    policy = f"witness a {WITNESSES[0].key}\nquorum a\n"
    found = settings(tmp_path, '["0", "2.15"]', "max_age_seconds = 30", policy).log.witnesses
    assert found is not None
    (demand,) = found.demands.rules
    assert demand == WitnessRule(
        tokens=("0", "2.15"), quorum=None, max_age_seconds=30, max_entries=100_000, after_start=True
    )


@pytest.mark.parametrize(
    ("tokens", "more", "policy"),
    [
        ("[]", "", None),
        ('["3"]', "", None),
        ('["2.16"]', "", None),
        ('["0."]', "", None),
        ('["*", "credit"]', "", None),
        ('["0"]', "max_age_seconds = 0", None),
        ('["0"]', "max_entries = 0", None),
        ('["0"]', "surprise = 1", None),
        ('["0"]', 'quorum = "b"', None),
        ('["0"]', "", "quorum none\n"),
        ('["0"]', "", "rubbish\n"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, tokens: str, more: str, policy: str | None) -> None:
    with pytest.raises(SettingsInvalid):
        settings(tmp_path, tokens, more, f"witness a {WITNESSES[0].key}\nquorum a\n" if policy is None else policy)


# --- batches of which a part is refused -----------------------------------------------------------------------------


def test_the_module_sees_the_rest_alone() -> None:
    request = issue((0, 0), (0, 4), (1, 0), (0, 4), (0, 1))
    seen: list[bytes] = []

    def work(rest: bytes) -> bytes:
        seen.append(rest)
        # What the module would answer: a reason of its own for each, here the item's subclass.
        items = [rest[at : at + 64] for at in range(HEADER_LENGTH, len(rest), 64)]
        return rest[:HEADER_LENGTH] + b"".join(
            bytes([0, 100 + item[1]]).ljust(ANSWER_LENGTH[Operation.ISSUE], b"x") for item in items
        )

    answer = work_on_rest(Operation.ISSUE, request, {1, 3}, Reason.LOG_NOT_WITNESSED, work)
    assert seen == [issue((0, 0), (1, 0), (0, 1))]
    parts = split_answer(Operation.ISSUE, answer, 5)
    reasons = [int.from_bytes(part[:2], "big") for part in parts]
    assert reasons == [100, Reason.LOG_NOT_WITNESSED, 100, Reason.LOG_NOT_WITNESSED, 101]
    assert not any(parts[1][2:])


def test_the_module_is_not_asked_if_nothing_is_left() -> None:
    def work(_: bytes) -> bytes:
        raise AssertionError

    answer = work_on_rest(Operation.KEY_CHANGE, key_change(), {0}, Reason.LOG_NOT_WITNESSED, work)
    (part,) = split_answer(Operation.KEY_CHANGE, answer, 1)
    assert int.from_bytes(part[:2], "big") == Reason.LOG_NOT_WITNESSED
