"""What a centre makes, against another implementation; files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import psec.tr31
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyloader.errors import BackupInvalid, KeyLoadFileInvalid, RequestFileInvalid
from keyloader.exchange.key_block import wrap
from keyloader.exchange.key_load_file import KeyLoadFile
from keyloader.exchange.request_file import KeyRequest


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
    from keyloader.backup import Backup

    for number, content in enumerate([b"", b"{}\n", b"\n" * 10, b'{"format":"keywatt-backup/1"}\nxx']):
        path = tmp_path / str(number)
        path.write_bytes(content)
        with pytest.raises(BackupInvalid):
            Backup.read(path)
