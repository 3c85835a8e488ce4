"""Hosts of the tests' own: network namespaces on one bridge, each with its own addresses, ports and loopback."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

BRIDGE_ADDRESS = "10.218.77.1"


def _ip(*arguments: str, check: bool = True) -> bool:
    return subprocess.run(["ip", *arguments], check=check, capture_output=True).returncode == 0


def address(number: int) -> str:
    return f"10.218.77.{10 + number}"


@contextlib.contextmanager
def hosts(count: int) -> Iterator[list[str]]:
    """Make ``count`` namespaces that reach each other and this one; yields their names, empty if nobody may."""
    tag = f"kw{os.getpid() % 10000}"
    names = [f"{tag}h{number}" for number in range(count)]
    bridge = f"{tag}br"
    if os.geteuid() != 0 or not _ip("link", "add", bridge, "type", "bridge", check=False):
        yield []
        return
    try:
        _ip("addr", "add", f"{BRIDGE_ADDRESS}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for number, name in enumerate(names):
            _ip("netns", "add", name)
            _ip("link", "add", f"{name}v", "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", f"{name}v", "master", bridge, "up")
            _ip("-n", name, "addr", "add", f"{address(number)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            _ip("netns", "del", name, check=False)
        _ip("link", "del", bridge, check=False)


def inside(name: str, command: list[str]) -> list[str]:
    """Return a command that runs inside a host."""
    return ["ip", "netns", "exec", name, *command]
