"""Sets the appliance up for development: certificates, its configuration, a client profile. Idempotent.

python demo/setup_appliance.py --state STATE [--port 8443]
"""

from __future__ import annotations

import argparse
import grp
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import certificates

from appliance.ledger.answers import AnswerCipher
from hsm.system_users import APPLIANCE_USER, as_user


def set_up(state: Path, address: str, port: int) -> None:
    """Write it all below ``state``."""
    appliance, client = state / "appliance", state / "client"
    # The appliance reads its folder and never writes it: what root writes there cannot be led astray by links.
    for folder in (appliance, client):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if certificates.make(appliance, client, address):
        print("certificates: made (a development CA, one server, one client)")
    if not (appliance / "ledger.key").exists():
        AnswerCipher.add_key(appliance / "ledger.key")
    # The one folder that the appliance writes to.
    ledger = state / "ledger"
    ledger.mkdir(mode=0o700, exist_ok=True)
    (appliance / "appliance.toml").write_text(
        f'listen = "{address}:{port}"\n'
        f'module_socket = "{state}/run/module.sock"\n\n'
        "[tls]\n"
        f'certificate = "{appliance}/server.pem"\n'
        f'private_key = "{appliance}/server.key"\n'
        f'client_ca = "{appliance}/client-ca.pem"\n\n'
        "[ledger]\n"
        f'url = "sqlite:///{ledger}/ledger.db"\n'
        f'key = "{appliance}/ledger.key"\n\n'
        "[audit]\n"
        f'log = "{state}/audit"\n'
        'auditors = ["spiffe://keywatt.dev/development"]\n\n'
        "[clock]\n"
        "# A demonstration may lie idle for weeks; in service the default, a week, is right.\n"
        "restart_forward_hours = 10000\n",
        "utf-8",
    )
    (client / "client.toml").write_text(
        f'address = "{"localhost" if address == "127.0.0.1" else address}:{port}"\n'
        'server_ca = "server-ca.pem"\n'
        'certificate = "client.pem"\n'
        'private_key = "client.key"\n',
        "utf-8",
    )
    if os.geteuid() == 0:
        group = grp.getgrnam(APPLIANCE_USER).gr_gid
        os.chown(appliance, 0, group)
        appliance.chmod(0o750)
        for name in ("server.key", "ledger.key"):
            os.chown(appliance / name, 0, group)
            (appliance / name).chmod(0o640)
        shutil.chown(ledger, APPLIANCE_USER, group)
    if (ledger / "ledger.db").exists():
        # One of an earlier version.
        command = [str(Path(sysconfig.get_path("scripts")) / "keywatt-ledger"), "upgrade"]
        command += ["--config", str(appliance / "appliance.toml")]
        subprocess.run(command, check=True, cwd="/", **as_user(APPLIANCE_USER))


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Set the appliance up for development.")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--address", default="127.0.0.1", help="IPv4 address to listen on")
    parser.add_argument("--port", type=int, default=8443)
    arguments = parser.parse_args()
    os.umask(0o022)
    set_up(arguments.state.resolve(), arguments.address, arguments.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
