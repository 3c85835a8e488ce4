"""The same attacker with OpenSC's pkcs11-tool: first on bare SoftHSM, then on the functionality module."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hsm.session_paths import LIBRARY_PATH
from tests.support.lab import DEVELOPMENT_160, SOFTHSM, USER_PIN, Lab, key_item


# pkcs11-tool takes the first key that it finds for some operations: there is one only.
@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.create(tmp_path_factory.mktemp("single") / "lab", [key_item("600001", key=DEVELOPMENT_160)])


@pytest.fixture
def lab(single: Lab, tmp_path: Path) -> Lab:
    return single.copy(tmp_path / "lab")


def tool(lab: Lab, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["pkcs11-tool", "--module", module, "--login", "--pin", USER_PIN, "--token-label", "keywatt", *arguments]
    environment = os.environ | lab.environment()
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def label(lab: Lab, fragment: str) -> str:
    listing = tool(lab, SOFTHSM, "--list-objects").stdout
    (found,) = [line.split(":", 1)[1].strip() for line in listing.splitlines() if fragment in line]
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(b"\0" * 16)
    return path


def attacks(lab: Lab, data: Path) -> dict[str, tuple[list[str], bool, str]]:
    """Arguments, whether bare SoftHSM gives in, and the code of the module."""
    protected = label(lab, "sgc=600001 krn=1")
    out = ["--input-file", str(data), "--output-file", str(data.with_suffix(".out"))]
    key_file = ["--write-object", str(data), "--type", "secrkey", "--key-type", "AES:16"]
    return {
        "hmac": (
            ["--sign", "--mechanism", "SHA256-HMAC", "--label", protected, *out],
            True,
            "KEY_FUNCTION_NOT_PERMITTED",
        ),
        "encrypt": (
            ["--encrypt", "--mechanism", "AES-ECB", "--label", protected, *out],
            False,
            "KEY_FUNCTION_NOT_PERMITTED",
        ),
        "decrypt": (
            ["--decrypt", "--mechanism", "AES-ECB", "--label", protected, *out],
            False,
            "KEY_FUNCTION_NOT_PERMITTED",
        ),
        "create": ([*key_file, "--label", "mine"], True, "TOKEN_WRITE_PROTECTED"),
        "import": ([*key_file, "--label", protected], True, "TOKEN_WRITE_PROTECTED"),
        "generate": (["--keygen", "--key-type", "AES:32", "--label", "wrapper"], True, "TOKEN_WRITE_PROTECTED"),
        "delete": (["--delete-object", "--type", "secrkey", "--label", protected], True, "TOKEN_WRITE_PROTECTED"),
        "change-pin": (["--change-pin", "--new-pin", "0" * 32], True, "TOKEN_WRITE_PROTECTED"),
        "digest": (["--hash", "--mechanism", "SHA256", *out], True, "MECHANISM_INVALID"),
    }


NAMES = ("hmac", "encrypt", "decrypt", "create", "import", "generate", "delete", "change-pin", "digest")


@pytest.mark.parametrize("name", NAMES)
def test_attack(lab: Lab, single: Lab, data: Path, name: str) -> None:
    arguments, succeeds, code = attacks(lab, data)[name]
    on_bare = tool(lab, SOFTHSM, *arguments)
    assert (on_bare.returncode == 0) == succeeds, on_bare.stderr
    single.copy(lab.folder)
    on_module = tool(lab, str(LIBRARY_PATH), *arguments)
    assert on_module.returncode != 0
    assert f"CKR_{code}" in on_module.stderr, on_module.stderr


def test_the_module_lists_its_keys_without_values(lab: Lab) -> None:
    listing = tool(lab, str(LIBRARY_PATH), "--list-objects")
    assert listing.returncode == 0
    assert listing.stdout.count("Secret Key Object") == 1
    assert "5d1ea6c3" not in listing.stdout.lower()
