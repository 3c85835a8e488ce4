"""Keys and signatures in OpenSSH's formats: what ssh-keygen makes is read, and what is none is refused."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.errors import SignatureUnreadable
from hsm.ssh_signatures import OfficerKey, OfficerSignature
from tests.support.officers import ALICE, CAROL

NAMESPACE = "test@keywatt.dev"
GOOD = str(ALICE.sign("text", NAMESPACE))


def test_what_ssh_keygen_signs_proves_and_what_we_sign_it_verifies(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    text = tmp_path / "text"
    text.write_text("a text\n")
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(text)], check=True)
    public = OfficerKey.parse(key.with_suffix(".pub").read_text())
    signature = OfficerSignature.parse((tmp_path / "text.sig").read_text())
    assert signature.proves(public, NAMESPACE, b"a text\n")
    assert not signature.proves(public, NAMESPACE, b"another\n")
    assert not signature.proves(public, "other@keywatt.dev", b"a text\n")
    assert not signature.proves(ALICE.key, NAMESPACE, b"a text\n")
    # And the other way round.
    (tmp_path / "ours.sig").write_text(str(ALICE.sign("a text\n", NAMESPACE)))
    (tmp_path / "allowed").write_text(f"alice {ALICE.key}\n")
    command = ["ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-I", "alice", "-f", str(tmp_path / "allowed")]
    done = subprocess.run(
        [*command, "-s", str(tmp_path / "ours.sig")], input=b"a text\n", capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_fido2_signature_wants_a_touch_and_its_application() -> None:
    signature = CAROL.sign("text", NAMESPACE)
    assert signature.proves(CAROL.key, NAMESPACE, b"text")
    assert not CAROL.sign("text", NAMESPACE, flags=0).proves(CAROL.key, NAMESPACE, b"text")
    elsewhere = replace(CAROL, application="ssh:elsewhere")
    assert not elsewhere.sign("text", NAMESPACE).proves(CAROL.key, NAMESPACE, b"text")
    assert not replace(signature, counter=8).proves(CAROL.key, NAMESPACE, b"text")


@pytest.mark.parametrize("person", [ALICE, CAROL], ids=["plain", "FIDO2"])
def test_both_kinds_come_back_as_they_went(person: object) -> None:
    signature = person.sign("text", NAMESPACE)  # type: ignore[attr-defined]
    assert OfficerSignature.parse(str(signature)) == signature
    assert OfficerKey.parse(str(signature.key)) == signature.key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rubbish",
        GOOD.replace("BEGIN", "BEGUN"),
        GOOD.replace("SSH", "PGP"),
        GOOD[: len(GOOD) // 2] + "\n-----END SSH SIGNATURE-----",
        "x" * 20_000,
        "-----BEGIN SSH SIGNATURE-----\n!!!\n-----END SSH SIGNATURE-----",
    ],
)
def test_what_is_no_signature(text: str) -> None:
    with pytest.raises(SignatureUnreadable):
        OfficerSignature.parse(text)


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa " + base64.b64encode(b"x").decode()])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(SignatureUnreadable):
        OfficerKey.parse(text)


@given(st.binary(max_size=300))
def test_rubbish_raises_one_error_only(octets: bytes) -> None:
    encoded = base64.b64encode(octets).decode()
    for read in (
        lambda: OfficerKey.parse(f"ssh-ed25519 {encoded}"),
        lambda: OfficerSignature.parse(f"-----BEGIN SSH SIGNATURE-----\n{encoded}\n-----END SSH SIGNATURE-----"),
    ):
        with pytest.raises(SignatureUnreadable):
            read()
