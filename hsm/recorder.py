"""Writes the module's log: no answer of the module leaves this process before its entry is durable.

Stands between the functionality module and the socket, in the worker. What the appliance says of the asker is written
down as it says it; all else comes from the request that the module worked on and from its answer.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from time import monotonic, time_ns

from hsm.errors import FrameInvalid, HsmError, LogUnavailable, ModuleFault, ModuleRefusal
from hsm.frames import NOBODY, Asker, pack_indices
from hsm.keys import KeyReference, VendingKey
from hsm.log import leaves
from hsm.log.checkpoints import Checkpoint
from hsm.log.errors import BatchTooLarge, LogDamaged, LogError
from hsm.log.leaves import LeafType, token_hash
from hsm.log.merkle import Frontier
from hsm.log.notes import ED25519, Note, Signature, VerifierKey
from hsm.log.writer import LogWriter
from hsm.reasons import Reason
from hsm.requests import HEADER_LENGTH, Operation
from hsm.session import ModuleSession

_ISSUE = struct.Struct(">BBBBBB2s18s6xI12x16s")
_ISSUED = struct.Struct(">HBBBB2xI20s16s")
_VERIFY = struct.Struct(">BB2x2s18s20s4x")
_VERIFIED = struct.Struct(">HBBBBBxI4x16s")
_CHANGE = struct.Struct(">BBBB2s2s18s6s8xB23x")
_CHANGED = struct.Struct(">HBBBBBB80s8x")
_VALIDATE_ONLY = {Operation.ISSUE: 0x02, Operation.KEY_CHANGE: 0x01}
_REOPEN_SECONDS = 1.0
_KEYS_IN_A_LEAF = 1000
Log = Callable[..., None]


def _now() -> int:
    return time_ns() // 1_000_000


def _number(octets: bytes) -> str:
    return str(int.from_bytes(octets, "big", signed=True))


class Recorder:
    """The log of one worker.

    Args:
        session: the functionality module, logged in.
        folder: the log.
        checkpoint_seconds: how long a checkpoint is the newest while entries are added.
        log: writes a line of the worker's own log.
    """

    def __init__(self, session: ModuleSession, folder: Path, *, checkpoint_seconds: float, log: Log) -> None:
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
        # What was made durable last: a log that is opened again must begin with it.
        self._held = Frontier()

    def open(self) -> None:
        """Open the log and write that this worker starts, in which mode and with which keys.

        Raises:
            LogUnavailable, LogDamaged: this worker must not serve.
        """
        self._writer = LogWriter.open(self._folder)
        self._log("log-open", entries=self._writer.size, verifier_key=self._key)
        # For convenience: who wants proof takes the key from the record of the ceremony, not from beside the log.
        self._writer.put("verifier-key", f"{self._key}\n".encode())
        self._write_start(self._writer)
        self.checkpoint()

    def close(self) -> None:
        """Write that this worker stops, and sign the last checkpoint."""
        if self._writer is None:
            return
        try:
            self._append([leaves.make(LeafType.STOP, _now(), module=self._status.module_id)])
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
        made = list(_LEAVES[operation](request, answer, key, askers))
        entries = [entry for entry in made if entry is not None]
        index = self._append(entries) if entries else 0
        indices: list[int | None] = []
        for entry in made:
            indices.append(None if entry is None else index)
            index += entry is not None
        return pack_indices(indices)

    def refuse(self, operation: Operation, reference: KeyReference | None, askers: list[Asker], reason: str) -> None:
        """Write that a whole batch was refused, for each of those who asked. Raises LogUnavailable."""
        now = _now()
        self._append(
            [
                leaves.make(
                    LeafType.REFUSAL,
                    now,
                    operation=operation.name.lower().replace("_", "-"),
                    reason=reason,
                    key=None if reference is None else str(reference),
                    client=asker.client,
                    request=asker.request_id.hex(),
                )
                for asker in askers
            ]
        )

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

    def tick(self) -> None:
        """Sign a checkpoint if one is due."""
        if monotonic() < self._checkpoint_at or self._writer is None:
            return
        try:
            self.checkpoint()
        except (LogUnavailable, HsmError) as error:
            self._log("checkpoint-failed", reason=error.reason, detail=error)

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
        status, now = self._status, _now()
        keys = {str(key.reference): key.check_value.hex() for key in self._session.keys}
        before, mode_before = writer.facts.get("keys", {}), writer.facts.get("mode")
        if not isinstance(before, dict):
            raise LogDamaged("state.json is not what a writer leaves")
        if writer.is_torn:
            self._log("log-torn", after=writer.size)
        entries = [
            leaves.make(
                LeafType.START,
                now,
                module=status.module_id,
                mode=status.mode.name.lower(),
                profile=status.profile.name.lower(),
                version=status.module_version,
                source=status.source_digest.hex(),
                tables=status.tables_digest.hex(),
                tables_name=status.tables_name,
                token_serial=status.token_serial,
                torn=writer.is_torn or None,
                keys=len(keys),
                keys_digest=hashlib.sha256(leaves.encode(keys)).hexdigest(),
            )
        ]
        if mode_before not in (None, status.mode.name.lower()):
            entries.append(leaves.make(LeafType.MODE, now, before=mode_before, after=status.mode.name.lower()))
        added = sorted(f"{name} {value}" for name, value in keys.items() if before.get(name) != value)
        removed = sorted(f"{name} {value}" for name, value in before.items() if keys.get(name) != value)
        for start in range(0, max(len(added), len(removed)), _KEYS_IN_A_LEAF):
            end = start + _KEYS_IN_A_LEAF
            entries.append(leaves.make(LeafType.KEYS, now, added=added[start:end], removed=removed[start:end]))
        self._append(entries)
        writer.facts = {"keys": keys, "mode": status.mode.name.lower()}
        writer.fold()


def _each(askers: list[Asker]) -> Iterator[Asker]:
    return iter(askers) if askers else repeat(NOBODY)


def _refusal(
    operation: str,
    reason: int,
    asker: Asker,
    key: VendingKey | None,
    meter: bytes,
    now: int,
    **fields: object,
) -> bytes:
    return leaves.make(
        LeafType.REFUSAL,
        now,
        operation=operation,
        reason=Reason(reason).name,
        client=asker.client,
        request=asker.request_id.hex(),
        key=None if key is None else str(key.reference),
        meter=_digits(meter),
        **fields,
    )


def _digits(octets: bytes) -> str | None:
    """Return digits that the request brought, or None: what a stranger sent is written down only if it is digits."""
    return octets.decode("ascii") if octets.isdigit() else None


def _issue_leaves(request: bytes, answer: bytes, key: VendingKey | None, askers: list[Asker]) -> Iterator[bytes | None]:
    now = _now()
    named = None if key is None else (int(key.base_date), str(key.reference), key.check_value.hex())
    items = _ISSUE.iter_unpack(request[HEADER_LENGTH:])
    answers = _ISSUED.iter_unpack(answer[HEADER_LENGTH:])
    for item, made, asker in zip(items, answers, _each(askers)):  # noqa: B905 - askers may be endless
        token_class, subclass, ea, flags, _, tct, ti, pan, _, value = item
        if flags & _VALIDATE_ONLY[Operation.ISSUE]:
            yield None
        elif made[0]:
            yield _refusal(
                "issue",
                made[0],
                asker,
                key,
                pan,
                now,
                **{"class": token_class},
                subclass=subclass,
                value=_number(value),
            )
        else:
            _, token_class, subclass, marks, _, tid, digits, granted = made
            yield leaves.issue(
                time=now,
                client=asker.client,
                request=asker.request_id.hex(),
                key=named,
                ea=ea,
                tct=tct,
                marks=marks,
                meter=pan.decode("ascii"),
                ti=ti.decode("ascii"),
                token_class=token_class,
                subclass=subclass,
                tid=tid,
                value=int.from_bytes(granted, "big", signed=True),
                token=token_hash(digits),
            )


def _verify_leaves(
    request: bytes, answer: bytes, key: VendingKey | None, askers: list[Asker]
) -> Iterator[bytes | None]:
    now = _now()
    items = _VERIFY.iter_unpack(request[HEADER_LENGTH:])
    answers = _VERIFIED.iter_unpack(answer[HEADER_LENGTH:])
    for item, found, asker in zip(items, answers, _each(askers)):  # noqa: B905 - askers may be endless
        _, _, _, pan, digits = item
        reason, token_class, subclass, marks, _, _, tid, value = found
        is_genuine = reason == Reason.OK
        yield leaves.make(
            LeafType.VERIFY,
            now,
            result=Reason(reason).name,
            client=asker.client,
            request=asker.request_id.hex(),
            key=None if key is None else str(key.reference),
            meter=_digits(pan),
            token=token_hash(digits),
            tid=tid if is_genuine else None,
            subclass=subclass if is_genuine else None,
            value=_number(value) if is_genuine else None,
            marks=marks if is_genuine else None,
            **({"class": token_class} if is_genuine else {}),
        )


def _change_leaves(
    request: bytes, answer: bytes, key: VendingKey | None, askers: list[Asker]
) -> Iterator[bytes | None]:
    now = _now()
    items = _CHANGE.iter_unpack(request[HEADER_LENGTH:])
    answers = _CHANGED.iter_unpack(answer[HEADER_LENGTH:])
    for item, made, asker in zip(items, answers, _each(askers)):  # noqa: B905 - askers may be endless
        ea, _, tct, new_krn, old_ti, new_ti, pan, new_sgc, flags = item
        reason, count, marks, ken, _, key_type, rollover, digits = made
        target = f"{_digits(new_sgc) or ''}/{new_krn}"
        if flags & _VALIDATE_ONLY[Operation.KEY_CHANGE]:
            yield None
        elif reason or key is None:
            yield _refusal("key-change", reason, asker, key, pan, now, new_key=target)
        else:
            yield leaves.make(
                LeafType.KEY_CHANGE,
                now,
                client=asker.client,
                request=asker.request_id.hex(),
                key=str(key.reference),
                kcv=key.check_value.hex(),
                new_key=target,
                new_ken=ken,
                new_kt=key_type,
                meter=pan.decode("ascii"),
                ti=old_ti.decode("ascii"),
                new_ti=new_ti.decode("ascii"),
                ea=ea,
                tct=tct,
                marks=marks,
                rollover=bool(rollover),
                tokens=[token_hash(digits[20 * place : 20 * place + 20]) for place in range(count)],
            )


_LEAVES = {
    Operation.ISSUE: _issue_leaves,
    Operation.VERIFY: _verify_leaves,
    Operation.KEY_CHANGE: _change_leaves,
}
