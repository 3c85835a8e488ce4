"""Key blocks of X9.143, made by another implementation (psec), under a key that comes in components."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psec.tr31
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.cmac import CMAC

from hsm.ceremony import Ceremony
from hsm.ceremony_requests import BlockKeyItem, KeyBlockItem
from hsm.officers import CeremonyKind, ComponentPart, action_digest
from hsm.reasons import Reason
from hsm.requests import CheckValueAlgorithm, Operation
from keyloader.ceremonies.key_blocks import LoadKeyBlocks
from keyloader.exchange.centre import ClearKey
from tests.module.test_officers import Table, enrol, refusal
from tests.module.test_wrapped_keys import clear
from tests.support.lab import DEVELOPMENT_160, DEVELOPMENT_DES, PUBLIC_160, Lab
from tests.support.officers import ALICE, BOB, CAROL, Person, officers

BLOCK_KEY = hashlib.sha256(b"a key block protection key for tests").digest()
FIRST_SHARE = hashlib.sha256(b"its first component").digest()
SHARES = (FIRST_SHARE, bytes(a ^ b for a, b in zip(FIRST_SHARE, BLOCK_KEY, strict=True)))
TEXT = "sgc=600300 krn=1 kt=2 dkga={:02d} bdt=14 ken=255 act=- iut=- c0=00ff c2=fce7 kc=1 rfr=- ulm={} clm=0 kcv={}"


def cmac_of_zeros(key: bytes) -> bytes:
    mac = CMAC(AES(key))
    mac.update(bytes(16))
    return mac.finalize()[:3]


def describe(key: ClearKey, limit: int = 0) -> str:
    return TEXT.format(4 if len(key.key) == 20 else 2, limit, key.check_value.lower())


def block(key: bytes = DEVELOPMENT_160, text: str | None = None, block_key: bytes = BLOCK_KEY, **header: str) -> str:
    fields = {"key_usage": "41", "algorithm": "H" if len(key) == 20 else "D", "mode_of_use": "X"} | header
    made = psec.tr31.Header(version_id="D", version_num="00", exportability="N")
    made._key_usage, made._algorithm, made._mode_of_use = (
        fields["key_usage"],
        fields["algorithm"],
        fields["mode_of_use"],
    )
    made.blocks["41"] = describe(clear(key)) if text is None else text
    return str(psec.tr31.KeyBlock(block_key, made).wrap(key))


@pytest.fixture
def enrolled(lab: Lab) -> Iterator[Ceremony]:
    lab.configure("ceremony")
    with lab.session() as session:
        ceremony = Ceremony(session)
        ceremony.make_audit_key()
        enrol(ceremony, officers(), ALICE, CAROL)
        yield ceremony


def enter(ceremony: Ceremony, shares: tuple[bytes, ...] = SHARES, people: tuple[Person, ...] = (ALICE, BOB)) -> None:
    for number, (share, person) in enumerate(zip(shares, people, strict=True), 1):
        for offset in (0, 16):
            part = ComponentPart(
                number=number,
                total=2,
                offset=offset,
                key_length=32,
                officer=person.public,
                octets=share[offset : offset + 16],
            )
            checked = ceremony.enter_component(part)
        assert checked.octets == cmac_of_zeros(share)
        assert checked.algorithm is CheckValueAlgorithm.CMAC_ZEROS


ITEM = BlockKeyItem(
    components=2, expected=cmac_of_zeros(BLOCK_KEY), component_values=b"".join(cmac_of_zeros(one) for one in SHARES)
)


def load_block_key(ceremony: Ceremony, item: BlockKeyItem = ITEM) -> None:
    table = Table(ceremony, CeremonyKind.OFFICERS, action_digest(Operation.SET_BLOCK_KEY, item.pack()))
    table.approve(ALICE, BOB)
    enter(ceremony)
    assert ceremony.set_block_key(item).octets == cmac_of_zeros(BLOCK_KEY)


def approved(ceremony: Ceremony, text: str) -> KeyBlockItem:
    item = KeyBlockItem(block=text)
    Table(ceremony, CeremonyKind.KEY_FILE, action_digest(Operation.LOAD_BLOCK, item.pack())).approve(ALICE, BOB)
    return item


@pytest.fixture
def ready(enrolled: Ceremony) -> Ceremony:
    load_block_key(enrolled)
    return enrolled


@pytest.mark.parametrize("key", [DEVELOPMENT_160, DEVELOPMENT_DES], ids=["DKGA04", "DKGA02"])
def test_a_block_of_another_implementation_is_loaded(ready: Ceremony, key: bytes) -> None:
    checked, is_new = ready.load_block(approved(ready, block(key)))
    assert is_new
    assert checked.octets.hex().upper() == clear(key).check_value
    (found,) = [one for one in ready.session.keys if one.reference.supply_group_code.digits == "600300"]
    assert ready.session.check_value(found.reference).octets == checked.octets


def test_the_very_same_key_takes_new_limits(ready: Ceremony) -> None:
    ready.load_block(approved(ready, block()))
    ready.load_block(approved(ready, block(text=describe(clear(), 700))))
    assert [label for label in ready.session.labels if "sgc=600300" in label and " ulm=700 " in label]


@pytest.mark.parametrize("place", [5, 20, 30, 100, -40, -1])
def test_an_altered_block_is_refused(ready: Ceremony, place: int) -> None:
    text = block()
    old = text[place]
    other = text[:place] + ("5" if old != "5" else "6") + (text[place + 1 :] if place != -1 else "")
    reason = refusal(ready.load_block, approved(ready, other))
    assert reason in {Reason.KEY_BLOCK_INVALID, Reason.KEY_BLOCK_WRONG}
    assert not [label for label in ready.session.labels if "sgc=600300" in label]


def test_every_digit_of_cipher_and_mac_is_authenticated(ready: Ceremony) -> None:
    text = block()
    start = len(text) - 2 * (16 + 32)
    for place in range(start, len(text), 7):
        other = text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]
        assert refusal(ready.load_block, approved(ready, other)) is Reason.KEY_BLOCK_WRONG


def test_a_block_under_another_key_is_refused(ready: Ceremony) -> None:
    text = block(block_key=secrets.token_bytes(32))
    assert refusal(ready.load_block, approved(ready, text)) is Reason.KEY_BLOCK_WRONG


@pytest.mark.parametrize(
    "text",
    [
        "",
        "D",
        block().lower(),
        block()[:-2],
        block() + "00",
        block(key_usage="B0"),
        block(algorithm="A"),
        block(mode_of_use="E"),
        block(DEVELOPMENT_DES, algorithm="H"),
        block(text="sgc=600300"),
        block(text=describe(clear()).replace("krn=1", "krn=01")),
        block(text=describe(clear()).replace("kt=2", "kt=0")),
        "B" + block()[1:],
    ],
)
def test_blocks_that_are_none(ready: Ceremony, text: str) -> None:
    assert refusal(ready.load_block, approved(ready, text)) is Reason.KEY_BLOCK_INVALID


def test_a_check_value_that_is_not_the_keys_is_refused(ready: Ceremony) -> None:
    text = block(text=describe(clear(PUBLIC_160)))
    assert refusal(ready.load_block, approved(ready, text)) is Reason.CHECK_VALUE_DIFFERS


def test_without_a_block_key_nothing_is_opened(enrolled: Ceremony) -> None:
    assert refusal(enrolled.load_block, approved(enrolled, block())) is Reason.BLOCK_KEY_MISSING


def test_the_block_key_is_what_was_approved(enrolled: Ceremony) -> None:
    wrong = replace(ITEM, expected=b"abc")
    table = Table(enrolled, CeremonyKind.OFFICERS, action_digest(Operation.SET_BLOCK_KEY, wrong.pack()))
    table.approve(ALICE, BOB)
    assert refusal(enrolled.set_block_key, wrong) is Reason.COMPONENTS_MISSING
    enter(enrolled)
    assert refusal(enrolled.set_block_key, ITEM) is Reason.ACTION_NOT_APPROVED
    assert refusal(enrolled.set_block_key, wrong) is Reason.CHECK_VALUE_DIFFERS
    swapped = replace(ITEM, component_values=ITEM.component_values[3:] + ITEM.component_values[:3])
    table = Table(enrolled, CeremonyKind.OFFICERS, action_digest(Operation.SET_BLOCK_KEY, swapped.pack()))
    table.approve(ALICE, BOB)
    enter(enrolled)
    assert refusal(enrolled.set_block_key, swapped) is Reason.CHECK_VALUE_DIFFERS
    assert refusal(enrolled.load_block, approved(enrolled, block())) is Reason.BLOCK_KEY_MISSING


def test_a_block_key_replaces_the_one_before(ready: Ceremony) -> None:
    load_block_key(ready)
    assert ready.load_block(approved(ready, block()))[1]


def test_a_block_key_is_no_vending_key(ready: Ceremony) -> None:
    """And components of vending keys make no block key: the kinds keep them apart."""
    assert not [label for label in ready.session.labels if "block-key" in label]
    Table(ready, CeremonyKind.LOAD_KEY).approve(ALICE, BOB)
    part = ComponentPart(number=1, total=2, offset=0, key_length=32, officer=ALICE.public, octets=bytes([1]) * 16)
    assert refusal(ready.enter_component, part) is Reason.COMPONENT_INVALID


def test_the_block_key_takes_as_many_officers_as_a_centre(lab: Lab) -> None:
    """Whoever knows it makes keys: the number for key files must not be the easier way."""
    lab.configure("ceremony")
    with lab.session() as session:
        ceremony = Ceremony(session)
        ceremony.make_audit_key()
        enrol(ceremony, officers(OFFICERS=3), ALICE, CAROL, BOB)
        digest = action_digest(Operation.SET_BLOCK_KEY, ITEM.pack())
        Table(ceremony, CeremonyKind.KEY_FILE, digest).approve(ALICE, BOB)
        part = ComponentPart(number=1, total=2, offset=0, key_length=32, officer=ALICE.public, octets=SHARES[0][:16])
        assert refusal(ceremony.enter_component, part) is Reason.ACTION_NOT_APPROVED
        assert refusal(ceremony.set_block_key, ITEM) is Reason.ACTION_NOT_APPROVED
        Table(ceremony, CeremonyKind.OFFICERS, digest).approve(ALICE, BOB)
        assert refusal(ceremony.enter_component, part) is Reason.CEREMONY_NOT_APPROVED


def hiding_block() -> str:
    """A block whose padding holds other attributes than the module reads."""
    real, shown = describe(clear()), describe(clear()).replace("600300", "600999").replace("krn=1", "krn=7")
    made = psec.tr31.Header("D", "B0", "A", "N", "00", "N")
    made._key_usage, made._algorithm, made._mode_of_use = "41", "H", "X"
    hidden = f"41{len(shown) + 4:02X}{shown}"
    hidden += "0" * (-(len(real) + 4 + len(hidden) + 4) % 16)
    head = f"41HX00N020041{len(real) + 4:02X}{real}PB{len(hidden) + 4:02X}{hidden}"
    from keyloader.exchange import key_block

    clear_key = (160).to_bytes(2, "big") + DEVELOPMENT_160 + bytes(10)
    header = f"D{5 + len(head) + 2 * (32 + 16):04d}{head}"
    mac = key_block._cmac(key_block._derive(BLOCK_KEY, 1), header.encode() + clear_key)
    encryptor = Cipher(AES(key_block._derive(BLOCK_KEY, 0)), CBC(mac)).encryptor()
    return f"{header}{encryptor.update(clear_key).hex().upper()}{mac.hex().upper()}"


def test_what_officers_read_of_a_block_is_what_the_module_reads(ready: Ceremony) -> None:
    text = hiding_block()
    (action,) = LoadKeyBlocks(kind="key-blocks", blocks=[text]).actions(Path())
    assert "600300/1" in action.what
    assert "600999" not in action.what
    ready.load_block(approved(ready, text))
    assert [one for one in ready.session.keys if str(one.reference) == "600300/1"]
