"""Notes, checkpoints, tiles, leaves: the C2SP documents' own examples, and whatever Hypothesis finds."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.log import leaves
from hsm.log.checkpoints import Checkpoint
from hsm.log.errors import CheckpointInvalid, LeafInvalid, NoteInvalid, ProofInvalid, TileMissing
from hsm.log.leaves import LeafType
from hsm.log.notes import COSIGNATURE, Note, VerifierKey
from hsm.log.receipts import Receipt
from hsm.log.tiles import bundle_path, pack_entry, tile_path, tiles_of, unpack_bundle, width_in
from tests.log.support import SIGNER, Signer, leaf

# c2sp.org/signed-note
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)


def test_the_example_of_the_note_format() -> None:
    key, note = VerifierKey.parse(EXAMPLE_KEY), Note.parse(EXAMPLE.encode())
    assert note.verify(key) is None
    assert note.pack() == EXAMPLE.encode()
    assert str(key) == EXAMPLE_KEY
    with pytest.raises(NoteInvalid):
        Note.parse(EXAMPLE.replace("example message", "examplf message").encode()).verify(key)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n\xe2\x80\x94 name AAAA\n",
        b"text\n\n- name AAAAAAAA\n",
        b"text\n\n\xe2\x80\x94 na+me AAAAAAAA\n",
        b"text\n\n\xe2\x80\x94 name AAAAAAAA",
        b"text\n\n\xe2\x80\x94 name AAAAAAA\n",
        b"te\x00xt\n\n\xe2\x80\x94 name AAAAAAAA\n",
        b"\xff\n\n\xe2\x80\x94 name AAAAAAAA\n",
        b"text\n\n" + b"\xe2\x80\x94 name AAAAAAAA\n" * 65,
    ],
)
def test_what_is_no_note(octets: bytes) -> None:
    with pytest.raises(NoteInvalid):
        Note.parse(octets)


@given(st.binary(max_size=300))
def test_rubbish_is_refused_by_name(octets: bytes) -> None:
    with pytest.raises(NoteInvalid):
        Note.parse(octets)
    with pytest.raises((NoteInvalid, ProofInvalid)):
        Receipt.parse(octets)
    with pytest.raises(LeafInvalid):
        leaves.decode(octets)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00",
        "na me+00000000+AAAA",
        EXAMPLE_KEY[:-1],
        EXAMPLE_KEY.replace("530d", "530e"),
        "+".join("abc"),
    ],
)
def test_what_is_no_verifier_key(text: str) -> None:
    with pytest.raises(NoteInvalid):
        VerifierKey.parse(text)


def test_cosignatures_carry_their_time_and_are_bound_to_it() -> None:
    witness = Signer.make("witness-1", COSIGNATURE, seed=2)
    note = SIGNER.checkpoint(5, bytes(32))
    cosigned = Note(text=note.text, signatures=(*note.signatures, witness.sign(note.text, 1_800_000_000)))
    assert Note.parse(cosigned.pack()).cosigned(witness.key) == 1_800_000_000
    assert note.cosigned(witness.key) is None
    late = witness.sign(note.text, 1_800_000_000)
    moved = type(late)(name=late.name, key_id=late.key_id, octets=(1_900_000_000).to_bytes(8, "big") + late.octets[8:])
    with pytest.raises(NoteInvalid):
        Note(text=note.text, signatures=(moved,)).cosigned(witness.key)
    # A key of a log is no key of a witness, though the octets be the same.
    with pytest.raises(NoteInvalid):
        cosigned.verify(VerifierKey(name="witness-1", kind=1, public=witness.key.public))


@pytest.mark.parametrize(
    "text",
    ["", "o\n1\n", "o\n01\nAAAA\n", "o\n-1\nAAAA\n", "o\n1\nAAAA\n", "o\n1\nAAAA\nmore\n", "\n1\n" + "A" * 44 + "\n"],
)
def test_what_is_no_checkpoint(text: str) -> None:
    with pytest.raises(CheckpointInvalid):
        Checkpoint.parse(text)


def test_a_checkpoint_of_another_log_is_refused() -> None:
    other = Signer.make("module-2", seed=3)
    with pytest.raises(NoteInvalid):
        Checkpoint.open(other.checkpoint(1, bytes(32)), SIGNER.key)
    text = Checkpoint(origin="module-2", size=1, root=bytes(32)).text
    with pytest.raises(CheckpointInvalid):
        Checkpoint.open(Note(text=text, signatures=(SIGNER.sign(text),)), SIGNER.key)


def test_paths_and_widths_are_those_of_the_document() -> None:
    assert tile_path(0, 1_234_067) == "tile/0/x001/x234/067"
    assert tile_path(1, 0, 17) == "tile/1/000.p/17"
    assert bundle_path(273, 112) == "tile/entries/273.p/112"
    assert list(tiles_of(70_000)) == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]
    assert list(tiles_of(0)) == []
    assert list(tiles_of(65_536)) == [(0, 255, 256), (1, 0, 256), (2, 0, 1)]


@given(st.integers(1, 1 << 40))
def test_the_last_tiles_have_the_width_of_the_tree(size: int) -> None:
    for level, index, width in tiles_of(size):
        assert width_in(size, level, index) == width
        assert width_in(size, level, index + 1) == 0


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=256))
def test_bundles_are_read_as_written_and_no_octet_more_or_less(entries: list[bytes]) -> None:
    octets = b"".join(map(pack_entry, entries))
    assert unpack_bundle(octets, len(entries), "b") == entries
    for wrong in (octets[:-1], octets + b"\0"):
        with pytest.raises(TileMissing):
            unpack_bundle(wrong, len(entries), "b")


texts = st.text(max_size=40)


@given(
    st.tuples(texts, texts, texts),
    st.integers(-(1 << 130), 1 << 130),
    st.integers(0, 1 << 24),
    st.none() | st.tuples(st.sampled_from([14, 35, 93]), st.just("201457/1"), st.just("6c3de4")),
)
def test_the_leaf_made_by_hand_is_the_canonical_one(
    names: tuple[str, str, str], value: int, tid: int, key: tuple[int, str, str] | None
) -> None:
    client = names[0].encode("utf-8", "replace").decode()
    made = leaves.issue(
        time=1_700_000_000_000,
        client=client,
        request="0" * 32,
        key=key,
        ea=7,
        tct=1,
        marks=3,
        meter="600727000000000009",
        ti="02",
        token_class=0,
        subclass=4,
        tid=tid,
        value=value,
        token="ab",
    )
    decoded = leaves.decode(made)
    assert decoded["client"] == client
    assert decoded["value"] == str(value)
    assert ("meter" in decoded) == (key is not None)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z-]{0,12}", fullmatch=True),
        texts | st.booleans() | st.integers(-(1 << 53) + 1, (1 << 53) - 1) | st.lists(texts, max_size=3),
        max_size=8,
    )
)
def test_canonical_is_what_rfc_8785_says(fields: dict[str, object]) -> None:
    import rfc8785

    assert leaves.encode(fields) == rfc8785.dumps(fields)  # type: ignore[arg-type]


def test_what_is_no_leaf() -> None:
    good = json.loads(leaf(1))
    assert leaves.encode(good) == leaf(1)
    for wrong in (
        json.dumps(good).encode(),
        leaf(1).replace(b'"v":1', b'"v":2'),
        leaf(1).replace(b'"issue"', b'"other"'),
        leaf(1).replace(b'"tid":6000001', b'"tid":6000001.5'),
        leaf(1).replace(b'"tid":6000001', b'"tid":9007199254740993'),
        leaf(1).replace(b'"tid":6000001', b'"tid":null'),
        leaf(1).replace(b'"tid":6000001', b'"tid":6000001,"tid":6000002'),
        b"[]",
        b"{" * 5000,
    ):
        with pytest.raises(LeafInvalid):
            leaves.decode(wrong)


def test_fields_that_are_none_are_left_out() -> None:
    made = leaves.decode(leaves.make(LeafType.STOP, 5, module="m", key=None, token_serial="1"))
    assert made == {"v": 1, "type": "stop", "time": 5, "module": "m", "token-serial": "1"}
