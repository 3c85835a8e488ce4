"""Archives of a token store: opened by so many shares, by no fewer, and by nothing else."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyloader.backup import Backup, BackupHead, combine, seal, share_check_value, split
from keyloader.errors import BackupInvalid

SECRET = bytes(range(16))


def head(shares: list[bytes], needed: int) -> BackupHead:
    return BackupHead(
        module="lab",
        serial="0123456789abcdef",
        audit_key="ab" * 32,
        store="store-0001",
        created="2026-11-29T00:00:00Z",
        needed=needed,
        check_values=[share_check_value(number, share) for number, share in enumerate(shares, 1)],
        salt="11" * 16,
        nonce="22" * 12,
    )


@given(st.binary(min_size=16, max_size=16), st.integers(2, 8), st.integers(0, 8))
def test_any_so_many_shares_give_the_secret(secret: bytes, needed: int, more: int) -> None:
    shares = dict(enumerate(split(secret, needed, needed + more), 1))
    for chosen in itertools.islice(itertools.combinations(shares, needed), 12):
        assert combine({number: shares[number] for number in chosen}) == secret
    # One fewer gives something else (Shamir: any secret is as likely).
    fewer = dict(itertools.islice(shares.items(), needed - 1))
    assert combine(fewer) != secret


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    tokens = tmp_path / "store"
    (tokens / "abc").mkdir(parents=True)
    (tokens / "abc" / "token.object").write_bytes(b"token")
    (tokens / "abc" / "key.object").write_bytes(bytes(5000))
    path = tmp_path / "backup.keywatt"
    path.write_bytes(seal(SECRET, head(split(SECRET, 2, 3), 2), tokens, "0123"))
    return path


def test_what_went_in_comes_out(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert Backup.read(archive).open_into(SECRET, tmp_path / "out") == "0123"
    assert (tmp_path / "out" / "abc" / "token.object").read_bytes() == b"token"
    assert (tmp_path / "out" / "abc" / "key.object").read_bytes() == bytes(5000)
    assert b"token" not in archive.read_bytes()


def test_every_octet_is_authenticated(archive: Path, tmp_path: Path) -> None:
    octets = archive.read_bytes()
    for place in [*range(0, len(octets), 397), len(octets) - 1]:
        altered = tmp_path / "altered"
        altered.write_bytes(octets[:place] + bytes([octets[place] ^ 1]) + octets[place + 1 :])
        with pytest.raises(BackupInvalid):
            Backup.read(altered).open_into(SECRET, tmp_path)


def test_another_secret_opens_nothing(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupInvalid, match="do not open"):
        Backup.read(archive).open_into(bytes(16), tmp_path)


def test_no_file_is_written_outside(tmp_path: Path) -> None:
    """Whoever made the archive had the secret; the one who opens it is still careful."""
    import io
    import tarfile

    from keyloader import backup

    octets = io.BytesIO()
    with tarfile.open(fileobj=octets, mode="w") as made:
        backup._add(made, "tokens/../../evil", b"x")
    found = head(split(SECRET, 2, 3), 2)
    sealed = backup._cipher(SECRET, found).encrypt(bytes.fromhex(found.nonce), octets.getvalue(), found.line)
    path = tmp_path / "evil.keywatt"
    path.write_bytes(found.line + sealed)
    (tmp_path / "in" / "side").mkdir(parents=True)
    with pytest.raises(BackupInvalid, match="outside"):
        Backup.read(path).open_into(SECRET, tmp_path / "in" / "side")
    assert not (tmp_path / "evil").exists()
