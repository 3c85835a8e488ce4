"""What a process that holds a PIN does before it reads it: no core dumps, no tracing by its own user, no swap."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_MCL_CURRENT_AND_FUTURE = 3


def harden() -> None:
    """Forbid dumps, tracing and new privileges; lock memory where the limit allows it (systemd: LimitMEMLOCK=infinity).

    Raises:
        OSError: the kernel refuses one of them.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {option}")
    # A bounded limit would make later allocations of the library fail: then swap is the operator's matter.
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
    if unlimited and libc.mlockall(_MCL_CURRENT_AND_FUTURE) != 0:
        raise OSError(ctypes.get_errno(), "mlockall")


def raise_file_limit() -> int:
    """Let this process open as many files as its hard limit allows; return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; exit at once if it has ended already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def refuse_root() -> None:
    """Exit with a message when run as root: a token store that is read-only would not bind root."""
    if os.geteuid() == 0:
        raise SystemExit("keywatt: this process never runs as root; start it as its own system user")
