"""How every ceremony goes, whatever its type: confirm, draft, begin, approve, perform, prove, seal, put in force.

Nothing is changed before the last step: all work is done on a copy of the token store, which takes the place of the old
one by one rename, after it was proven and its record is on the disk.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from hsm.ceremony import Ceremony
from hsm.ceremony_requests import InitTokenItem
from hsm.errors import HsmError
from hsm.keys import VendingKey
from hsm.officers import BeginItem, Enrolment, acceptance_text, approval_text
from hsm.self_test import prove_keys
from hsm.session import ModuleSession
from keyloader import module_access
from keyloader.approvals import collect
from keyloader.ceremonies.base import Action, Basis, CeremonyType, actions_digest
from keyloader.ceremonies.initialise import Initialise
from keyloader.desk import Desk
from keyloader.errors import (
    ApprovalRefused,
    CeremonyStopped,
    KeyLoaderError,
    PlanInvalid,
    SiteFault,
    StoreNotBlank,
    StoreUnproven,
)
from keyloader.plan import PlanFile
from keyloader.record import FORMAT, Record, now
from keyloader.records_folder import RecordsFolder
from keyloader.recovery import settle
from keyloader.signers import Signer
from keyloader.site import Site
from keyloader.stage import TableStage
from keyloader.token_store import TokenStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """A ceremony that is about to be held.

    Args:
        plan: what is done.
        site: where.
        desk: the table.
        signer: how officers sign.
        ceremony: the type as it is done here: in a rehearsal without what only real secrets fulfil.
        folder: of the files that the type reads.
        is_rehearsal: marks the record.
    """

    plan: PlanFile
    site: Site
    desk: Desk
    signer: Signer
    ceremony: CeremonyType
    folder: Path
    is_rehearsal: bool = False

    def hold(self) -> Path:
        """Hold it; return the path of the record.

        Raises:
            KeyLoaderError, HsmError: nothing was put in force; if it had begun, a record says why.
        """
        self.site.require()
        self.ceremony.require_site(self.site)
        self._require_day()
        actions = self.ceremony.actions(self.folder)
        store, records = settle(self.site)
        self.desk.show_plan(self.plan.plan.title, self.plan.digest, self.ceremony.script(), actions_digest(actions))
        self.desk.confirm_plan(self.plan.digest)
        if self.ceremony.basis is Basis.NOTHING and (store.current is not None or store.names):
            raise StoreNotBlank("there is a token, in force or not; its folder must be empty")
        if self.ceremony.basis is Basis.CURRENT and store.current is None:
            raise SiteFault(f"{store.link}: there is no token yet")
        stage = TableStage(
            desk=self.desk,
            record=self._new_record(actions, store.current),
            signer=self.signer,
            site=self.site,
            store=store.current,
            is_rehearsal=self.is_rehearsal,
        )
        return records.complete(self._hold(stage, store, records, actions))

    def _hold(self, stage: TableStage, store: TokenStore, records: RecordsFolder, actions: Sequence[Action]) -> Path:
        """Do it; return the record that waits. Whatever goes wrong leaves the store in force as it was."""
        record = stage.record
        is_first = self.ceremony.basis is Basis.NOTHING
        has_written_pin = False
        pending: Path | None = None
        try:
            with store.copy() if self.ceremony.keeps_store else store.draft() as tokens:
                if self.ceremony.keeps_store:
                    record.fields["store_after"] = record.fields["store_before"]
                else:
                    record.fields["store_after"] = tokens.name.removeprefix(".draft-")
                with self._module(tokens, stage) as (session, pin):
                    self._work(session, stage, actions)
                pending = records.write_pending(record)
                stage.finish()
                if is_first:
                    has_written_pin = True
                    _keep_secret(self.site.pin_file, pin)
        except BaseException as error:
            # An error after the link was moved leaves the ceremony done: its record waits, and is completed.
            is_in_force = store.current is not None and store.current.name == record.fields.get("store_after")
            if self.ceremony.keeps_store or not is_in_force:
                if pending is not None:
                    pending.unlink(missing_ok=True)
                if has_written_pin and store.current is None:
                    self.site.pin_file.unlink(missing_ok=True)
                stage.undo()
                self._refused(records, record, error)
                raise
        if pending is None:
            raise StoreUnproven("the ceremony is done and has no record")
        return pending

    def _require_day(self) -> None:
        plan, today = self.plan.plan, datetime.now(UTC).date()
        if not self.is_rehearsal and not _within(plan.not_before, today, plan.not_after):
            raise PlanInvalid(f"this plan is for the days from {plan.not_before} to {plan.not_after}")

    def _new_record(self, actions: Sequence[Action], current: Path | None) -> Record:
        plan = self.plan.plan
        fields: dict[str, Any] = {
            "format": FORMAT,
            "rehearsal": self.is_rehearsal,
            "outcome": "refused",
            "begun": now(),
            "plan": self.plan.text,
            "plan_sha256": self.plan.digest.hex(),
            "kind": int(self.ceremony.code),
            "title": plan.title,
            "participants": [{"name": one.name, "role": one.role} for one in plan.participants],
            "actions": [{"what": action.what, "digest": action.digest.hex()} for action in actions],
            "approvals": [],
            "acceptances": [],
            "enrolled": [],
            "steps": [],
            "store_before": "" if current is None else current.name,
        }
        return Record(fields)

    @contextlib.contextmanager
    def _module(self, tokens: Path, stage: TableStage) -> Iterator[tuple[ModuleSession, str]]:
        """Start the module on the draft and log in; give the session, and the PIN of the token."""
        record = stage.record
        filled = self.ceremony.fill(tokens, stage, self.folder)
        is_blank = self.ceremony.basis is Basis.NOTHING and filled is None
        pin = secrets.token_hex(16) if is_blank else filled or self.site.read_pin()
        with module_access.session_on(tokens, self.site.ceremony_config) as session:
            status = session.status()
            record.fields["module"] = {
                "id": status.module_id,
                "version": status.module_version,
                "source": status.source_digest.hex(),
                "profile": status.profile.name.lower(),
            }
            if status.module_id != self.plan.plan.module:
                raise SiteFault(f"this is module {status.module_id}, the plan is for {self.plan.plan.module}")
            if is_blank:
                item = InitTokenItem(label=self.site.token_label, so_pin=secrets.token_hex(16), user_pin=pin)
                if not Ceremony(session).init_token(item):
                    raise StoreNotBlank("a token of this label is there already")
            session.close()
            session.open(pin)
            serial = session.status().token_serial
            record.fields["module"]["token_serial"] = serial
            if self.site.token_serial and serial != self.site.token_serial:
                raise SiteFault(f"this is token {serial}, the site file names {self.site.token_serial}")
            yield session, pin

    def _work(self, session: ModuleSession, stage: TableStage, actions: Sequence[Action]) -> None:
        ceremony = Ceremony(session)
        fields = stage.record.fields
        before = list(session.labels)
        fields["keys_before"] = sorted(_shown(label) for label in session.labels)
        item = BeginItem(kind=self.ceremony.code, plan=self.plan.digest, actions=[action.digest for action in actions])
        begun = ceremony.begin(item)
        fields["nonce"] = begun.nonce.hex()
        stage.begin(ceremony, acceptance_text(fields["module"]["id"], item, begun.nonce))
        try:
            enrolled = self._enrolled(ceremony)
            fields["enrolled"] = [officer.key.hex() for officer in enrolled.officers]
            fields["needed"] = begun.needed or enrolled.thresholds[self.ceremony.code]
            collect(stage, enrolled, approval_text(fields["module"]["id"], item, begun.nonce))
            self.ceremony.perform(stage, actions)
            self._prove(session, before, stage)
            fields["outcome"] = "done"
        except BaseException as error:
            fields["refused_because"] = _reason_of(error)
            raise
        finally:
            fields["ended"] = now()
            fields["keys_after"] = sorted(_shown(label) for label in session.labels)
            self._seal(session, stage.record)

    def _enrolled(self, ceremony: Ceremony) -> Enrolment:
        """Return who judges this ceremony: on a blank token those whom it is to enrol."""
        if isinstance(self.ceremony, Initialise):
            ceremony.set_officers(self.ceremony.officers.item)
            return Enrolment.unpack(self.ceremony.officers.item.pack())
        enrolled = ceremony.officers()
        if enrolled is None:
            raise ApprovalRefused("the token has no officers")
        return enrolled

    def _seal(self, session: ModuleSession, record: Record) -> None:
        """Have the audit key sign the record; a ceremony that was refused before there is one stays unsealed."""
        try:
            record.audit_key = session.audit_key()
            record.signature = Ceremony(session).sign_record(record.digest)
        except HsmError:
            if record.fields["outcome"] == "done":
                raise
            record.audit_key = record.signature = b""

    def _prove(self, session: ModuleSession, before: Sequence[str], stage: TableStage) -> None:
        """See that every key proves its record, and that those of before are there as they were."""
        session.reload_keys()
        proved = prove_keys(session)
        may_change = self.ceremony.may_change(self.folder)
        must_stay = {label for label in before if str(VendingKey.from_label(label).reference) not in may_change}
        gone = must_stay - set(session.labels)
        if gone:
            raise StoreUnproven(f"{len(gone)} keys of before are not there as they were")
        unchanged = len(set(before) & set(session.labels))
        stage.step("every key proves its record", keys=str(proved), unchanged=str(unchanged))

    def _refused(self, records: RecordsFolder, record: Record, error: BaseException) -> None:
        fields = record.fields
        if "nonce" not in fields:
            return
        if fields["outcome"] == "done":
            # All was well in the module, and then the disk was not: what is sealed says so no longer.
            fields |= {"outcome": "refused", "refused_because": _reason_of(error)}
            record.audit_key = record.signature = b""
        with contextlib.suppress(OSError):
            self.desk.say(f"The record of what was refused: {records.write_refused(record)}")


def _reason_of(error: BaseException) -> dict[str, str]:
    """Return what a record says of an error; of one that nobody foresaw its name alone."""
    if isinstance(error, KeyLoaderError | HsmError):
        return {"reason": error.reason, "what": str(error)}
    if isinstance(error, OSError):
        return {"reason": SiteFault.reason, "what": error.strerror or type(error).__name__}
    if isinstance(error, KeyboardInterrupt):
        return {"reason": CeremonyStopped.reason, "what": "ended at the keyboard"}
    return {"reason": KeyLoaderError.reason, "what": type(error).__name__}


def _within(first: date, day: date, last: date) -> bool:
    return first <= day <= last


def _shown(label: str) -> str:
    """Return a key's record without its proof, which is nobody's concern."""
    return label.partition(" proof=")[0]


def _keep_secret(path: Path, text: str) -> None:
    # One that a kill left is of a token that was never in force.
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
