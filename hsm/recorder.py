"""Writes the module's log: no answer of the module leaves this process before its entry is durable.

Stands between the functionality module and the socket, in the worker. What the appliance says of the asker is written
down as it says it; all else comes from the request that the module worked on and from its answer.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

from hsm.batch_leaves import leaves_of, now_milliseconds, refusals
from hsm.ceremony_traces import CeremonyTraces
from hsm.errors import CosignaturesRefused, FrameInvalid, HsmError, LogUnavailable, ModuleFault, ModuleRefusal
from hsm.frames import Asker, pack_indices
from hsm.keys import KeyReference
from hsm.leases import FILE as LEASE
from hsm.leases import LeaseMemory, said_of
from hsm.log import leaves
from hsm.log.checkpoints import FORKED, WITNESSED, Checkpoint
from hsm.log.errors import BatchTooLarge, LogDamaged, LogError, PolicyInvalid
from hsm.log.leaves import LeafType
from hsm.log.merkle import Frontier
from hsm.log.notes import ED25519, NOTE_MAX, Note, Signature, VerifierKey
from hsm.log.tiles import read_regular
from hsm.log.writer import LogWriter
from hsm.reasons import Reason
from hsm.requests import Operation
from hsm.session import ModuleSession
from hsm.token_facts import changes, check_values, state_of
from hsm.witness_gate import WitnessDemands, WitnessGate

_REOPEN_SECONDS = 1.0
Log = Callable[..., None]


class Recorder:
    """The log of one worker.

    Args:
        session: the functionality module, logged in.
        folder: the log.
        checkpoint_seconds: how long a checkpoint is the newest while entries are added.
        log: writes a line of the worker's own log.
        witnesses: what is demanded of witnesses; None for nothing.
    """

    def __init__(
        self,
        session: ModuleSession,
        folder: Path,
        *,
        checkpoint_seconds: float,
        log: Log,
        witnesses: WitnessDemands | None = None,
    ) -> None:
        self._session = session
        self._folder = folder
        self._seconds = checkpoint_seconds
        self._log = log
        status = session.status()
        self._status = status
        self._key = VerifierKey(name=status.module_id, kind=ED25519, public=session.audit_key())
        self._writer: LogWriter | None = None
        self._reopen_at = 0.0
        self._checkpoint_at = 0.0
        self._checkpoint: tuple[int, bytes] | None = None
        self._demands = witnesses
        self._gate: WitnessGate | None = None
        self._started = 0
        # What was made durable last: a log that is opened again must begin with it.
        self._held = Frontier()
        self._leases = LeaseMemory(folder, {}, None, log)

    def open(self) -> None:
        """Open the log and write that this worker starts, in which mode and with which keys.

        Raises:
            LogUnavailable, LogDamaged, PolicyInvalid: this worker must not serve.
        """
        if self._demands is not None:
            self._gate = self._open_gate(self._demands)
        self._writer = LogWriter.open(self._folder)
        self._leases = LeaseMemory(self._folder, self._writer.facts, self._writer.last(), self._log)
        self._leases.recall(self._session)
        self._log("log-open", entries=self._writer.size, verifier_key=self._key)
        # For convenience: who wants proof takes the key from the record of the ceremony, not from beside the log.
        self._writer.put("verifier-key", f"{self._key}\n".encode())
        self._write_start(self._writer)
        self._started = self._writer.size
        self._recall_cosignatures()
        self.checkpoint()

    def close(self) -> None:
        """Write that this worker stops, and sign the last checkpoint."""
        if self._writer is None:
            return
        try:
            self._append([leaves.make(LeafType.STOP, now_milliseconds(), module=self._status.module_id)])
            self.checkpoint()
            self._writer.fold()
            self._writer.close()
        except (HsmError, LogError) as error:
            self._log("log-not-closed", detail=error)

    def record(
        self, operation: Operation, reference: KeyReference | None, request: bytes, answer: bytes, askers: list[Asker]
    ) -> bytes:
        """Make the entries of a batch durable; return their places in the log, as they follow the answer.

        Raises:
            LogUnavailable: the answer must not be released.
        """
        key = None if reference is None else self._session.key(reference)
        made = leaves_of(operation, request, answer, key, askers)
        entries = [entry for entry in made if entry is not None]
        index = self._append(entries) if entries else 0
        indices: list[int | None] = []
        for entry in made:
            indices.append(None if entry is None else index)
            index += entry is not None
        return pack_indices(indices)

    def refuse(self, operation: Operation, reference: KeyReference | None, askers: list[Asker], reason: str) -> None:
        """Write that a whole batch was refused, for each of those who asked. Raises LogUnavailable."""
        self._append(refusals(operation, None if reference is None else str(reference), askers, reason))

    def refuse_peer(self, operation: str, reason: str, user: int) -> None:
        """Write that a process at the socket was refused before the module was asked anything.

        Args:
            operation: what it wanted; ``connect`` if it was not let in.
            reason: why it was refused.
            user: its system user. Nothing that it sent is written down.

        Raises:
            LogUnavailable: it is not written.
        """
        entry = leaves.make(
            LeafType.REFUSAL, now_milliseconds(), operation=operation, reason=reason, **{"peer-user": user}
        )
        self._append([entry])

    def checkpoint(self) -> bytes:
        """Return the newest checkpoint, signed now unless nothing was added. Raises LogUnavailable or HsmError."""
        writer = self._require()
        self._checkpoint_at = monotonic() + self._seconds
        if self._checkpoint is not None and self._checkpoint[0] == writer.size:
            return self._checkpoint[1]
        root = writer.root()
        try:
            signature = self._session.sign_checkpoint(writer.size, root)
        except ModuleRefusal as refusal:
            # The module remembers another log than this one: nothing more is released on it.
            raise ModuleFault(f"the checkpoint was refused: {refusal.reason}") from refusal
        text = Checkpoint(origin=self._key.name, size=writer.size, root=root).text
        note = Note(text=text, signatures=(Signature(name=self._key.name, key_id=self._key.key_id, octets=signature),))
        try:
            note.verify(self._key)
        except LogError as error:
            raise ModuleFault("the signature of the audit key is wrong") from error
        try:
            writer.publish(note)
        except LogError as error:
            self._give_up(error)
            raise LogUnavailable(str(error)) from error
        self._checkpoint = (writer.size, note.pack())
        return self._checkpoint[1]

    def cosigned(self, octets: bytes) -> None:
        """Take in what witnesses have cosigned: a checkpoint of this log.

        Raises:
            CosignaturesRefused: it is not, or they are not witnesses of the policy.
            ModuleFault: it proves that this log was put back, or that there are two of it.
            LogUnavailable: it could not be kept; rules that demand it are met all the same.
        """
        if self._gate is None:
            raise CosignaturesRefused("this module process is set up for no witnesses")
        writer = self._require()
        size, note = self._take_cosigned(self._gate, writer, octets)
        newest = self._gate.newest()
        try:
            if self._checkpoint is not None and self._checkpoint[0] == size == writer.size:
                writer.publish(note)
                self._checkpoint = (size, note.pack())
            if newest is not None:
                writer.put(WITNESSED, newest[1].pack())
        except LogError as error:
            self._give_up(error)
            raise LogUnavailable(str(error)) from error

    def unwitnessed(self, operation: Operation, request: bytes) -> frozenset[int]:
        """Return the places of items that must wait for witnesses. Raises LogUnavailable."""
        if self._gate is None:
            return frozenset()
        return self._gate.blocked(operation, request, self._require().size, self._started)

    def unleased(self, operation: Operation) -> Reason | None:
        """Tell why nothing may be done for want of a lease; None if the module is to judge. Raises LogUnavailable."""
        return self._leases.refuses(operation)

    def lease(self, octets: bytes) -> Reason:
        """Present a lease to the module; return what it says.

        Raises:
            FrameInvalid: these octets are no lease.
            ModuleFault: the module failed.
            LogUnavailable: it could not be kept. It may be in force until this worker ends.
        """
        reason, item = self._leases.present(self._session, octets)
        if reason is not Reason.OK:
            return reason
        writer = self._require()
        self._append([leaves.make(LeafType.LEASE, now_milliseconds(), **said_of(item))])
        try:
            writer.put(LEASE, octets)
        except LogError as error:
            self._give_up(error)
            raise LogUnavailable(str(error)) from error
        self._keep_facts(writer)
        return reason

    def take_over(self, session: ModuleSession, before: str, store: str) -> None:
        """Go on with a session on another token store; write what is different. Raises ModuleFault, LogUnavailable."""
        status = session.status()
        public = session.audit_key()
        if (status.module_id, public) != (self._status.module_id, self._key.public):
            raise ModuleFault("the new token store is of another module, or has another audit key")
        self._session, self._status = session, status
        self._leases.recall(session)
        writer = self._require()
        facts = changes(self._session, status, writer.facts)
        self._append(
            [
                leaves.make(
                    LeafType.RELOAD, now_milliseconds(), before=before, store=store, **state_of(self._session, status)
                ),
                *facts,
            ]
        )
        self._keep_facts(writer)

    def write_ceremony(self, traces: CeremonyTraces) -> bool:
        """Write an entry for the first record that has none yet; tell whether there was one. Raises LogUnavailable."""
        writer = self._require()
        known = writer.facts.get("ceremonies", [])
        if not isinstance(known, list):
            raise ModuleFault("state.json is not what a writer leaves")
        found = traces.next_after(known)
        if found is None:
            return False
        name, said = found
        self._append([leaves.make(LeafType.CEREMONY, now_milliseconds(), **said)])
        writer.facts["ceremonies"] = [*known, name]
        self._keep_facts(writer)
        return True

    def tick(self) -> None:
        """Sign a checkpoint if one is due, and keep the time of the lease."""
        self._leases.tick(self._session)
        if self._writer is None or (monotonic() < self._checkpoint_at and not self._is_crowded(self._writer)):
            return
        try:
            self.checkpoint()
        except (LogUnavailable, HsmError) as error:
            self._log("checkpoint-failed", reason=error.reason, detail=error)

    def _is_crowded(self, writer: LogWriter) -> bool:
        """Tell whether so much was added since the last checkpoint that rules about witnesses would soon be unmet."""
        limit = None if self._gate is None else self._gate.entries_max
        signed = 0 if self._checkpoint is None else self._checkpoint[0]
        return limit is not None and writer.size - signed > limit // 4

    def _open_gate(self, demands: WitnessDemands) -> WitnessGate:
        policy = demands.read_policy()
        if policy.logs and self._key not in policy.logs:
            raise PolicyInvalid(f"the witness policy is for other logs than {self._key}")
        return WitnessGate(self._key, policy, demands.rules)

    def _recall_cosignatures(self) -> None:
        """Take in again what was cosigned before this worker."""
        if self._gate is None or self._writer is None:
            return
        try:
            octets = read_regular(self._folder / WITNESSED, NOTE_MAX)
        except FileNotFoundError:
            return
        except OSError as error:
            self._log("cosignatures-not-recalled", detail=error.strerror)
            return
        try:
            self._take_cosigned(self._gate, self._writer, octets)
        except CosignaturesRefused as error:
            # Of another policy, or of a log that was put back; witnesses say which.
            self._log("cosignatures-not-recalled", detail=error)

    def _take_cosigned(self, gate: WitnessGate, writer: LogWriter, octets: bytes) -> tuple[int, Note]:
        try:
            note = Note.parse(octets)
            checkpoint = Checkpoint.open(note, self._key)
        except LogError as error:
            raise CosignaturesRefused(str(error)) from error
        try:
            is_ours = checkpoint.size <= writer.size and writer.root_at(checkpoint.size) == checkpoint.root
        except LogDamaged as error:
            raise CosignaturesRefused(str(error)) from error
        if not is_ours:
            # This module signed it, and the log does not have it: the log was put back, or there are two of it.
            self._log("log-forked", signed=checkpoint.size, entries=writer.size)
            with contextlib.suppress(LogError):
                writer.put(FORKED, note.pack())
            raise ModuleFault(f"this module signed {checkpoint.size} entries that its log does not begin with")
        return checkpoint.size, gate.take(checkpoint.size, note)

    def _append(self, entries: Sequence[bytes]) -> int:
        writer = self._require()
        try:
            first = writer.append(entries)
        except BatchTooLarge as error:
            raise FrameInvalid(str(error)) from error
        except LogError as error:
            self._give_up(error)
            raise LogUnavailable(str(error)) from error
        self._held = writer.frontier()
        return first

    def _require(self) -> LogWriter:
        """Return the writer; one that failed is replaced by one that has read again what is on the disk."""
        if self._writer is None:
            if monotonic() < self._reopen_at:
                raise LogUnavailable("the log cannot be written at present")
            self._reopen_at = monotonic() + _REOPEN_SECONDS
            try:
                writer = LogWriter.open(self._folder)
                self._require_continued(writer)
            except LogDamaged as error:
                # Nothing that this process could do next would make it better.
                raise ModuleFault(f"{error.reason}: {error}") from error
            except LogError as error:
                raise LogUnavailable(str(error)) from error
            self._writer = writer
            self._log("log-open-again", entries=writer.size)
        return self._writer

    def _require_continued(self, writer: LogWriter) -> None:
        if not writer.begins_with(self._held):
            writer.close()
            raise LogDamaged(f"the log no longer begins with the {self._held.size} entries that were durable")

    def _give_up(self, error: LogError) -> None:
        self._log("log-failed", reason=error.reason, detail=error)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    # --- what is written at a start -----------------------------------------------------------------------------

    def _write_start(self, writer: LogWriter) -> None:
        status = self._status
        facts = changes(self._session, status, writer.facts)
        if writer.is_torn:
            self._log("log-torn", after=writer.size)
        entries = [
            leaves.make(
                LeafType.START,
                now_milliseconds(),
                module=status.module_id,
                profile=status.profile.name.lower(),
                version=status.module_version,
                source=status.source_digest.hex(),
                # No checkpoint of this start was ever cosigned before, whatever disk and clock were put back to.
                nonce=os.urandom(16).hex(),
                torn=writer.is_torn or None,
                **state_of(self._session, status),
            ),
            *facts,
        ]
        self._append(entries)
        self._keep_facts(writer)

    def _keep_facts(self, writer: LogWriter) -> None:
        writer.facts |= {
            "keys": check_values(self._session),
            "mode": self._status.mode.name.lower(),
            "lease": self._leases.facts(),
        }
        try:
            writer.fold()
        except LogError as error:
            self._give_up(error)
            raise LogUnavailable(str(error)) from error
