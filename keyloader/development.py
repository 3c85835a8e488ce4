"""Sets a development token up: initialises it, loads the keys of a key file; running it again changes nothing.

    python -m keyloader.development --folder F --ceremony-config C --label L < KEYS

Takes the key file from standard input, so that no copy of it is left anywhere. Runs as the module's system user,
through the ceremony mode of the functionality module.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from pathlib import Path

from hsm.ceremony import Ceremony
from hsm.ceremony_requests import InitTokenItem, LoadKeyItem
from hsm.errors import HsmError
from keyloader import key_file, module_access
from keyloader.errors import KeyLoaderError
from keyloader.token_store import TokenStore


class _Unchanged(Exception):
    """Nothing was loaded that was not there: the draft is not put in force."""


def pin_from(path: Path) -> str:
    """Return the PIN in a file, made of 128 random bits the first time; only this user can read it."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(16) + "\n")
            file.flush()
            os.fsync(file.fileno())
    return path.read_text("ascii").strip()


def _load(ceremony: Ceremony, items: list[LoadKeyItem]) -> int:
    loaded = 0
    for item in items:
        checked, is_new = ceremony.load_key(item)
        name = f"SGC {item.supply_group_code} KRN {item.key_revision_number}"
        state = "loaded" if is_new else "was there"
        print(f"  {name}: {state}, check value {checked.octets.hex().upper()} by {checked.algorithm.label}")
        loaded += is_new
    return loaded


def _keep_or_leave(changed: bool) -> None:
    if not changed:
        raise _Unchanged


def set_up(folder: Path, ceremony_config: Path, label: str, items: list[LoadKeyItem]) -> None:
    """Initialise the token unless it stands, and load what is missing.

    Raises:
        HsmError, KeyLoaderError: nothing was changed.
    """
    user_pin, so_pin = pin_from(folder / "pin"), pin_from(folder / "so-pin")
    try:
        with TokenStore(folder).draft() as tokens:
            with module_access.session_on(tokens, ceremony_config) as session:
                is_new = Ceremony(session).init_token(InitTokenItem(label=label, so_pin=so_pin, user_pin=user_pin))
                print(f"  token {label!r}: {'initialised' if is_new else 'was there'}")
                session.close()
                session.open(user_pin)
                public, has_new_key = Ceremony(session).make_audit_key()
                print(f"  audit key {public.hex()[:16]}…: {'made' if has_new_key else 'was there'}")
                loaded = _load(Ceremony(session), items)
            _keep_or_leave(is_new or has_new_key or loaded > 0)
    except _Unchanged:
        print("  nothing to change")


def main() -> int:
    """Entry point of the set-up script."""
    parser = argparse.ArgumentParser(prog="keyloader.development")
    for option in ("--folder", "--ceremony-config"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--label", default="keywatt")
    arguments = parser.parse_args()
    os.umask(0o077)
    try:
        items = key_file.parse(sys.stdin.read(), "key file")
        set_up(arguments.folder, arguments.ceremony_config, arguments.label, items)
    except (KeyLoaderError, HsmError) as error:
        print(f"{error.reason}: {error}\n{error.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
