"""A running system whose token officers initialised in a ceremony, not the development set-up."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator

from hsm.system_users import MODULE_USER, as_user
from tests.ceremony.table import Officer, Room, hold
from tests.support.lab import CONTEXTS
from tests.support.system import System, run_script, running


@contextlib.contextmanager
def with_officers() -> Iterator[tuple[System, Room]]:
    """Set the system up, and stop it: nothing runs yet."""
    with running("online", CONTEXTS) as system:
        system.stop()
        state = system.state
        for path in (state / "module").iterdir():
            if path.is_dir() and not path.is_symlink():
                subprocess.run(["rm", "-rf", str(path)], check=True)
            else:
                path.unlink()
        shutil.rmtree(state / "audit" / "tile")
        for path in (state / "audit").iterdir():
            path.unlink()
        folder = state / "room"
        folder.mkdir(mode=0o755)
        (folder / "plans").mkdir(mode=0o755)
        officers = [Officer.make(folder, name) for name in ("Alice", "Bob", "Carol")]
        user = pwd.getpwnam(MODULE_USER)
        for path in folder.iterdir():
            os.chown(path, user.pw_uid, user.pw_gid)
        made = Room(folder, officers, f"keywatt-{os.uname().nodename}", as_user(MODULE_USER))
        (folder / "site.toml").write_text((state / "site.toml").read_text())
        hold(made, made.initialise_plan(), "Alice", "Carol")
        yield system, made


def restart(system: System) -> None:
    """Start both processes."""
    system.servers = run_script.Servers(system.state, system.port)
    system.servers.wait_until_up()
