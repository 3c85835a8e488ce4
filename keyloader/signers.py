"""How officers sign: with their keys at the table, by files they bring, or in a rehearsal with throw-away keys."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hsm.errors import SignatureUnreadable
from hsm.officers import NAMESPACE, EnrolledOfficer
from hsm.ssh_signatures import OfficerSignature, sign
from keyloader.desk import Desk

_SIGNATURE_MAX = 16 * 1024


class Signer(Protocol):
    """Gets an officer's signature over a text."""

    def sign(self, desk: Desk, officer: EnrolledOfficer, text: str, namespace: str = NAMESPACE) -> OfficerSignature:
        """Return the signature; raises SignatureUnreadable or CeremonyStopped."""


class TableSigner:
    """Officers sign with ``ssh-keygen`` here, or bring the signature in a file.

    Args:
        folder: where the text to sign is written, for officers who sign elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sign(self, desk: Desk, officer: EnrolledOfficer, text: str, namespace: str = NAMESPACE) -> OfficerSignature:
        """Ask for the officer's key or signature file."""
        message = self._folder / "approval.txt"
        message.write_text(text, "utf-8")
        try:
            return self._ask(desk, officer, text, namespace, message)
        finally:
            message.unlink(missing_ok=True)

    @staticmethod
    def _ask(desk: Desk, officer: EnrolledOfficer, text: str, namespace: str, message: Path) -> OfficerSignature:
        desk.say(f"{officer.name} signs {message}")
        desk.say(f"    elsewhere: ssh-keygen -Y sign -n {namespace} -f KEY approval.txt, and bring approval.txt.sig")
        answer = desk.ask(
            "Path of the signature, or of the key file (or its .pub, for a key in ssh-agent) to sign here"
        )
        path = Path(answer)
        try:
            if not answer or not path.is_file():
                raise SignatureUnreadable(f"there is no file {answer}")
            start = path.read_bytes()[:_SIGNATURE_MAX]
        except OSError as error:
            raise SignatureUnreadable(f"{path}: {error.strerror}") from None
        if b"BEGIN SSH SIGNATURE" in start:
            return OfficerSignature.parse(start.decode("ascii", "replace"))
        return _sign_here(path, text, namespace)


def _sign_here(key: Path, text: str, namespace: str) -> OfficerSignature:
    """Run ssh-keygen, which asks for the passphrase or a touch by itself."""
    program = shutil.which("ssh-keygen")
    if program is None:
        raise SignatureUnreadable("there is no ssh-keygen here: sign elsewhere and bring the signature")
    with tempfile.TemporaryDirectory() as folder:
        message = Path(folder) / "approval.txt"
        message.write_text(text, "utf-8")
        command = [program, "-q", "-Y", "sign", "-n", namespace, "-f", str(key), str(message)]
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        signature = message.with_name("approval.txt.sig")
        if done.returncode or not signature.exists():
            raise SignatureUnreadable("ssh-keygen did not sign")
        return OfficerSignature.parse(signature.read_text("ascii"))


class RehearsalSigner:
    """Throw-away keys, one for each officer.

    Args:
        keys: by name.
    """

    def __init__(self, keys: Mapping[str, Ed25519PrivateKey]) -> None:
        self._keys = keys

    def sign(self, desk: Desk, officer: EnrolledOfficer, text: str, namespace: str = NAMESPACE) -> OfficerSignature:
        """Sign once Enter is pressed."""
        desk.ask(f"{officer.name} would sign now. Press Enter")
        return sign(self._keys[officer.name], namespace, text.encode())
