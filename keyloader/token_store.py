"""The token store on disk: numbered folders, and a link to the one in force.

A ceremony works on a copy; only when all of it went well is the link moved, by one rename. The store in force is
read-only, which keeps SoftHSM from rewriting it at every login; earlier stores stay until someone destroys them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from keyloader.errors import SiteFault, StoreBusy

_NAME = re.compile(r"store-(\d{4})")
_DRAFT = ".draft-"


class TokenStore:
    """The stores below one folder.

    Args:
        root: folder that holds ``store-0001``, ``store-0002`` … and the link ``tokens``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.link = root / "tokens"

    @property
    def current(self) -> Path | None:
        """The store in force; None if there is none. Raises SiteFault if the link leads nowhere."""
        name = self._points_to()
        if name is None:
            return None
        path = self.root / name
        if not path.is_dir():
            raise SiteFault(f"{self.link} points to {name}, which is not there")
        return path

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """Yield a writable copy of the store in force (empty if there is none); put it in force if the body succeeds.

        If the body fails, the draft is removed and the store in force stays as it was.
        """
        with self._locked():
            yield from self._draft()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One ceremony at a time; another one waits not, but is told."""
        with (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreBusy("another ceremony works on this token store") from None
            yield

    def _draft(self) -> Iterator[Path]:
        final = self.root / f"store-{self._last_number() + 1:04d}"
        path = self.root / f"{_DRAFT}{final.name}"
        _remove(path)
        path.mkdir(mode=0o700)
        try:
            if self.link.exists():
                shutil.copytree(self.link.resolve(), path, dirs_exist_ok=True)
                _set_modes(path, directory=0o700, file=0o600)
            yield path
            _set_modes(path, directory=0o500, file=0o400)
            _sync_tree(path)
            path.rename(final)
        except BaseException:
            _remove(path)
            raise
        try:
            self._point_to(final)
        except BaseException:
            # Once the link points there it is the store in force, whatever came after.
            if self._points_to() != final.name:
                _remove(final)
            raise

    @property
    def names(self) -> list[str]:
        """Every store, the oldest first."""
        return sorted(path.name for path in self.root.iterdir() if _NAME.fullmatch(path.name))

    @contextlib.contextmanager
    def copy(self) -> Iterator[Path]:
        """Yield a copy of the store in force to look into: SoftHSM rewrites what whoever may write logs in to."""
        path = self.root / f"{_DRAFT}look"
        with self._locked():
            try:
                _remove(path)
                path.mkdir(mode=0o700)
                shutil.copytree(self.link.resolve(), path, dirs_exist_ok=True)
                _set_modes(path, directory=0o700, file=0o600)
                yield path
            finally:
                _remove(path)

    def put_in_force(self, name: str) -> None:
        """Put a store of before, or after, in force.

        Raises:
            StoreBusy: a ceremony is under way.
            SiteFault: there is no such store.
        """
        with self._locked():
            if name not in self.names:
                raise SiteFault(f"{self.root}: there is no token store {name}")
            self._point_to(self.root / name)

    def recover(self, orphans: Sequence[str] = ()) -> None:
        """Remove what a kill left: drafts, and stores that were made and never put in force.

        Args:
            orphans: names of such stores, as their pending records have them; the one in force is never removed.
        """
        with self._locked():
            current = None if self.current is None else self.current.name
            for path in self.root.glob(f"{_DRAFT}*"):
                _remove(path)
            for name in orphans:
                if _NAME.fullmatch(name) and name != current:
                    _remove(self.root / name)

    def _points_to(self) -> str | None:
        return self.link.readlink().name if self.link.is_symlink() else None

    def _last_number(self) -> int:
        matches = (_NAME.fullmatch(path.name) for path in self.root.iterdir())
        return max((int(match[1]) for match in matches if match), default=0)

    def _point_to(self, path: Path) -> None:
        fresh = self.root / ".tokens.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(path.name)
        fresh.rename(self.link)
        _sync(self.root)


def _set_modes(path: Path, *, directory: int, file: int) -> None:
    if not path.exists():
        return
    path.chmod(0o700)
    for entry in path.iterdir():
        if entry.is_dir():
            _set_modes(entry, directory=directory, file=file)
        else:
            entry.chmod(file)
    path.chmod(directory)


def _remove(path: Path) -> None:
    if path.exists():
        _set_modes(path, directory=0o700, file=0o600)
        shutil.rmtree(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(path: Path) -> None:
    for entry in path.rglob("*"):
        _sync(entry)
    _sync(path)
