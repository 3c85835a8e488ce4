"""Key files, table files, the token store, and the command line for tables."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path

import pytest

from keyloader import key_file, tables_file
from keyloader.errors import KeyFileInvalid, SiteFault, StoreBusy, TablesFileInvalid
from keyloader.token_store import TokenStore
from sts.ciphers.sta_tables import SAMPLE_TABLES
from tests.module.test_ceremony import licensed_tables
from tests.support.lab import CONTEXTS, RULES, USER_PIN, Lab
from tests.support.system import ROOT, key_toml

KEYLOADER = str(Path(sysconfig.get_path("scripts")) / "keyloader")
CANARY = "5D1EA6C31F02B4977740C2F9E88A36D15B90EE47"
GOOD = f"""
[[key]]
supply_group_code = "600001"
key_revision_number = 1
key_type = 2
dkga = 4
base_date = 14
key_expiry_number = 255
key = "{CANARY}"
"""


def test_key_files_invert() -> None:
    items = CONTEXTS + RULES
    assert [item.pack() for item in key_file.parse(key_toml(items), "text")] == [item.pack() for item in items]


def test_the_shipped_file_has_the_public_test_keys() -> None:
    items = key_file.read(ROOT / "softhsm-config" / "development-keys.toml")
    assert [item.pack() for item in items] == [item.pack() for item in CONTEXTS]


BAD = [
    "",
    "key = 1",
    "not toml",
    GOOD + "surprise = 1\n",
    GOOD.replace('"600001"', '"60001"'),
    GOOD.replace('"600001"', "600001"),
    GOOD.replace("key_type = 2", "key_type = 7"),
    GOOD.replace("dkga = 4", "dkga = 3"),
    GOOD.replace("base_date = 14", "base_date = 15"),
    GOOD.replace("key_expiry_number = 255", "key_expiry_number = 256"),
    GOOD.replace(CANARY, CANARY[:-1]),
    GOOD.replace(CANARY, "XY" + CANARY[2:]),
    GOOD + 'allowed_classes = ["1"]\n',
    GOOD + 'allowed_classes = ["2.3"]\n',
    GOOD + 'allowed_classes = ["0.5-2"]\n',
    GOOD + "allowed_classes = []\n",
    GOOD + "activation = 2026-01-01T00:00:30\n",
    GOOD + "activation = 2026-01-01T00:00:00Z\n",
]


@pytest.mark.parametrize("text", BAD)
def test_bad_key_files_are_refused_without_showing_the_key(text: str) -> None:
    with pytest.raises(KeyFileInvalid) as refusal:
        key_file.parse(text, "file")
    assert CANARY[2:-1].lower() not in str(refusal.value).lower()


def test_classes_and_dates() -> None:
    text = (
        GOOD + 'allowed_classes = ["0.0-3", "2.1", "2.11-15"]\nactivation = 1970-01-02T00:00:00\nkey_change = false\n'
    )
    (item,) = key_file.parse(text, "file")
    assert (item.class0, item.class2, item.activation, item.key_change) == (0x000F, 0xF802, 1440, False)


def tables_text(**changes: object) -> str:
    tables = licensed_tables()
    fields: dict[str, object] = {
        "name": tables.name,
        "substitution1": tables.substitution1,
        "substitution2": tables.substitution2,
        "permutation": tables.permutation,
    }
    return json.dumps(fields | changes)


def test_table_files(tmp_path: Path) -> None:
    path = tmp_path / "tables.json"
    path.write_text(tables_text())
    assert tables_file.read(path).octets == licensed_tables().octets
    for bad in (
        "",
        "[]",
        tables_text(name="two words"),
        tables_text(substitution1=[0] * 16),
        tables_text(permutation=list(range(63))),
        tables_text(substitution2=[str(n) for n in range(16)]),
        tables_text(extra=1),
    ):
        path.write_text(bad)
        with pytest.raises(TablesFileInvalid) as refusal:
            tables_file.read(path)
        assert str(list(licensed_tables().permutation)[:4])[1:-1] not in str(refusal.value)
    path.write_text(" " * 100_000)
    with pytest.raises(TablesFileInvalid):
        tables_file.read(path)
    assert str(SAMPLE_TABLES.permutation[0]) not in repr(SAMPLE_TABLES).split("sha256")[0]


def test_a_failed_ceremony_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    store = TokenStore(tmp_path)
    with store.draft() as tokens:
        (tokens / "object").write_text("first")
    before = store.link.resolve()
    assert not (before / "object").stat().st_mode & 0o222

    def fail() -> None:
        with store.draft() as tokens:
            (tokens / "object").write_text("second")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.link.resolve() == before
    assert (store.link / "object").read_text() == "first"
    assert [path.name for path in tmp_path.glob("store-*")] == ["store-0001"]
    with store.draft() as tokens:
        (tokens / "object").write_text("third")
    assert (store.link / "object").read_text() == "third"
    assert (before / "object").read_text() == "first"


def test_one_ceremony_at_a_time(tmp_path: Path) -> None:
    first, second = TokenStore(tmp_path), TokenStore(tmp_path)
    with first.draft():
        with pytest.raises(StoreBusy), second.draft():
            pass
        assert (tmp_path / ".draft-store-0001").is_dir()
    assert second.link.resolve().name == "store-0001"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([KEYLOADER, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_command_line_installs_tables(lab: Lab, tmp_path: Path) -> None:
    path, folder = tmp_path / "tables.json", tmp_path / "module"
    path.write_text(tables_text())
    folder.mkdir()
    with TokenStore(folder).draft() as tokens:
        subprocess.run(["cp", "-a", f"{lab.tokens}/.", str(tokens)], check=True)
    (folder / "pin").write_text(USER_PIN + "\n")
    lab.configure("ceremony")
    options = ["--folder", str(folder), "--ceremony-config", str(lab.config)]
    digest = licensed_tables().digest.hex()
    checked = run("sta-tables", "check", str(path), "--json")
    assert json.loads(checked.stdout) == {"name": "licensee-test", "sha256": digest, "installed": False}
    installed = run("sta-tables", "install", str(path), *options)
    assert installed.returncode == 0, installed.stderr
    assert digest in installed.stdout
    assert TokenStore(folder).link.resolve().name == "store-0002"
    lab.tokens = TokenStore(folder).link.resolve()
    lab.configure("online")
    with lab.session() as session:
        assert session.status().tables_name == "licensee-test"
    lab.configure("ceremony")
    path.write_text(tables_text(permutation=list(range(1, 65))))
    refused = run("sta-tables", "install", str(path), *options)
    assert refused.returncode == 1
    assert "STA_TABLES_INVALID" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert TokenStore(folder).link.resolve().name == "store-0002"
    missing = run("sta-tables", "install", str(path), "--folder", str(tmp_path / "nowhere"))
    assert missing.returncode == 1


def test_a_fault_after_the_link_was_moved_leaves_the_new_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in force is never removed, whatever comes after the rename."""
    from keyloader import token_store

    store = TokenStore(tmp_path)
    with store.draft() as path:
        (path / "one").write_text("1")
    real = token_store._sync

    def fail_on_root(path: Path) -> None:
        if path == tmp_path:
            raise OSError("injected")
        real(path)

    monkeypatch.setattr(token_store, "_sync", fail_on_root)
    with pytest.raises(OSError, match="injected"), store.draft() as path:
        (path / "two").write_text("2")
    assert store.current == tmp_path / "store-0002"
    assert sorted(one.name for one in store.current.iterdir()) == ["one", "two"]
    # Before the link is moved, the old one stays and nothing else is left.
    monkeypatch.setattr(Path, "symlink_to", fail_on_root)
    with pytest.raises(TypeError), store.draft():
        pass
    assert store.current == tmp_path / "store-0002"
    assert store.names == ["store-0001", "store-0002"]


def test_a_link_that_leads_nowhere_is_no_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "tokens").symlink_to("store-0007")
    with pytest.raises(SiteFault):
        _ = TokenStore(tmp_path).current
