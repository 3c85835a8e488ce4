"""``keywatt-policy``: check a policy, show what it changes, and print what officers sign; needs no appliance."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from appliance.errors import ApplianceError, PolicyUnsigned
from appliance.policy.difference import difference
from appliance.policy.document import Policy
from appliance.policy.signatures import NAMESPACE
from hsm.errors import HsmError, SignatureUnreadable
from hsm.ssh_signatures import read_private
from hsm.ssh_signatures import sign as ssh_sign

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="Check and sign policies: who may mint what."
)
File = Annotated[Path, typer.Argument(metavar="POLICY", help="Policy file (TOML).")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _fail(error: ApplianceError | HsmError) -> NoReturn:
    sys.stderr.write(f"{error.reason}: {error}\n  {error.hint}\n")
    raise typer.Exit(2)


def _read(path: Path) -> Policy:
    try:
        return Policy.read(path)
    except ApplianceError as error:
        _fail(error)


@app.command()
def check(
    file: File,
    against: Annotated[Path | None, typer.Option(help="The policy in force, to show what changes.")] = None,
    json: Json = False,
) -> None:
    """Check a policy, and show what it says otherwise than the one in force."""
    policy = _read(file)
    before = None if against is None else _read(against)
    changes = difference(before, policy) if before is not None else []
    is_later = before is None or policy.number > before.number
    if json:
        shown = {"number": policy.number, "sha256": policy.digest.hex(), "changes": changes, "is_later": is_later}
        sys.stdout.write(json_format.dumps(shown) + "\n")
    else:
        sys.stdout.write(
            f"policy {policy.number}: {policy.title}\n"
            f"  for module {policy.module}, {len(policy.client)} clients, {len(policy.limit)} limits\n"
            f"  sha256 {policy.digest.hex()}\n"
        )
        sys.stdout.writelines(f"{line}\n" for line in changes)
    if not is_later:
        sys.stderr.write("POLICY_OUTDATED: its number must be greater than that of the policy in force\n")
        raise typer.Exit(1)


@app.command()
def text(file: File) -> None:
    """Print what officers sign; with how to sign it, on standard error."""
    policy = _read(file)
    sys.stdout.write(policy.text)
    sys.stderr.write(f"sign it: ssh-keygen -Y sign -n {NAMESPACE} -f KEY FILE; FILE.sig goes beside policy.toml\n")


@app.command()
def sign(
    file: File,
    key: Annotated[Path, typer.Option(help="Private key, Ed25519: PEM or OpenSSH's own form.")],
) -> None:
    """Sign a policy with a key that is in a file; print the signature. For keys on sticks see text."""
    policy = _read(file)
    try:
        private = read_private(key.read_bytes(), lambda: str(typer.prompt("Passphrase", hide_input=True, err=True)))
    except OSError as error:
        _fail(PolicyUnsigned(f"{key}: {error.strerror}"))
    except SignatureUnreadable as error:
        _fail(error)
    sys.stdout.write(str(ssh_sign(private, NAMESPACE, policy.text.encode())))


def main() -> None:
    """Entry point ``keywatt-policy``."""
    app()


if __name__ == "__main__":
    main()
