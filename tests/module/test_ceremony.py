"""Ceremony mode: loading keys and tables, idempotence, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hsm.ceremony import Ceremony
from hsm.ceremony_requests import InitTokenItem, InstallTablesItem
from hsm.errors import ModuleFault, ModuleRefusal
from hsm.keys import Origin
from hsm.reasons import Reason
from hsm.requests import Operation, pack_request
from sts import codec
from sts.ciphers.sta_tables import SAMPLE_TABLES, StaTables
from sts.token_number import TokenNumber
from tests.module.test_rules import now
from tests.support import vectors
from tests.support.lab import (
    DEVELOPMENT_160,
    LABEL,
    PUBLIC_DES,
    SO_PIN,
    USER_PIN,
    Lab,
    credit,
    issue,
    key_item,
    reference,
)


@pytest.fixture
def ceremony(lab: Lab) -> Any:
    lab.configure("ceremony")
    with lab.session() as session:
        yield Ceremony(session)


def test_check_values_are_those_of_the_reference(ceremony: Ceremony) -> None:
    import hashlib

    checked, is_new = ceremony.load_key(key_item("700001", key=DEVELOPMENT_160))
    assert is_new
    assert checked.octets == hashlib.sha256(b"\x01" + DEVELOPMENT_160).digest()[:3]
    checked, _ = ceremony.load_key(key_item("700002", key=PUBLIC_DES[0]))
    assert checked.octets == vectors.des_block(PUBLIC_DES[0], bytes(8))[:3]


def test_loading_again_changes_nothing_and_another_key_is_refused(ceremony: Ceremony) -> None:
    item = key_item("700001", key=DEVELOPMENT_160)
    assert ceremony.load_key(item)[1]
    assert ceremony.load_key(item)[0].reason is Reason.KEY_ALREADY_LOADED
    for other in (replace(item, key=bytes(19) + b"\1"), replace(item, key_expiry_number=9)):
        with pytest.raises(ModuleRefusal) as refusal:
            ceremony.load_key(other)
        assert refusal.value.code is Reason.KEY_EXISTS


LOADS: list[tuple[dict[str, Any], Reason]] = [
    ({"supply_group_code": "12345x"}, Reason.SGC_INVALID),
    ({"key_revision_number": 0}, Reason.KEY_REVISION_INVALID),
    ({"key_revision_number": 10}, Reason.KEY_REVISION_INVALID),
    ({"key_type": 0}, Reason.KEY_TYPE_INVALID),
    ({"key_type": 4}, Reason.KEY_TYPE_INVALID),
    ({"dkga": 1}, Reason.DKGA_WITHDRAWN),
    ({"dkga": 3}, Reason.DKGA_WITHDRAWN),
    ({"dkga": 5}, Reason.DKGA_UNKNOWN),
    ({"base_date": 94}, Reason.BASE_DATE_INVALID),
    ({"key_type": 3}, Reason.COMMON_KEY_UNSETTLED),
    ({"key_type": 1}, Reason.CREDIT_UNDER_DEFAULT_KEY),
    ({"class0": 0x01FF}, Reason.CLASS_NOT_ALLOWED),
    ({"class2": 0xFFFF}, Reason.CLASS_NOT_ALLOWED),
    ({"activation": 100, "issued_until": 99}, Reason.FIELD_OUT_OF_RANGE),
    ({"issued_until": 4223371680}, Reason.FIELD_OUT_OF_RANGE),
    ({"activation": -1}, Reason.FIELD_OUT_OF_RANGE),
    ({"key": b"\1" * 8}, Reason.KEY_INVALID),
    ({"key": bytes(20)}, Reason.KEY_INVALID),
    ({"dkga": 2}, Reason.REQUEST_MALFORMED),
    ({"dkga": 2, "key": b"\2" * 7 + b"\3"}, Reason.KEY_PARITY),
]


@pytest.mark.parametrize(("changes", "reason"), LOADS)
def test_bad_record(ceremony: Ceremony, changes: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(ModuleRefusal) as refusal:
        ceremony.load_key(replace(key_item("700001", key=DEVELOPMENT_160), **changes))
    assert refusal.value.code is reason
    assert reference("700001") not in {key.reference for key in ceremony._session.keys}


def test_origin_is_found_not_told(ceremony: Ceremony) -> None:
    ceremony.load_key(key_item("700001", key=DEVELOPMENT_160))
    ceremony.load_key(key_item("700002", key=PUBLIC_DES[1]))
    origins = {key.reference: key.origin for key in ceremony._session.keys}
    assert origins[reference("700001")] is Origin.DEVELOPMENT
    assert origins[reference("700002")] is Origin.PUBLIC


def test_a_token_that_stands_is_never_initialised_again(ceremony: Ceremony) -> None:
    assert not ceremony.init_token(InitTokenItem(label=LABEL, so_pin=SO_PIN, user_pin=USER_PIN))
    with pytest.raises(ModuleRefusal):
        ceremony.init_token(InitTokenItem(label="another", so_pin=SO_PIN, user_pin=USER_PIN))


def licensed_tables() -> StaTables:
    """Tables as a licensee might have them: none of the sample, made up for this test."""
    return StaTables(
        name="licensee-test",
        substitution1=tuple((value * 5 + 3) % 16 for value in range(16)),
        substitution2=tuple((value * 11 + 7) % 16 for value in range(16)),
        permutation=tuple((value * 29 + 17) % 64 for value in range(64)),
    )


def test_installed_tables_are_used_and_named(lab: Lab) -> None:
    tables = licensed_tables()
    lab.configure("ceremony")
    with lab.session() as session:
        Ceremony(session).install_tables(InstallTablesItem(name=tables.name, tables=tables.octets))
    lab.configure("online")
    with lab.session() as session:
        status = session.status()
        assert (status.tables_name, status.tables_digest) == (tables.name, tables.digest)
        assert not status.sample_tables
        (issued,) = issue(session, reference("600001"), credit(now(session), ea=7))
        fields = {"vk": DEVELOPMENT_160.hex(), "pan": "600727000000000009", "sgc": "600001", "ti": "01", "krn": 1}
        key = vectors.decoder_key(fields | {"kt": 2, "base_date": 14, "dkga": 4}, 7)
        token = codec.decode(TokenNumber(digits=issued.digits), key, tables)
        assert token.frame.content & 0xFFFF == 256
        assert len(list(session._session.get_objects({}))) == 15
    # Installing again replaces them.
    lab.configure("ceremony")
    with lab.session() as session:
        Ceremony(session).install_tables(InstallTablesItem(name="sample-again", tables=SAMPLE_TABLES.octets))
        assert session.status().tables_name == "sample-again"
        assert session.status().sample_tables


BAD_TABLES = [
    ("", SAMPLE_TABLES.octets),
    ("two words", SAMPLE_TABLES.octets),
    ("twice", bytes(16) + SAMPLE_TABLES.octets[16:]),
    ("range", bytes([16]) + SAMPLE_TABLES.octets[1:]),
    ("high", SAMPLE_TABLES.octets[:-1] + b"\x40"),
    ("zeros", bytes(96)),
]


@pytest.mark.parametrize(("name", "octets"), BAD_TABLES)
def test_bad_tables(ceremony: Ceremony, name: str, octets: bytes) -> None:
    with pytest.raises(ModuleRefusal) as refusal:
        ceremony.install_tables(InstallTablesItem(name=name, tables=octets))
    assert refusal.value.code is Reason.STA_TABLES_INVALID
    assert ceremony._session.status().tables_name == "sample"


def test_a_record_put_on_a_key_around_the_module_is_not_believed(lab: Lab) -> None:
    import os

    import pkcs11
    from pkcs11 import Attribute, KeyType, ObjectClass

    from tests.support.lab import SOFTHSM

    os.environ.update(lab.environment())
    with lab.session() as session:
        label = next(text for text in session.labels if "sgc=600001" in text)
        known = len(session.keys)
    library = pkcs11.lib(SOFTHSM)
    bare = library.get_token(token_label=LABEL).open(rw=True, user_pin=USER_PIN)
    label += " proof=0123456789abcdef"
    for forged in (label.replace("sgc=600001", "sgc=600101"), label.replace("ken=255", "ken=99"), label + " x"):
        bare.create_object(
            {
                Attribute.CLASS: ObjectClass.SECRET_KEY,
                Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
                Attribute.TOKEN: True,
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.MODIFIABLE: False,
                Attribute.SIGN: True,
                Attribute.LABEL: forged,
                Attribute.VALUE: b"\7" * 32,
            }
        )
    library.finalize()
    with lab.session() as session:
        assert len(session.keys) == known
        assert session.status().keys_refused == 3


def test_two_keys_of_one_name_are_both_refused_and_odd_objects_stop_nothing(lab: Lab) -> None:
    import os

    import pkcs11
    from pkcs11 import Attribute, KeyType, ObjectClass

    from tests.support.lab import SOFTHSM

    os.environ.update(lab.environment())
    library = pkcs11.lib(SOFTHSM)
    bare = library.get_token(token_label=LABEL).open(rw=True, user_pin=USER_PIN)
    keys = bare.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})
    (label,) = [str(key.label) for key in keys if "sgc=600001" in str(key.label)]
    assert " proof=" in label
    common = {
        Attribute.CLASS: ObjectClass.SECRET_KEY,
        Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
        Attribute.TOKEN: True,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.MODIFIABLE: False,
        Attribute.SIGN: True,
        Attribute.LABEL: label,
    }
    bare.create_object(common | {Attribute.VALUE: DEVELOPMENT_160 + bytes(12)})
    bare.create_object(common | {Attribute.VALUE: b"\1" * 20, Attribute.LABEL: label.replace("600001", "600111")})
    library.finalize()
    with lab.session() as session:
        assert reference("600001") not in {key.reference for key in session.keys}
        assert len(session.keys) == 14
        assert session.status().keys_refused == 3


def test_ceremony_operations_need_ceremony_mode(lab: Lab) -> None:
    with lab.session() as session:
        with pytest.raises(ModuleFault, match="ceremony mode"):
            Ceremony(session)
        item = InitTokenItem(label=LABEL, so_pin=SO_PIN, user_pin=USER_PIN)
        with pytest.raises(ModuleFault, match="MechanismInvalid"):
            session.operate(Operation.INIT_TOKEN, pack_request(Operation.INIT_TOKEN, [item]))


CONFIGS: list[dict[str, object]] = [
    {"mode": "anything"},
    {"profile": "none"},
    {"library": "relative.so"},
    {"utc_offset": "+2:00"},
    {"utc_offset": "++1:+5"},
    {"utc_offset": "+15:00"},
    {"utc_offset": "Africa/Johannesburg"},
    {"tid_past_minutes": "-1"},
    {"tid_past_minutes": "999999"},
    {"tid_future_minutes": None},
    {"surprise": "1"},
    {"module_id": ""},
    {"mode": "certification", "profile": "production"},
]


@pytest.mark.parametrize("changes", CONFIGS)
def test_bad_configuration_starts_nothing(lab: Lab, changes: dict[str, Any]) -> None:
    from hsm.errors import ModuleUnavailable

    lab.configure(**({"mode": "online"} | changes))
    with pytest.raises(ModuleUnavailable), lab.session():
        pass


def test_configuration_that_others_may_write_starts_nothing(lab: Lab) -> None:
    from hsm.errors import ModuleUnavailable

    lab.config.chmod(0o666)
    with pytest.raises(ModuleUnavailable), lab.session():
        pass


def test_header_and_python_agree() -> None:
    import re

    header = (Path(__file__).parents[2] / "hsm" / "module" / "include" / "keywatt_fm.h").read_text()
    reasons = {name: int(number) for name, number in re.findall(r"KW_R_(\w+) = (\d+)", header)}
    assert reasons | {"OK": 0} == {reason.name: reason.value for reason in Reason}
    operations = {name: int(number, 16) for name, number in re.findall(r"KW_OP_(\w+) = (0x[0-9A-F]{2})", header)}
    assert operations == {operation.name: operation.value for operation in Operation}


def test_token_path_allocates_nothing() -> None:
    import subprocess

    root = Path(__file__).parents[2] / "hsm" / "module"
    library = root / "libkeywatt-fm.so"
    symbols = subprocess.run(["nm", "-D", "--undefined-only", str(library)], capture_output=True, text=True, check=True)
    names = {line.split()[-1].split("@")[0] for line in symbols.stdout.splitlines()}
    assert not names & {"malloc", "calloc", "realloc", "strdup", "asprintf", "alloca"}
    exported = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in exported.stdout.splitlines()] == ["C_GetFunctionList"]
