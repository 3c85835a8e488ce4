"""Every official vector through the Python reference."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from sts import codec, crc
from sts.amount import Amount16
from sts.ciphers import decrypt_block, encrypt_block, sta
from sts.currency import CurrencyAmount
from sts.decoder_key import DecoderKey
from sts.frame import Frame
from sts.identifiers import (
    EncryptionAlgorithm,
    KeyExpiryNumber,
    KeyRevisionNumber,
    KeyType,
    SupplyGroupCode,
    TariffIndex,
)
from sts.key_change import KeyChange
from sts.token_identifier import BaseDate, TokenIdentifier
from sts.token_number import TokenNumber
from tests.support import vectors


@pytest.mark.parametrize("vector", vectors.of_kind("token"), ids=vectors.name)
def test_token(vector: dict[str, Any]) -> None:
    frame = Frame(token_class=vector["class"], subclass=vector["subclass"], content=int(vector["content44"], 16))
    assert f"{frame.crc:04x}" == vector["crc"]
    assert f"{frame.block:016x}" == vector["plain64"]
    key = None
    if vector["ea"]:
        key = vectors.decoder_key(vector["key_context"], vector["ea"])
        assert key.octets.hex() == vector["decoder_key"]
        assert f"{encrypt_block(key, frame.block):016x}" == vector["cipher64"]
    number = TokenNumber(digits=vector["token"])
    decoded = codec.decode_number(number, key)
    assert decoded == frame
    token = codec.decode_frame(decoded, EncryptionAlgorithm(vector["ea"] or 7))
    assert codec.encode(token, key) == number


@pytest.mark.parametrize("vector", [v for v in vectors.of_kind("token") if "tid" in v], ids=vectors.name)
def test_token_identifier(vector: dict[str, Any]) -> None:
    moment = datetime.fromisoformat(vector["issue_time"])
    identifier = TokenIdentifier.from_naive(moment, BaseDate(vector["key_context"]["base_date"]))
    assert identifier.minutes == vector["tid"]


@pytest.mark.parametrize("vector", [v for v in vectors.of_kind("token") if "currency_amount" in v], ids=vectors.name)
def test_currency(vector: dict[str, Any]) -> None:
    amount = CurrencyAmount.from_decimal(vector["currency_amount"])
    assert amount.sign_and_exponent == vector["se_nibble"]
    assert f"{amount.lower:04x}" == vector["field"]


@pytest.mark.parametrize("vector", vectors.of_kind("kct"), ids=vectors.name)
def test_key_change_set(vector: dict[str, Any]) -> None:
    old = vectors.decoder_key(vector["old_context"], vector["ea"])
    new = vectors.decoder_key(vector["new_context"], vector["ea"])
    assert (old.octets.hex(), new.octets.hex()) == (vector["old_key"], vector["new_key"])
    change = KeyChange(
        decoder_key=new,
        key_expiry_number=KeyExpiryNumber(number=vector["ken"]),
        key_revision_number=KeyRevisionNumber(number=vector["krn"]),
        key_type=KeyType(vector["kt"]),
        tariff_index=TariffIndex(digits=vector["ti"]),
        rollover=bool(vector["ro"]),
        supply_group_code=SupplyGroupCode(digits=vector["sgc"]),
    )
    assert [codec.encode(section, old).digits for section in change.sections()] == vector["tokens"]
    contents = [f"{section.frame.subclass}:{section.frame.content:011x}" for section in change.sections()]
    assert contents == vector["contents44"]


@pytest.mark.parametrize("vector", vectors.of_kind("dkga"), ids=vectors.name)
def test_derivation(vector: dict[str, Any]) -> None:
    if "pan" in vector:
        assert vectors.decoder_key(vector, vector["ea"]).octets.hex() == vector["decoder_key"]
        return
    # The vector names the PANBlock only: find the meter that has it.
    pans = {"0072700000000000": "600727000000000009", "0000100000000008": "000001000000000082"}
    fields = vector | {"pan": pans[vector["pan_block"]]}
    assert vectors.decoder_key(fields, vector["ea"]).octets.hex() == vector["decoder_key"]


@pytest.mark.parametrize("vector", vectors.of_kind("amount"), ids=vectors.name)
def test_amount(vector: dict[str, Any]) -> None:
    assert f"{Amount16.from_units(vector['units']).field:04x}" == vector["field"]


@pytest.mark.parametrize("vector", vectors.of_kind("crc"), ids=vectors.name)
def test_crc(vector: dict[str, Any]) -> None:
    assert f"{crc.crc16(bytes.fromhex(vector['data'])):04x}" == vector["crc"]


@pytest.mark.parametrize("vector", vectors.of_kind("block"), ids=vectors.name)
def test_block(vector: dict[str, Any]) -> None:
    key = DecoderKey(octets=bytes.fromhex(vector["key"]), ea=EncryptionAlgorithm(vector["ea"]))
    plain, cipher = int(vector["plain"], 16), int(vector["cipher"], 16)
    assert encrypt_block(key, plain) == cipher
    assert decrypt_block(key, cipher) == plain
    if "token" in vector:
        number = TokenNumber.from_block(token_class=0, block=cipher)
        assert number.digits == vector["token"]
        assert f"{int(number.digits):017x}" == vector["token66"]


def test_worked_example_of_the_sample_tables_round_by_round() -> None:
    # IEC 62055-41, worked example: state after rounds 1, 2 and 16.
    states = []
    original = sta._permute

    def spy(state: int, permutation: tuple[int, ...]) -> int:
        states.append(original(state, permutation))
        return states[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sta, "_permute", spy)
        sta.encrypt(0x0ABC12DEF3456789, 0x0B19EB230100C207)
    assert [f"{states[n]:016X}" for n in (0, 1, 15)] == ["CEA6B17D9D323631", "9A91A8A0CD1A42B9", "C45ED1619406DF95"]


def test_trace_of_a_complete_token() -> None:
    key = DecoderKey(octets=bytes.fromhex("929BD3A415C9420A05EC5EE9F3CE91C3"), ea=EncryptionAlgorithm.MISTY1)
    number = codec.encode_frame(Frame(token_class=0, subclass=0, content=0x5014EEC0001), key)
    assert number.grouped == "5862 5789 9869 9135 7486"
