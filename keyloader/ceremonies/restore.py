"""Restore a token from a backup into an empty folder: with shares of its custodians, and its officers' approval."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hsm.officers import CeremonyKind
from keyloader.backup import SHARE_LENGTH, Backup, BackupHead, combine, seal, share_check_value, split
from keyloader.ceremonies.base import Action, Basis, CeremonyType, Stage, Throwaway
from keyloader.errors import ComponentRefused, PlanInvalid, SiteFault

_ATTEMPTS = 3
_REHEARSAL_FILE = "rehearsal-backup.keywatt"


class Restore(CeremonyType):
    """A token comes back as it was when it was backed up; keys that came since are not in it.

    Args:
        file: name of the archive in the plan's folder.
        sha256: of the archive, as the record of the backup has it.
    """

    code: ClassVar[CeremonyKind] = CeremonyKind.RESTORE
    basis: ClassVar[Basis] = Basis.NOTHING
    needs_files: ClassVar[bool] = True
    kind: Literal["restore"]
    file: Annotated[str, Field(pattern=r"^[^/]+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    def read(self, folder: Path) -> Backup:
        """Read the archive; raises PlanInvalid or BackupInvalid."""
        found = Backup.read(folder / self.file)
        if found.digest.hex() != self.sha256:
            raise PlanInvalid(f"{self.file} is another backup than the plan says")
        return found

    def actions(self, folder: Path) -> list[Action]:
        """None, once the archive is the right one: the token is as the backup has it."""
        self.read(folder)
        return []

    def script(self) -> list[str]:
        """In words."""
        return [
            f"Custodians type as many shares as open the backup {self.file} with SHA-256 {self.sha256}.",
            "The token is opened, and every key proves its record.",
            "The officers who are enrolled in the backup approve that it is put in force.",
        ]

    def rehearsed(self, throwaway: Throwaway) -> tuple[CeremonyType, Path]:
        """Back the throw-away token up, show its shares, and leave an empty folder."""
        tokens, pin = throwaway.take_away()
        secret = secrets.token_bytes(SHARE_LENGTH)
        shares = split(secret, 2, 3)
        head = BackupHead(
            module="rehearsal",
            serial="rehearsal",
            audit_key="00" * 32,
            store="store-0001",
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            needed=2,
            check_values=[share_check_value(number, share) for number, share in enumerate(shares, 1)],
            salt=secrets.token_hex(16),
            nonce=secrets.token_hex(12),
        )
        path = throwaway.folder / _REHEARSAL_FILE
        path.write_bytes(seal(secret, head, tokens, pin))
        for number, share in enumerate(shares, 1):
            throwaway.say(f"share {number} to rehearse with: {share.hex().upper()}")
        return self.model_copy(
            update={"file": _REHEARSAL_FILE, "sha256": Backup.read(path).digest.hex()}
        ), throwaway.folder

    def fill(self, tokens: Path, stage: Stage, folder: Path) -> str | None:
        """Have shares typed, and open the archive."""
        found = self.read(folder)
        stage.step(
            "backup read", file=self.file, module=found.head.module, store=found.head.store, created=found.head.created
        )
        shares: dict[int, bytes] = {}
        while len(shares) < found.head.needed:
            left = [number for number in range(1, len(found.head.check_values) + 1) if number not in shares]
            name = stage.choose(
                f"{len(shares)} of {found.head.needed} shares are there. Whose share is typed now? "
                "All others look away.",
                [f"share {number}" for number in left],
            )
            number = int(name.removeprefix("share "))
            shares[number] = _enter(stage, number, found.head.check_values[number - 1])
        pin = found.open_into(combine(shares), tokens)
        if not pin:
            raise SiteFault("the backup holds no PIN")
        return pin

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - there are none
        """Say what came back."""
        for label in sorted(stage.ceremony.session.labels):
            stage.step("key restored", record=label)


def _enter(stage: Stage, number: int, expected: str) -> bytes:
    """Have a share typed until its check value is right."""
    for attempt in range(1, _ATTEMPTS + 1):
        typed = bytearray(SHARE_LENGTH)

        def keep(offset: int, octets: bytes, typed: bytearray = typed) -> None:
            typed[offset : offset + len(octets)] = octets

        stage.enter_secret(f"Share {number}", SHARE_LENGTH, keep)
        if share_check_value(number, bytes(typed)) == expected:
            stage.step("share entered", share=str(number), check_value=expected)
            return bytes(typed)
        stage.step("share with a wrong check value", share=str(number), attempt=str(attempt))
    raise ComponentRefused(f"share {number} was entered wrongly {_ATTEMPTS} times")
