"""Errors of the log. ``hsm.errors.HsmError`` is the base of those that reach a client of the module process."""

from __future__ import annotations

from typing import ClassVar


class LogError(Exception):
    """Base of every error raised by :mod:`hsm.log`.

    Attributes:
        reason: stable code.
        retryable: whether the same call can succeed later.
        hint: what to do.
    """

    reason: ClassVar[str] = "LOG_ERROR"
    retryable: ClassVar[bool] = False
    hint: ClassVar[str] = "See the message."


class NoteInvalid(LogError):
    """A signed note or a key that is not of its form, or whose signature is wrong."""

    reason = "NOTE_INVALID"
    hint = "Compare the key with the one that the module's ceremony record shows; fetch the note again."


class CheckpointInvalid(LogError):
    """A checkpoint that is not of its form."""

    reason = "CHECKPOINT_INVALID"
    hint = "Fetch the checkpoint again; if it lasts, the file was altered."


class ProofInvalid(LogError):
    """A proof that does not prove what it should."""

    reason = "PROOF_INVALID"
    hint = "Treat what it was to prove as not proven; fetch it again from the log."


class LeafInvalid(LogError):
    """An entry that is not canonical, or of a version or type that this release does not know."""

    reason = "LEAF_INVALID"
    hint = "Use a release that knows this version; if there is none, the entry was not written by Keywatt."


class PolicyInvalid(LogError):
    """A witness policy that is not of its form."""

    reason = "WITNESS_POLICY_INVALID"
    hint = "See the message for the line; the format is c2sp.org/tlog-policy."


class RequestInvalid(LogError):
    """A request to a witness that is not of its form."""

    reason = "WITNESS_REQUEST_INVALID"
    hint = "The format is c2sp.org/tlog-witness."


class WitnessStateInvalid(LogError):
    """What a witness remembers cannot be read, or another process has it; it cosigns nothing."""

    reason = "WITNESS_STATE_INVALID"
    hint = "Restore the witness's folder; never an older copy of it, which would let a log be rewound."


class TileMissing(LogError):
    """A tile or bundle that should be there is not, or is too short."""

    reason = "TILE_MISSING"
    hint = "Copy the log again, whole; if the file is missing at its source, the log was altered."


class CursorInvalid(LogError):
    """A file that should hold how far was forwarded and does not."""

    reason = "CURSOR_INVALID"
    hint = "Put the right file back; without one everything is forwarded from entry 0 on."


class LogDamaged(LogError):
    """What is on the disk contradicts what was made durable or signed before; nothing is issued on such a log."""

    reason = "LOG_DAMAGED"
    hint = "Keep the folder as it is, and call the auditors: the log was altered or the disk restored."


class BatchTooLarge(LogError):
    """More octets at once than the journal holds; nothing was written."""

    reason = "LOG_BATCH_TOO_LARGE"
    hint = "Send fewer requests at once."


class LogUnavailable(LogError):
    """The log cannot be written; no token is released without its entry."""

    reason = "LOG_UNAVAILABLE"
    retryable = True
    hint = "See to the disk of the module process: space, permissions, errors. Issuing goes on by itself."
