"""The two system users: the appliance's and the module process's. Without root there is one, the caller."""

from __future__ import annotations

import os
import pwd
from typing import Any

APPLIANCE_USER = "keywatt"
MODULE_USER = "keywatt-hsm"


def as_user(name: str) -> dict[str, Any]:
    """Return what :mod:`subprocess` needs to run as a system user with all its groups; nothing without root."""
    if os.geteuid() != 0:
        return {}
    return {"user": name, "group": name, "extra_groups": os.getgrouplist(name, pwd.getpwnam(name).pw_gid)}
