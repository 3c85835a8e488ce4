"""What a type of ceremony works with at the table, and what it leaves in the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hsm.ceremony import Ceremony
from hsm.errors import SignatureUnreadable
from hsm.officers import ACCEPTANCE_NAMESPACE, EnrolledOfficer
from hsm.ssh_signatures import OfficerSignature
from keyloader.ceremonies.base import Approver, SecretSink
from keyloader.desk import Desk
from keyloader.errors import ApprovalRefused, StoreUnproven
from keyloader.record import Record, now, taken_line
from keyloader.signers import Signer
from keyloader.site import Site

_ATTEMPTS = 3


@dataclass(slots=True, kw_only=True)
class TableStage:
    """The stage of a ceremony that is held; see :class:`keyloader.ceremonies.base.Stage`.

    Args:
        store: the one in force, if there is one.
    """

    desk: Desk
    record: Record
    signer: Signer
    site: Site
    store: Path | None
    is_rehearsal: bool
    approvers: list[Approver] = field(default_factory=list)
    _ceremony: Ceremony | None = None
    _acceptance: str = ""
    _undo: list[Callable[[], None]] = field(default_factory=list)
    _finish: list[Callable[[], None]] = field(default_factory=list)

    @property
    def ceremony(self) -> Ceremony:
        """The module, once the ceremony has begun."""
        if self._ceremony is None:
            raise StoreUnproven("the ceremony has not begun")
        return self._ceremony

    def begin(self, ceremony: Ceremony, acceptance: str) -> None:
        """Take the module, and the text that those sign who take it over."""
        self._ceremony, self._acceptance = ceremony, acceptance

    def step(self, what: str, **facts: str) -> None:
        """Write a step into the record, with its time, and show it."""
        self.record.fields["steps"].append({"time": now(), "what": what, "facts": facts})
        shown = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
        self.desk.say(f"* {what}{': ' if shown else ''}{shown}")

    def choose(self, question: str, names: Sequence[str]) -> str:
        """Have one of several names chosen."""
        return self.desk.choose(question, names)

    def confirm(self, question: str) -> bool:
        """Ask a question that is answered with Yes or No."""
        return self.desk.confirm(question)

    def enter_secret(self, prompt: str, length: int, part: SecretSink) -> None:
        """Have digits entered without echo."""
        if self.is_rehearsal:
            self.desk.say("A REHEARSAL: enter any digits, or those that were shown here; never those of an envelope.")
        self.desk.enter_secret(prompt, length, part)

    def show_secret(self, prompt: str, lines: Sequence[str]) -> None:
        """Show something to one person."""
        self.desk.show_secret(prompt, lines)

    def accept(self, officers: Sequence[EnrolledOfficer]) -> None:
        """Have each of the officers sign that they take the module over; raises ApprovalRefused."""
        for officer in officers:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    signature = self._sign_acceptance(officer)
                except SignatureUnreadable as error:
                    self.step("acceptance refused", officer=officer.name, attempt=str(attempt), detail=str(error))
                    continue
                self.record.fields["acceptances"].append(
                    {
                        "officer": officer.name,
                        "key": str(signature.key),
                        "time": now(),
                        "signature": str(signature),
                    }
                )
                self.step("taken over", officer=officer.name)
                break
            else:
                raise ApprovalRefused(f"{officer.name} did not take the module over")

    def _sign_acceptance(self, officer: EnrolledOfficer) -> OfficerSignature:
        # What was seen and compared until now is part of what is signed.
        text = self._acceptance + taken_line(self.record.fields["steps"])
        signature = self.signer.sign(self.desk, officer, text, ACCEPTANCE_NAMESPACE)
        is_theirs = (signature.key.public, signature.key.application_digest) == (
            officer.key,
            officer.application_digest,
        )
        if not is_theirs or not signature.proves(signature.key, ACCEPTANCE_NAMESPACE, text.encode()):
            raise SignatureUnreadable(f"this is no signature of {officer.name} over this text")
        return signature

    def undo_if_refused(self, undo: Callable[[], None]) -> None:
        """Name what is to be done if the ceremony does not come to its end."""
        self._undo.append(undo)

    def when_recorded(self, work: Callable[[], None]) -> None:
        """Name what is to be done once the record is written, before the ceremony counts."""
        self._finish.append(work)

    def finish(self) -> None:
        """Do it; raises OSError."""
        for work in self._finish:
            work()

    def undo(self) -> None:
        """Do it."""
        for undo in reversed(self._undo):
            undo()
