"""``keyloader kmc``: a small key management centre, FOR TESTS: it reads vending keys in clear from a file."""

from __future__ import annotations

import hashlib
import json as json_format
import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from hsm.errors import SignatureUnreadable
from hsm.ssh_signatures import OfficerKey
from keyloader.answers import console, errors, guarded
from keyloader.errors import KeyFileInvalid
from keyloader.exchange.centre import Centre, ClearKey
from keyloader.exchange.key_block import wrap
from keyloader.exchange.request_file import KeyRequest
from keyloader.key_file import entries

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="TEST ONLY: play a key management centre. It reads vending keys in clear, which no real centre does.",
)
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Keys = Annotated[Path, typer.Option(help="Development key file (TOML) with the keys to send.")]


def _warn() -> None:
    errors.print("TEST ONLY: the vending keys of this command were in a file, in clear.", markup=False)


def _centre(name: str, path: Path) -> Centre:
    """Read the centre's key, as ``ssh-keygen -t ed25519 -N ''`` makes it."""
    try:
        private = load_ssh_private_key(path.read_bytes(), password=None)
    except ValueError:
        raise SignatureUnreadable(f"{path}: this is no private key of OpenSSH without a passphrase") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise SignatureUnreadable(f"{path}: a centre signs with Ed25519")
    return Centre(name=name, private=private)


def _clear_keys(path: Path) -> list[ClearKey]:
    return [ClearKey(attributes=entry.attributes, key=entry.octets) for entry in entries(path)]


@app.command()
def send(
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="Request file of the module.")],
    keys: Keys,
    name: Annotated[str, typer.Option(help="Name of the centre, as the module has enrolled it.")],
    key: Annotated[Path, typer.Option(help="Private key of the centre (ssh-keygen -t ed25519).")],
    audit_key: Annotated[str, typer.Option(help="The module's audit key, from the record of its initialisation.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Key-load file to write; must not exist.")],
    json: Json = False,
) -> None:
    """Wrap the keys of a file for the module that asks."""

    def work() -> tuple[int, str]:
        asked = KeyRequest.read(request)
        try:
            asked.verify(bytes.fromhex(audit_key))
        except ValueError:
            raise KeyFileInvalid("the audit key is 64 hexadecimal digits") from None
        file = _centre(name, key).send(asked, _clear_keys(keys))
        octets = file.pack()
        with output.open("xb") as written:
            written.write(octets)
        return len(file.keys), hashlib.sha256(octets).hexdigest()

    count, digest = guarded(work)
    _warn()
    if json:
        sys.stdout.write(json_format.dumps({"file": str(output), "keys": count, "sha256": digest}) + "\n")
        return
    console.print(f"{output}: {count} keys\n  sha256 {digest}", markup=False)


@app.command()
def block(
    keys: Keys,
    block_key: Annotated[Path, typer.Option(help="File with the key block protection key, 64 hexadecimal digits.")],
    json: Json = False,
) -> None:
    """Print the keys of a file as key blocks of X9.143, version D, one a line."""

    def work() -> list[str]:
        try:
            protection = bytes.fromhex(block_key.read_text("ascii").strip())
        except ValueError:
            raise KeyFileInvalid(f"{block_key}: a key block protection key is 64 hexadecimal digits") from None
        if len(protection) != 32:
            raise KeyFileInvalid(f"{block_key}: a key block protection key is 64 hexadecimal digits")
        return [
            wrap(protection, one.key, one.attributes.record_text(one.check_value), secrets.token_bytes(16))
            for one in _clear_keys(keys)
        ]

    lines = guarded(work)
    if json:
        sys.stdout.write(json_format.dumps({"blocks": lines}) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines)
    _warn()


@app.command()
def public(
    key: Annotated[Path, typer.Argument(metavar="KEY", help="Private key of the centre.")],
) -> None:
    """Print the public key of a centre, as a plan enrols it."""
    centre = guarded(lambda: _centre("centre", key))
    sys.stdout.write(f"{OfficerKey(public=centre.key.public)}\n")
