"""Policies and leases signed with keys that cryptography made, by command; what comes out is what ssh-keygen would make."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from appliance.policy.document import Policy
from appliance.policy.signatures import NAMESPACE, read_all
from hsm.mandate import LEASE_NAMESPACE, Lease
from hsm.ssh_signatures import OfficerSignature
from tests.policy.texts import client, policy_text

PRIVATE = Ed25519PrivateKey.generate()
LEASE = Lease(number=3, valid_from=29_000_000, valid_until=29_001_000).text("keywatt-1")


def run(name: str, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    program = str(Path(sysconfig.get_path("scripts")) / name)
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False, input=typed)


def key_file(folder: Path, form: PrivateFormat, encryption: KeySerializationEncryption | None = None) -> Path:
    path = folder / "officer.pem"
    path.write_bytes(PRIVATE.private_bytes(Encoding.PEM, form, encryption or NoEncryption()))
    return path


def ssh_keygen_agrees(folder: Path, text: str, signature: str, namespace: str) -> bool:
    public = PRIVATE.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    (folder / "allowed").write_text(f'officer namespaces="{namespace}" {public}\n')
    (folder / "signature").write_text(signature)
    command = ["ssh-keygen", "-Y", "verify", "-f", str(folder / "allowed"), "-I", "officer", "-n", namespace]
    done = subprocess.run(
        [*command, "-s", str(folder / "signature")], input=text.encode(), capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.OpenSSH])
def test_a_policy(tmp_path: Path, form: PrivateFormat) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(policy_text(client("alice"), module="keywatt-1"))
    done = run("keywatt-policy", "sign", str(path), "--key", str(key_file(tmp_path, form)))
    assert done.returncode == 0, done.stderr
    text = Policy.read(path).text
    assert ssh_keygen_agrees(tmp_path, text, done.stdout, NAMESPACE)
    (tmp_path / "a.sig").write_text(done.stdout)
    (found,) = read_all(tmp_path)
    assert found.proves(found.key, NAMESPACE, text.encode())


def test_a_lease(tmp_path: Path) -> None:
    path = tmp_path / "lease.txt"
    path.write_text(LEASE)
    done = run("keywatt", "lease", "sign", str(path), "--key", str(key_file(tmp_path, PrivateFormat.PKCS8)))
    assert done.returncode == 0, done.stderr
    assert ssh_keygen_agrees(tmp_path, LEASE, done.stdout, LEASE_NAMESPACE)
    found = OfficerSignature.parse(done.stdout)
    assert found.proves(found.key, LEASE_NAMESPACE, LEASE.encode())
    path.write_text(LEASE + "more\n")
    refused = run("keywatt", "lease", "sign", str(path), "--key", str(tmp_path / "officer.pem"))
    assert refused.returncode == 2
    assert "lines of a lease" in refused.stderr


def test_a_passphrase_is_asked_for_and_told_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "lease.txt").write_text(LEASE)
    key = key_file(tmp_path, PrivateFormat.PKCS8, BestAvailableEncryption(b"correct horse"))
    arguments = ("lease", "sign", str(tmp_path / "lease.txt"), "--key", str(key))
    done = run("keywatt", *arguments, typed="correct horse\n")
    assert done.returncode == 0, done.stderr
    assert ssh_keygen_agrees(tmp_path, LEASE, done.stdout, LEASE_NAMESPACE)
    wrong = run("keywatt", *arguments, typed="battery staple\n")
    assert wrong.returncode == 2
    assert "battery" not in wrong.stdout + wrong.stderr


def test_keys_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "lease.txt").write_text(LEASE)
    (tmp_path / "policy.toml").write_text(policy_text(client("alice"), module="keywatt-1"))
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for octets in (b"rubbish", other, b""):
        (tmp_path / "key").write_bytes(octets)
        for name, *arguments in (
            ("keywatt", "lease", "sign", str(tmp_path / "lease.txt")),
            ("keywatt-policy", "sign", str(tmp_path / "policy.toml")),
        ):
            done = run(name, *arguments, "--key", str(tmp_path / "key"))
            assert done.returncode == 2
            assert not done.stdout
            assert "Traceback" not in done.stderr
    assert run("keywatt-policy", "sign", str(tmp_path / "policy.toml"), "--key", "/nowhere").returncode == 2
