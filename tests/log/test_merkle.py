"""RFC 6962 against a slow oracle written from its definition, and known answers."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.log.errors import ProofInvalid
from hsm.log.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

HASHES = [leaf_hash(number.to_bytes(2, "big")) for number in range(600)]
sizes = st.integers(1, len(HASHES))


def oracle(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word for word."""
    if not hashes:
        return EMPTY_ROOT
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return node_hash(oracle(hashes[:split]), oracle(hashes[split:]))


def node(level: int, index: int) -> bytes:
    return oracle(HASHES[index << level : (index + 1) << level])


def test_known_answers() -> None:
    # The hashes of the empty tree and of an empty leaf are in RFC 6962's test vectors.
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    # Certificate Transparency's reference tree: eight leaves and their root.
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    frontier = Frontier()
    for text in inputs:
        frontier.add(leaf_hash(bytes.fromhex(text)))
    assert frontier.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert base64.b64encode(frontier.root())


@given(sizes)
def test_the_growing_tree_is_the_tree(size: int) -> None:
    frontier = Frontier()
    for leaf in HASHES[:size]:
        frontier.add(leaf)
    assert frontier.root() == oracle(HASHES[:size]) == root_of(size, node)


@given(sizes, st.data())
def test_inclusion_is_proven_and_nothing_else(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    root, proof = oracle(HASHES[:size]), inclusion_proof(index, size, node)
    verify_inclusion(index, size, HASHES[index], root, proof)
    wrong = [
        (index, size, HASHES[(index + 1) % 600], root, proof),
        (index, size, HASHES[index], HASHES[0][::-1], proof),
        (index, size, HASHES[index], root, [*proof, root]),
        (size, size, HASHES[index], root, proof),
    ]
    if size > 1:
        wrong.append(((index + 1) % size, size, HASHES[index], root, proof))
        wrong.append((index, size, HASHES[index], root, proof[:-1]))
        place = data.draw(st.integers(0, len(proof) - 1))
        altered = [*proof[:place], proof[place][::-1], *proof[place + 1 :]]
        wrong.append((index, size, HASHES[index], root, altered))
    for case in wrong:
        with pytest.raises(ProofInvalid):
            verify_inclusion(*case)


@given(sizes, st.data())
def test_consistency_is_proven_and_nothing_else(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    old_root, root = oracle(HASHES[:old]), oracle(HASHES[:size])
    proof = consistency_proof(old, size, node)
    verify_consistency(old, size, old_root, root, proof)
    wrong = [(old, size, old_root[::-1], root, proof), (old, size, old_root, root, [*proof, root])]
    if old < size:
        wrong.append((old, size, old_root, root[::-1], proof))
        wrong.append((old, size, old_root, root, proof[:-1]))
        wrong.append((size, old, root, old_root, proof))
        place = data.draw(st.integers(0, len(proof) - 1))
        wrong.append((old, size, old_root, root, [*proof[:place], proof[place][::-1], *proof[place + 1 :]]))
    for case in wrong:
        with pytest.raises(ProofInvalid):
            verify_consistency(*case)


def test_from_nothing_there_is_nothing_to_prove() -> None:
    verify_consistency(0, 5, EMPTY_ROOT, HASHES[0], [])
    with pytest.raises(ProofInvalid):
        verify_consistency(0, 5, HASHES[0], HASHES[0], [])
    for old, size in ((0, 5), (6, 5)):
        with pytest.raises(ProofInvalid):
            consistency_proof(old, size, node)
    with pytest.raises(ProofInvalid):
        inclusion_proof(5, 5, node)
