"""Sets up SoftHSM and the module process for development; idempotent, by token label.

    python softhsm-config/setup.py --state STATE [--keys FILE] [--mode online|certification]

With root it makes the system users ``keywatt`` (appliance) and ``keywatt-hsm`` (module process) and gives each its
files; without root, everything belongs to the caller. Prints what it did; a second run changes nothing.
"""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from hsm.system_users import APPLIANCE_USER, MODULE_USER, as_user

HERE = Path(__file__).resolve().parent
LABEL = "keywatt"
SOFTHSM = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
)


@dataclass(frozen=True, kw_only=True)
class Users:
    """The two system users; the same one twice without root."""

    appliance: str
    module: str


def make_users() -> Users:
    """Make the system users, with root; else name the caller."""
    if os.geteuid() != 0:
        caller = pwd.getpwuid(os.geteuid()).pw_name
        return Users(appliance=caller, module=caller)
    for user in (APPLIANCE_USER, MODULE_USER):
        try:
            pwd.getpwnam(user)
        except KeyError:
            command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
            subprocess.run([*command, "--shell", "/usr/sbin/nologin", user], check=True)
            print(f"system user {user}: made")
    # The module's user may hand its socket to the appliance's group.
    if MODULE_USER not in grp.getgrnam(APPLIANCE_USER).gr_mem:
        subprocess.run(["usermod", "--append", "--groups", APPLIANCE_USER, MODULE_USER], check=True)
    return Users(appliance=APPLIANCE_USER, module=MODULE_USER)


def make_folder(path: Path, user: str, group: str, mode: int) -> None:
    """Make a folder with its owner and mode, or correct them."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    if os.geteuid() == 0:
        shutil.chown(path, user, group)


def fill(template: str, target: Path, **values: str) -> None:
    """Write a configuration file from its template, owned by the caller, readable for all."""
    text = (HERE / template).read_text("utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    target.write_text(text, "utf-8")
    target.chmod(0o644)


def write_module_settings(state: Path, users: Users) -> None:
    """Write the settings of the module process, and where ceremonies are held."""
    lines = [
        f'socket = "{state}/run/module.sock"',
        f'module_config = "{state}/module.conf"',
        f'softhsm_config = "{state}/softhsm2.conf"',
        f'pin_file = "{state}/module/pin"',
        f'client_users = ["{users.appliance}"]',
        "",
        "[log]",
        f'folder = "{state}/audit"',
        "",
        "[ceremonies]",
        f'token_link = "{state}/module/tokens"',
        f'records = "{state}/records"',
    ]
    (state / "module.toml").write_text("\n".join(lines) + "\n", "utf-8")
    (state / "module.toml").chmod(0o644)
    lines = [
        f'token_folder = "{state}/module"',
        f'token_label = "{LABEL}"',
        f'ceremony_config = "{state}/ceremony.conf"',
        f'records = "{state}/records"',
    ]
    (state / "site.toml").write_text("\n".join(lines) + "\n", "utf-8")
    (state / "site.toml").chmod(0o644)


def set_up(state: Path, keys: Path, mode: str, utc_offset: str) -> Users:
    """Do all of it; raises CalledProcessError when the ceremony fails."""
    users = make_users()
    library = next((path for path in SOFTHSM if Path(path).exists()), None)
    if library is None:
        raise SystemExit("SoftHSM is not installed: apt-get install softhsm2")
    make_folder(state, "root", "root", 0o755)
    make_folder(state / "module", users.module, users.module, 0o700)
    make_folder(state / "records", users.module, users.module, 0o755)
    make_folder(state / "run", users.module, users.appliance, 0o750)
    # The appliance's group reads what is written here, and inherits it to what is made here.
    make_folder(state / "audit", users.module, users.appliance, 0o2750)
    fill("softhsm2.conf.in", state / "softhsm2.conf", TOKENS=f"{state}/module/tokens")
    common = {"LIBRARY": library, "TOKEN_LABEL": LABEL, "PROFILE": "development", "UTC_OFFSET": utc_offset}
    for name, chosen in (("module.conf", mode), ("ceremony.conf", "ceremony")):
        fill("module.conf.in", state / name, MODE=chosen, MODULE_ID=f"keywatt-{os.uname().nodename}", **common)
    write_module_settings(state, users)
    command = [sys.executable, "-P", "-m", "keyloader.development", "--folder", str(state / "module")]
    command += ["--ceremony-config", str(state / "ceremony.conf"), "--label", LABEL]
    sys.stdout.flush()
    with keys.open("rb") as source:
        subprocess.run(command, check=True, cwd="/", stdin=source, **as_user(users.module))
    return users


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Set up SoftHSM and the module process for development.")
    parser.add_argument("--state", type=Path, required=True, help="folder for everything")
    parser.add_argument("--keys", type=Path, default=HERE / "development-keys.toml", help="vending keys (TOML)")
    parser.add_argument("--mode", choices=("online", "certification"), default="online")
    parser.add_argument("--utc-offset", default="+00:00", help="time zone of token identifiers, +02:00")
    arguments = parser.parse_args()
    if re.fullmatch(r"[+-](0\d|1[0-4]):[0-5]\d", arguments.utc_offset) is None:
        parser.error("a time zone is an offset of the form +02:00")
    os.umask(0o022)
    try:
        users = set_up(arguments.state.resolve(), arguments.keys, arguments.mode, arguments.utc_offset)
    except subprocess.CalledProcessError as error:
        return error.returncode or 1
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    if users.appliance == users.module:
        print("without root: appliance and module process run as the same user; for development only")
    return 0


if __name__ == "__main__":
    sys.exit(main())
