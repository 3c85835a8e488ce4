"""The folder of records: numbered, never replaced; durable before the store that they speak of is put in force."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hsm.log.durable import flush_folder
from keyloader.errors import RecordInvalid
from keyloader.record import Record, read

_NAME = re.compile(r"([0-9]{4,8})(?:-refused)?\.json(?:\.pending)?")
_PENDING = ".pending"


class RecordsFolder:
    """Records below one folder: ``0001.json``, ``0002-refused.json`` and on.

    Args:
        folder: exists already.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write_pending(self, record: Record) -> Path:
        """Write a record that counts once its token store is in force; return its path. Raises OSError."""
        return self._write(record, f"{self._next():04d}.json{_PENDING}")

    def complete(self, pending: Path) -> Path:
        """Let a record count."""
        path = pending.with_name(pending.name.removesuffix(_PENDING))
        # A record is never replaced: a link refuses where a rename would not.
        os.link(pending, path)
        pending.unlink()
        flush_folder(self._folder)
        return path

    def write_refused(self, record: Record) -> Path:
        """Write the record of a ceremony that changed nothing; return its path. Raises OSError."""
        return self._write(record, f"{self._next():04d}-refused.json")

    def recover(self, current: Path | None) -> list[str]:
        """Settle what a kill left: a pending record counts if its store is in force, and else is of no ceremony.

        Returns:
            Names of stores that were made and never put in force.
        """
        for draft in self._folder.glob("*.new"):
            draft.unlink()
        stores, known = [], self._stores()
        for path in sorted(self._folder.glob(f"*{_PENDING}")):
            fields = read(path).fields
            store = str(fields.get("store_after"))
            if path.with_name(path.name.removesuffix(_PENDING)).exists():
                path.unlink()
            elif store == fields.get("store_before") or (current is not None and store == current.name):
                # One that leaves the store as it is, is done when its record is written.
                self.complete(path)
            else:
                if store not in known:
                    stores.append(store)
                path.unlink()
        return stores

    def pending(self) -> list[dict[str, Any]]:
        """Return what records say that wait."""
        return [read(path).fields for path in sorted(self._folder.glob(f"*{_PENDING}"))]

    def _stores(self) -> set[str]:
        """Return every store that a ceremony that is done has had in force: none of them is an orphan."""
        known: set[str] = set()
        for path in self._folder.glob("*.json"):
            try:
                fields = read(path).fields
            except RecordInvalid:
                continue
            known |= (
                {str(fields.get("store_before")), str(fields.get("store_after"))}
                if (fields.get("outcome") == "done")
                else {str(fields.get("store_before"))}
            )
        return known

    def _next(self) -> int:
        matches = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return max((int(match[1]) for match in matches if match), default=0) + 1

    def _write(self, record: Record, name: str) -> Path:
        path = self._folder / name
        draft = path.with_name(name + ".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        with os.fdopen(descriptor, "wb") as file:
            file.write(record.pack())
            file.flush()
            os.fsync(descriptor)
        os.link(draft, path)
        draft.unlink()
        flush_folder(self._folder)
        return path
