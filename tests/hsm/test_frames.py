"""Frames on the module's socket: they invert, and refuse whatever is not exactly a frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm import errors, frames
from hsm.errors import FrameInvalid
from hsm.frames import Frame, Kind
from hsm.requests import IssueItem, Operation, pack_request, split_answer
from tests.support.lab import reference

FRAMES = st.builds(
    Frame, kind=st.sampled_from(Kind), correlation=st.integers(0, 2**64 - 1), body=st.binary(max_size=200)
)


@given(FRAMES)
def test_frames_invert(frame: Frame) -> None:
    octets = frame.pack()
    assert frames.check_length(octets[:4]) == len(octets) - 4
    assert Frame.unpack(octets[4:]) == frame


def test_a_frame_shows_no_body() -> None:
    assert "12345678901234567890" not in repr(Frame(kind=Kind.ISSUE, correlation=1, body=b"12345678901234567890"))


@given(st.binary(max_size=40))
def test_octets_are_a_frame_or_refused(octets: bytes) -> None:
    try:
        frame = Frame.unpack(octets)
    except FrameInvalid:
        return
    assert frame.pack()[4:] == octets


@given(st.integers(0, 2**32 - 1))
def test_lengths_out_of_range_are_refused_before_reading(length: int) -> None:
    prefix = length.to_bytes(4, "big")
    if 12 <= length <= frames.FRAME_MAX:
        assert frames.check_length(prefix) == length
    else:
        with pytest.raises(FrameInvalid):
            frames.check_length(prefix)


@given(st.integers(0, 999_999), st.integers(1, 9), st.binary(max_size=50))
def test_bodies_invert(sgc: int, krn: int, request: bytes) -> None:
    name = reference(f"{sgc:06d}", krn)
    assert frames.unpack_body(frames.pack_body(name, request)) == (name, request)
    assert frames.unpack_body(frames.pack_body(None, request)) == (None, request)


@pytest.mark.parametrize(
    "body", [b"", b"123456\x01", b"12345x\x01\x00", b"123456\x00\x00", b"123456\x0a\x00", b"123456\x01\x01"]
)
def test_bad_bodies(body: bytes) -> None:
    with pytest.raises(FrameInvalid):
        frames.unpack_body(body)


def test_labels_invert_and_cut_ones_are_refused() -> None:
    packed = frames.pack_labels(["one", "", "three"])
    assert frames.unpack_labels(packed) == ["one", "", "three"]
    for end in (1, len(packed) - 1):
        with pytest.raises(FrameInvalid):
            frames.unpack_labels(packed[:end])


@pytest.mark.parametrize("error", [errors.VendingKeyUnknown, errors.ModuleFault, errors.ModuleBusy, FrameInvalid])
def test_errors_cross_the_socket(error: type[errors.HsmError]) -> None:
    frame = frames.pack_error(5, error("what happened"))
    again = frames.unpack_error(frame.body)
    assert type(again) is error
    assert str(again) == "what happened"


def test_an_unknown_error_is_a_fault() -> None:
    assert type(frames.unpack_error(b"SOMETHING_NEW\nmessage")) is errors.ModuleFault


def test_requests_refuse_what_does_not_fit() -> None:
    item = IssueItem(token_class=0, subclass=0, value=1)
    with pytest.raises(FrameInvalid):
        pack_request(Operation.ISSUE, [item] * 1001)
    for bad in (IssueItem(token_class=256, subclass=0, value=1), IssueItem(token_class=0, subclass=0, value=1 << 127)):
        with pytest.raises(FrameInvalid):
            pack_request(Operation.ISSUE, [bad])
    with pytest.raises(FrameInvalid):
        split_answer(Operation.ISSUE, b"\1\1\0\1" + bytes(4 + 47), 1)
