"""The Merkle tree of RFC 6962 (section 2.1): hashes, the growing tree, proofs and their checks.

A node is named by its level (0 for leaves) and its index within the level; the node (l, i) covers the leaves
``i << l`` to ``(i + 1 << l) - 1`` and exists once all of them do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from hsm.log.errors import ProofInvalid

HASH_LENGTH = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

NodeReader = Callable[[int, int], bytes]
"""Gives the hash of a complete node, by level and index."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash above two others."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a tree that grows: the roots of its complete subtrees, largest first.

    ``size`` is the number of leaves, ``peaks`` one hash for each bit that is set in it.
    """

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)

    def add(self, leaf: bytes) -> None:
        """Append the hash of a leaf."""
        size, peaks, sha256 = self.size, self.peaks, hashlib.sha256
        while size & 1:
            leaf = sha256(b"\x01" + peaks.pop() + leaf).digest()
            size >>= 1
        peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """Return the root over all leaves."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in self.peaks[-2::-1]:
            root = node_hash(peak, root)
        return root


def root_of(size: int, node: NodeReader) -> bytes:
    """Return the root of the first ``size`` leaves."""
    return Frontier(size, [node(*place) for place in peaks_of(0, size)]).root()


def peaks_of(start: int, end: int) -> list[tuple[int, int]]:
    """Name the complete nodes that cover the leaves from ``start``, a multiple of every size in it, to ``end``."""
    places = []
    while start < end:
        level = (end - start).bit_length() - 1
        places.append((level, start >> level))
        start += 1 << level
    return places


def _subtree_root(start: int, end: int, node: NodeReader) -> bytes:
    return Frontier(end - start, [node(*place) for place in peaks_of(start, end)]).root()


def _split(size: int) -> int:
    """Return the largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(index: int, size: int, node: NodeReader) -> list[bytes]:
    """Return the hashes that lead from the leaf ``index`` to the root over ``size`` leaves, from the leaf upward.

    Raises:
        ProofInvalid: not 0 <= index < size.
    """
    if not 0 <= index < size:
        raise ProofInvalid(f"the tree of {size} has no leaf {index}")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(_subtree_root(middle, end, node))
            end = middle
        else:
            proof.append(_subtree_root(start, middle, node))
            start = middle
    proof.reverse()
    return proof


def consistency_proof(old: int, size: int, node: NodeReader) -> list[bytes]:
    """Return the hashes that show that the tree of ``size`` begins with the tree of ``old`` leaves.

    Raises:
        ProofInvalid: not 0 < old <= size.
    """
    if not 0 < old <= size:
        raise ProofInvalid(f"no proof from a tree of {old} to one of {size}")
    if old == size:
        return []
    proof: list[bytes] = []
    start, end, whole = 0, size, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_subtree_root(middle, end, node))
            end = middle
        else:
            proof.append(_subtree_root(start, middle, node))
            start, whole = middle, False
    if not whole:
        proof.append(_subtree_root(start, end, node))
    proof.reverse()
    return proof


def verify_inclusion(index: int, size: int, leaf: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Raise ProofInvalid unless the leaf hash is at ``index`` in the tree of ``size`` with this root (RFC 9162)."""
    if not 0 <= index < size:
        raise ProofInvalid(f"the tree of {size} has no leaf {index}")
    place, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofInvalid("the inclusion proof is too long")
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            found = node_hash(found, sibling)
        place >>= 1
        last >>= 1
    if last != 0:
        raise ProofInvalid("the inclusion proof is too short")
    if found != root:
        raise ProofInvalid(f"the entry is not at index {index} of this tree")


def verify_consistency(old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Raise ProofInvalid unless the tree of ``size`` begins with that of ``old`` leaves (RFC 9162, 2.1.4.2)."""
    if not 0 <= old <= size:
        raise ProofInvalid(f"a tree of {size} does not begin with one of {old}")
    if old in (0, size):
        if proof or old_root != (EMPTY_ROOT if old == 0 else root) or (size == 0 and root != EMPTY_ROOT):
            raise ProofInvalid("two trees of one size have different roots" if old else "a proof from nothing is empty")
        return
    hashes = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not proof:
        raise ProofInvalid("the consistency proof is too short")
    first, second = _climb(old - 1, size - 1, hashes)
    if first != old_root or second != root:
        raise ProofInvalid(f"the tree of {size} does not begin with that tree of {old}")


def _climb(place: int, last: int, hashes: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the roots of the old and the new tree that a consistency proof leads to."""
    while place & 1:
        place >>= 1
        last >>= 1
    first = second = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise ProofInvalid("the consistency proof is too long")
        if place & 1 or place == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            second = node_hash(second, sibling)
        place >>= 1
        last >>= 1
    if last != 0:
        raise ProofInvalid("the consistency proof is too short")
    return first, second
