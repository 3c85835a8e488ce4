"""How every ceremony goes, whatever its type: confirm, draft, begin, approve, perform, prove, seal, put in force.

Nothing is changed before the last step: all work is done on a copy of the token store, which takes the place of the old
one by one rename, after it was proven and its record is on the disk.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from hsm.ceremony import Ceremony
from hsm.ceremony_requests import InitTokenItem
from hsm.errors import HsmError, ModuleRefusal
from hsm.officers import Approval, BeginItem, EnrolledOfficer, Enrolment, approval_text
from hsm.self_test import prove_keys
from hsm.session import ModuleSession
from keyloader import module_access
from keyloader.approvals import Signer
from keyloader.ceremonies.base import Action, Approver, CeremonyType, SecretSink, actions_digest
from keyloader.ceremonies.destroy_key import DestroyKey
from keyloader.ceremonies.initialise import Initialise
from keyloader.desk import Desk
from keyloader.errors import (
    ApprovalRefused,
    CeremonyStopped,
    KeyLoaderError,
    PlanInvalid,
    SignatureUnreadable,
    SiteFault,
    StoreNotBlank,
    StoreUnproven,
)
from keyloader.plan import PlanFile
from keyloader.record import FORMAT, Record, now
from keyloader.records_folder import RecordsFolder
from keyloader.site import Site
from keyloader.ssh_signatures import OfficerKey, OfficerSignature
from keyloader.token_store import TokenStore

_ATTEMPTS = 3


@dataclass(slots=True)
class _Stage:
    """What a type of ceremony works with."""

    ceremony: Ceremony
    desk: Desk
    record: Record
    is_rehearsal: bool
    approvers: list[Approver] = field(default_factory=list)

    def step(self, what: str, **facts: str) -> None:
        self.record.fields["steps"].append({"time": now(), "what": what, "facts": facts})
        shown = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
        self.desk.say(f"* {what}{': ' if shown else ''}{shown}")

    def choose(self, question: str, names: Sequence[str]) -> str:
        return self.desk.choose(question, names)

    def confirm(self, question: str) -> bool:
        return self.desk.confirm(question)

    def enter_secret(self, prompt: str, length: int, part: SecretSink) -> None:
        if self.is_rehearsal:
            self.desk.say("A REHEARSAL: enter any digits, never those of the envelope.")
        self.desk.enter_secret(prompt, length, part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """A ceremony that is about to be held.

    Args:
        plan: what is done.
        site: where.
        desk: the table.
        signer: how officers sign.
        ceremony: the type as it is done here: in a rehearsal without what only real secrets fulfil.
        is_rehearsal: marks the record.
    """

    plan: PlanFile
    site: Site
    desk: Desk
    signer: Signer
    ceremony: CeremonyType
    is_rehearsal: bool = False

    def hold(self) -> Path:
        """Hold it; return the path of the record.

        Raises:
            KeyLoaderError, HsmError: nothing was put in force; if it had begun, a record says why.
        """
        self.site.require()
        self._require_day()
        actions = self.ceremony.actions(self.plan.folder)
        records = RecordsFolder(self.site.records)
        store = TokenStore(self.site.token_folder)
        # First the lock: another ceremony that is under way has drafts and records that wait.
        store.recover()
        store.recover(records.recover(store.current))
        self.desk.show_plan(self.plan.plan.title, self.plan.digest, self.ceremony.script(), actions_digest(actions))
        self.desk.confirm_plan(self.plan.digest)
        is_initialising = isinstance(self.ceremony, Initialise)
        if is_initialising and store.current is not None:
            raise StoreNotBlank("there is a token in force")
        if not is_initialising and store.current is None:
            raise SiteFault(f"{store.link}: there is no token yet")
        record = self._new_record(actions, store.current)
        pin_file = self.site.token_folder / "pin"
        pending: Path | None = None
        try:
            pin = secrets.token_hex(16) if is_initialising else _read_secret(pin_file)
            with store.draft() as tokens:
                record.fields["store_after"] = tokens.name.removeprefix(".draft-")
                with self._module(tokens, pin, record) as session:
                    self._work(session, record, actions)
                pending = records.write_pending(record)
                if is_initialising:
                    _keep_secret(pin_file, pin)
        except BaseException as error:
            # An error after the link was moved leaves the ceremony done: its record waits, and is completed below.
            if store.current is None or store.current.name != record.fields.get("store_after"):
                if pending is not None:
                    pending.unlink(missing_ok=True)
                if is_initialising and store.current is None:
                    pin_file.unlink(missing_ok=True)
                self._refused(records, record, error)
                raise
        if pending is None:
            raise StoreUnproven("the ceremony is done and has no record")
        return records.complete(pending)

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
            "enrolled": [],
            "steps": [],
            "store_before": "" if current is None else current.name,
        }
        return Record(fields)

    @contextlib.contextmanager
    def _module(self, tokens: Path, pin: str, record: Record) -> Iterator[ModuleSession]:
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
            if isinstance(self.ceremony, Initialise):
                item = InitTokenItem(label=self.site.token_label, so_pin=secrets.token_hex(16), user_pin=pin)
                if not Ceremony(session).init_token(item):
                    raise StoreNotBlank("a token of this label is there already")
            session.close()
            session.open(pin)
            serial = session.status().token_serial
            record.fields["module"]["token_serial"] = serial
            if self.site.token_serial and serial != self.site.token_serial:
                raise SiteFault(f"this is token {serial}, the site file names {self.site.token_serial}")
            yield session

    def _work(self, session: ModuleSession, record: Record, actions: Sequence[Action]) -> None:
        ceremony = Ceremony(session)
        fields = record.fields
        before = list(session.labels)
        fields["keys_before"] = sorted(_shown(label) for label in session.labels)
        item = BeginItem(kind=self.ceremony.code, plan=self.plan.digest, actions=[action.digest for action in actions])
        begun = ceremony.begin(item)
        fields["nonce"] = begun.nonce.hex()
        stage = _Stage(ceremony, self.desk, record, self.is_rehearsal)
        try:
            enrolled = self._enrolled(ceremony)
            fields["enrolled"] = [officer.key.hex() for officer in enrolled.officers]
            fields["needed"] = enrolled.thresholds[self.ceremony.code]
            self._approve(stage, enrolled, approval_text(fields["module"]["id"], item, begun.nonce))
            self.ceremony.perform(stage, actions)
            self._prove(session, before, stage)
            fields["outcome"] = "done"
        except BaseException as error:
            fields["refused_because"] = _reason_of(error)
            raise
        finally:
            fields["ended"] = now()
            fields["keys_after"] = sorted(_shown(label) for label in session.labels)
            self._seal(session, record)

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

    def _approve(self, stage: _Stage, enrolled: Enrolment, text: str) -> None:
        fields = stage.record.fields
        needed, attempts = int(fields["needed"]), 0
        left = [officer.name for officer in enrolled.officers]
        while len(stage.approvers) < needed:
            stage.desk.say(f"{len(stage.approvers)} of {needed} officers have approved.")
            name = stage.choose("Who approves now?", [*left, "nobody: stop here"])
            if name not in left:
                raise CeremonyStopped("those present ended it")
            officer = next(one for one in enrolled.officers if one.name == name)
            try:
                signature = self.signer.sign(stage.desk, officer, text)
                approval = Approval(
                    key=signature.key.public,
                    signature=signature.signature,
                    flags=signature.flags,
                    counter=signature.counter,
                )
                _require_key_of(officer, signature)
                stage.ceremony.approve(approval)
            except (SignatureUnreadable, ModuleRefusal) as error:
                attempts += 1
                stage.step("approval refused", officer=name, reason=error.reason, detail=str(error))
                if attempts == _ATTEMPTS:
                    raise ApprovalRefused(f"{attempts} approvals were refused") from error
                continue
            left.remove(name)
            stage.approvers.append(Approver(name=name, key=officer.key))
            fields["approvals"].append({"officer": name, "time": now(), "signature": str(signature)})
            fingerprint = OfficerKey(public=signature.key.public, application=signature.key.application).fingerprint
            stage.step("approved", officer=name, key=fingerprint)

    def _prove(self, session: ModuleSession, before: Sequence[str], stage: _Stage) -> None:
        """See that every key proves its record, and that those of before are there as they were."""
        session.reload_keys()
        proved = prove_keys(session)
        gone = set(before) - set(session.labels)
        expected = 1 if isinstance(self.ceremony, DestroyKey) else 0
        if len(gone) != expected:
            raise StoreUnproven(f"{len(gone)} keys of before are not there as they were, {expected} should be")
        stage.step("every key proves its record", keys=str(proved), unchanged=str(len(before) - len(gone)))

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


def _require_key_of(officer: EnrolledOfficer, signature: OfficerSignature) -> None:
    if signature.key.public != officer.key:
        raise SignatureUnreadable(f"this is not the key of {officer.name}")


def _read_secret(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError as error:
        raise SiteFault(f"{path}: {error.strerror}") from None


def _keep_secret(path: Path, text: str) -> None:
    # One that a kill left is of a token that was never in force.
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
