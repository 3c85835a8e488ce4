"""What a centre makes, against another implementation; files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import psec.tr31
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from hsm.ssh_signatures import sign
from keyloader import record as records
from keyloader.backup import Backup
from keyloader.errors import BackupInvalid, KeyLoadFileInvalid, RecordInvalid, RequestFileInvalid
from keyloader.exchange.centre import Centre, ClearKey
from keyloader.exchange.key_block import wrap
from keyloader.exchange.key_load_file import FILE_NAMESPACE, KeyLoadFile
from keyloader.exchange.request_file import KeyRequest
from keyloader.key_attributes import KeyAttributes

POINT = generate_private_key(SECP384R1()).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex()


@given(st.binary(min_size=32, max_size=32), st.sampled_from([8, 20]), st.text("abc=0 ", min_size=1, max_size=200))
def test_key_blocks_are_read_by_another_implementation(block_key: bytes, length: int, attributes: str) -> None:
    key = bytes(range(length))
    text = wrap(block_key, key, attributes, bytes(16))
    header, found = psec.tr31.unwrap(block_key, text)
    assert found == key
    assert (header.version_id, header.key_usage, header.mode_of_use) == ("D", "41", "X")
    assert header.blocks["41"] == attributes


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"format": "keywatt-key-load/2"}', b"1" * 2_000_000])
def test_files_that_are_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(KeyLoadFileInvalid):
        KeyLoadFile.read(path)
    with pytest.raises(RequestFileInvalid):
        KeyRequest.read(path)
    with pytest.raises(KeyLoadFileInvalid, match="No such file"):
        KeyLoadFile.read(tmp_path / "none")


def test_an_error_names_the_field_and_not_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps({"format": "keywatt-key-request/1", "module": "m", "serial": "s", "secret": "4711"}))
    with pytest.raises(RequestFileInvalid) as refused:
        KeyRequest.read(path)
    assert "transport: " in str(refused.value)
    assert "secret: " in str(refused.value)
    assert "4711" not in str(refused.value)


def test_backups_that_are_none(tmp_path: Path) -> None:
    for number, content in enumerate([b"", b"{}\n", b"\n" * 10, b'{"format":"keywatt-backup/1"}\nxx']):
        path = tmp_path / str(number)
        path.write_bytes(content)
        with pytest.raises(BackupInvalid):
            Backup.read(path)


def test_a_file_is_signed_as_it_stands(tmp_path: Path) -> None:
    """A centre of another make: optional fields left out, times to the minute; names once."""
    request = KeyRequest(
        module="m", serial="s", profile="development", transport=POINT, audit_key="00" * 32, signature="00" * 64
    )
    attributes = KeyAttributes(
        supply_group_code="600123", key_revision_number=1, key_type=2, dkga=4, base_date=14, key_expiry_number=255
    )
    centre = Centre(name="Other", private=Ed25519PrivateKey.generate())
    made = centre.send(request, [ClearKey(attributes=attributes, key=bytes(range(20)))])
    value = json.loads(made.pack())
    del value["signature"]
    value["keys"][0]["attributes"] = {
        name: found for name, found in value["keys"][0]["attributes"].items() if found is not None
    }
    text = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    value["signature"] = str(sign(centre.private, FILE_NAMESPACE, text))
    path = tmp_path / "file.json"
    path.write_text(json.dumps(value, indent=3))
    KeyLoadFile.read(path).require_signed()
    path.write_text(path.read_text().replace('"serial": "s"', '"serial": "t", "serial": "s"'))
    with pytest.raises(KeyLoadFileInvalid, match="has signed it"):
        KeyLoadFile.read(path)


def test_records_of_an_earlier_version_are_proven() -> None:
    path = Path(__file__).parents[1] / "data" / "record-1.json"
    found = records.read(path)
    assert found.fields["format"] == "keywatt-record/1"
    assert records.verify(found, found.audit_key).is_done
    found.fields["steps"][0]["what"] = "something else"
    with pytest.raises(RecordInvalid):
        records.verify(found, found.audit_key)
