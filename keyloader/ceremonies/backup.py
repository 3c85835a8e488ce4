"""Back the token up: an archive under a key of which each custodian gets a share."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from hsm.log.durable import replace_file
from hsm.officers import CeremonyKind
from keyloader.backup import (
    DRAFT,
    SHARE_LENGTH,
    Backup,
    BackupHead,
    combine,
    give_name,
    seal,
    share_check_value,
    split,
)
from keyloader.ceremonies.base import Action, CeremonyType, Stage
from keyloader.errors import BackupInvalid, ComponentRefused, SiteFault
from keyloader.officer_list import OFFICER_NAME
from keyloader.proquints import spell
from keyloader.site import Site

_ATTEMPTS = 3


class BackUp(CeremonyType):
    """A backup; the token store in force stays as it is.

    Args:
        custodians: who gets a share, in the order in which they are called; officers or others.
        needed: how many shares open the backup.
    """

    code: ClassVar[CeremonyKind] = CeremonyKind.BACKUP
    keeps_store: ClassVar[bool] = True
    kind: Literal["backup"]
    custodians: Annotated[
        list[Annotated[str, Field(pattern=f"^{OFFICER_NAME.pattern}$")]], Field(min_length=2, max_length=16)
    ]
    needed: Annotated[int, Field(ge=2, le=16)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.custodians)) != len(self.custodians):
            raise ValueError("a custodian stands twice")
        if self.needed > len(self.custodians):
            raise ValueError("more shares are needed than there are custodians")
        return self

    def require_site(self, site: Site) -> None:
        """See that there is a folder for backups."""
        if site.backups is None or not site.backups.is_dir():
            raise SiteFault("the site file names no folder of backups that exists")

    def actions(self, folder: Path) -> list[Action]:  # noqa: ARG002 - nothing is done to the token
        """None: the token is not changed."""
        return []

    def script(self) -> list[str]:
        """In words."""
        steps = ["The files of the token and its PIN are put into an archive, under a key of 128 random bits."]
        for number, name in enumerate(self.custodians, 1):
            steps.append(f"{name} alone reads share {number}, writes it down with its check value, and types it back.")
        steps.append(f"The archive is opened once with {self.needed} of the shares as they were typed, and compared.")
        steps.append("Each share goes into an envelope of its own; the archive goes to another place than the shares.")
        return steps

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - there are none
        """Make shares and archive."""
        if stage.store is None or stage.site.backups is None:
            raise SiteFault("there is no token to back up, or no folder for the backup")
        secret = secrets.token_bytes(SHARE_LENGTH)
        shares = split(secret, self.needed, len(self.custodians))
        typed = {
            number: self._hand_out(stage, number, name, share)
            for number, (name, share) in enumerate(zip(self.custodians, shares, strict=True), 1)
        }
        status = stage.ceremony.session.status()
        head = BackupHead(
            module=status.module_id,
            serial=status.token_serial,
            audit_key=stage.ceremony.session.audit_key().hex(),
            store=stage.store.name,
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            needed=self.needed,
            check_values=[share_check_value(number, share) for number, share in enumerate(shares, 1)],
            salt=secrets.token_hex(16),
            nonce=secrets.token_hex(12),
        )
        pin = stage.site.read_pin()
        path = stage.site.backups / f"backup-{head.created.replace(':', '')}.keywatt"
        draft = path.with_name(f"{DRAFT}{path.name}")
        if path.exists():
            raise SiteFault(f"{path} is there already")
        # It gets its name when its record is written: an archive without a record would be one that nobody knows of.
        for left in (path, draft, draft.with_name(draft.name + ".new")):
            stage.undo_if_refused(partial(left.unlink, missing_ok=True))
        stage.when_recorded(partial(give_name, draft, path))
        try:
            replace_file(draft, seal(secret, head, stage.store, pin))
            self._prove(draft, typed, stage.store, pin)
        except OSError as error:
            raise SiteFault(f"{path}: {error.strerror}") from None
        stage.step(
            "backup written and opened once",
            file=path.name,
            sha256=Backup.read(draft).digest.hex(),
            store=stage.store.name,
            shares=f"{self.needed} of {len(self.custodians)}",
        )

    @staticmethod
    def _hand_out(stage: Stage, number: int, name: str, share: bytes) -> bytes:
        """Show a share to its custodian, and have it typed back as it was written down."""
        value = share_check_value(number, share)
        text = share.hex().upper()
        groups = " ".join(text[at : at + 4] for at in range(0, len(text), 4))
        for attempt in range(1, _ATTEMPTS + 1):
            stage.show_secret(
                f"{name}: share {number}. All others look away. Write it down.",
                [groups, spell(share), f"check value {value}"],
            )
            typed = bytearray(SHARE_LENGTH)

            def keep(offset: int, octets: bytes, typed: bytearray = typed) -> None:
                typed[offset : offset + len(octets)] = octets

            stage.enter_secret(f"{name}: type share {number} as you have written it down", SHARE_LENGTH, keep)
            if bytes(typed) == share:
                stage.step("share handed out", custodian=name, share=str(number), check_value=value)
                return bytes(typed)
            stage.step("share typed back wrongly", custodian=name, share=str(number), attempt=str(attempt))
        raise ComponentRefused(f"share {number} was typed back wrongly {_ATTEMPTS} times")

    def _prove(self, path: Path, typed: dict[int, bytes], store: Path, pin: str) -> None:
        """Open the archive as it lies on the disk with the last shares, in memory, and compare every file."""
        chosen = dict(list(typed.items())[-self.needed :])
        found, opened = Backup.read(path).open(combine(chosen))
        files = {str(entry.relative_to(store)): entry.read_bytes() for entry in store.rglob("*") if entry.is_file()}
        if found != files or opened != pin:
            raise BackupInvalid("the archive does not hold what it was made of")
