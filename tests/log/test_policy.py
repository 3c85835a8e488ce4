"""Witness policies: what is one, and who is enough."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.log.errors import NoteInvalid, PolicyInvalid
from hsm.log.notes import COSIGNATURE
from hsm.log.policy import WitnessPolicy
from tests.log.support import SIGNER, Signer

WITNESSES = [Signer.make(f"witness.example/{name}", COSIGNATURE, seed=30 + place) for place, name in enumerate("abcd")]
A, B, C, D = (witness.key for witness in WITNESSES)
POLICY = f"""# Two of three utilities, and the regulator.
log {SIGNER.key} https://log.example/

witness a {A} https://a.example/prefix/
witness b {B}   http://127.0.0.1:8089
witness c {C}
witness regulator {D} https://regulator.example
group utilities 2 a b c
group all-of-it all utilities regulator
quorum all-of-it
"""


def test_a_policy_is_read() -> None:
    policy = WitnessPolicy.parse(POLICY)
    assert policy.logs == (SIGNER.key,)
    assert policy.witnesses["a"].url == "https://a.example/prefix"
    assert policy.witnesses["b"].url == "http://127.0.0.1:8089"
    assert policy.witnesses["c"].url is None
    assert policy.groups["utilities"].threshold == 2
    assert policy.groups["all-of-it"].threshold == 2
    assert policy.has("utilities")
    assert policy.has("c")
    assert not policy.has("d")


def test_who_is_enough() -> None:
    policy = WitnessPolicy.parse(POLICY)
    for count in range(5):
        for cosigned in itertools.combinations(["a", "b", "c", "regulator"], count):
            assert policy.is_met(cosigned) == ("regulator" in cosigned and count >= 3), cosigned
            assert policy.is_met(cosigned, "utilities") == (len({*cosigned} - {"regulator"}) >= 2)
            assert policy.is_met(cosigned, "c") == ("c" in cosigned)
    assert WitnessPolicy.parse("quorum none\n").is_met(())


def test_witnesses_are_keys_and_not_names() -> None:
    policy = WitnessPolicy.parse(POLICY)
    note = SIGNER.checkpoint(7, bytes(32))
    cosigned = note.merged([WITNESSES[0].sign(note.text, 17), WITNESSES[3].sign(note.text, 18)])
    assert policy.cosigned(cosigned) == {"a": 17, "regulator": 18}
    impostor = Signer.make("witness.example/b", COSIGNATURE, seed=99)
    assert policy.cosigned(cosigned.merged([impostor.sign(note.text, 19)])) == {"a": 17, "regulator": 18}
    other = SIGNER.checkpoint(8, bytes(32))
    with pytest.raises(NoteInvalid):
        policy.cosigned(note.merged([WITNESSES[0].sign(other.text, 17)]))


def test_k_of_some_keys() -> None:
    policy = WitnessPolicy.of([A, B, C], 2)
    assert policy.is_met({A.name, C.name})
    assert not policy.is_met({B.name})
    assert WitnessPolicy.of([A], 0).is_met(())
    for keys, quorum in (([A], 2), ([], 1), ([A, A], 1), ([SIGNER.key], 1)):
        with pytest.raises(PolicyInvalid):
            WitnessPolicy.of(keys, quorum)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"witness a {A}\n",
        "quorum a\n",
        "quorum none\nquorum none\n",
        f"witness a {A}\nwitness a {B}\nquorum a\n",
        f"witness a {A}\nwitness b {A}\nquorum a\n",
        f"witness none {A}\nquorum none\n",
        f"witness a {SIGNER.key}\nquorum a\n",
        f"log {A}\nquorum none\n",
        f"witness a {str(A)[:-2]}\nquorum a\n",
        f"witness a {A} ftp://a.example\nquorum a\n",
        f"witness a {A} https://a.example more\nquorum a\n",
        f"witness a {A}\ngroup g 2 a\nquorum g\n",
        f"witness a {A}\ngroup g 0 a\nquorum g\n",
        f"witness a {A}\ngroup g some a\nquorum g\n",
        f"witness a {A}\ngroup g any a a\nquorum g\n",
        f"witness a {A}\ngroup g any\nquorum g\n",
        f"witness a {A}\ngroup g any g\nquorum g\n",
        f"group g any a\nwitness a {A}\nquorum g\n",
        f"witness a {A}\ngroup a any a\nquorum a\n",
        "surprise\nquorum none\n",
    ],
)
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(PolicyInvalid):
        WitnessPolicy.parse(text)


def test_a_policy_has_an_end() -> None:
    def line(number: int) -> str:
        return f"witness w{number} {Signer.make(f'w{number}', COSIGNATURE, seed=number + 1).key}\n"

    assert WitnessPolicy.parse("".join(map(line, range(32))) + "quorum none\n").witnesses
    with pytest.raises(PolicyInvalid):
        WitnessPolicy.parse("".join(map(line, range(33))) + "quorum none\n")
    nested = line(0) + "group g0 any w0\n" + "".join(f"group g{n} any g{n - 1}\n" for n in range(1, 16))
    assert WitnessPolicy.parse(nested + "quorum g15\n").is_met({"w0"})
    with pytest.raises(PolicyInvalid):
        WitnessPolicy.parse(nested + "group g16 any g15\nquorum g16\n")


def test_an_error_names_its_line() -> None:
    with pytest.raises(PolicyInvalid, match="line 3"):
        WitnessPolicy.parse(f"# comment\nwitness a {A}\nwitness a {B}\nquorum a\n")


@given(st.text(alphabet="abgklnopqrtuwisy 0129\n#+=/", max_size=200))
def test_rubbish_is_refused_or_read(text: str) -> None:
    try:
        policy = WitnessPolicy.parse(text)
    except PolicyInvalid:
        return
    policy.is_met(set(policy.witnesses))
