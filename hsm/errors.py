"""Errors of the module boundary. Every class says whether a retry helps and what the operator should do.

None carries token digits, key octets or PINs; a PKCS#11 return code is named, its arguments are not.
"""

from __future__ import annotations

from hsm import reasons

_PASSING = frozenset({reasons.Reason.VERIFICATION_LIMIT, reasons.Reason.LOG_NOT_WITNESSED})


class HsmError(Exception):
    """Base of every error raised by :mod:`hsm`."""

    reason: str = "MODULE_ERROR"
    retryable: bool = False
    hint: str = "See the log of the module process."


class ModuleUnavailable(HsmError):
    """No module process answers on its socket."""

    reason = "MODULE_UNAVAILABLE"
    retryable = True
    hint = "Retry; if it lasts, see that the module process runs."


class ModuleInterrupted(HsmError):
    """The module process went away while the request was in flight; it may have been executed."""

    reason = "MODULE_INTERRUPTED"
    retryable = True
    hint = "Repeat with the same request id: no token of it was given out. The module process restarts by itself."


class ModuleTimeout(HsmError):
    """The module did not answer in time."""

    reason = "MODULE_TIMEOUT"
    retryable = True
    hint = "Repeat with the same request id: no token of it was given out. A hung library is replaced by itself."


class ModuleBusy(HsmError):
    """Too many requests wait for the module."""

    reason = "MODULE_BUSY"
    retryable = True
    hint = "Retry after the time given; spread the load or batch it."


class ModuleFault(HsmError):
    """The PKCS#11 library failed; nothing of the request was released."""

    reason = "MODULE_FAULT"
    retryable = True
    hint = "Retry once; if it lasts, take the module out of service and see its log."


class LogUnavailable(HsmError):
    """The module cannot write its log; no token is released without its entry."""

    reason = "LOG_UNAVAILABLE"
    retryable = True
    hint = "Repeat with the same request id; the operator sees to the disk of the module process's log."


class CosignaturesRefused(HsmError):
    """Cosignatures for the module that prove nothing: of a checkpoint that is not its log's, or of no known witness."""

    reason = "COSIGNATURES_REFUSED"
    hint = "Compare the witness policies of appliance and module process; if they agree, call the auditors."


class ModuleChanged(HsmError):
    """Another module, or another mode, answers than the one this appliance started with."""

    reason = "MODULE_CHANGED"
    hint = "Restart the appliance, after seeing that the module is the one that is meant."


class VendingKeyUnknown(HsmError):
    """The module holds no vending key of this supply group and revision."""

    reason = "VENDING_KEY_UNKNOWN"
    hint = "Check supply group code and key revision number; load the key in a ceremony if it is missing."


class FrameInvalid(HsmError):
    """A message on the module's socket that breaks its format."""

    reason = "FRAME_INVALID"
    hint = "Appliance and module process are of different versions; install the same on both."


class RecordInvalid(HsmError):
    """A key record that does not parse; the module would not have shown it."""

    reason = "KEY_RECORD_INVALID"
    hint = "Appliance and module process are of different versions; install the same on both."


class SelfTestFailed(HsmError):
    """A known-answer or concurrency self-test failed; the module serves nothing."""

    reason = "SELF_TEST_FAILED"
    hint = "Take the module out of service; see which test failed in its log."


class ModuleRefusal(HsmError):
    """The module refused an item by one of its rules; nothing was issued."""

    def __init__(self, reason: reasons.Reason) -> None:
        super().__init__("refused by a rule of the module")
        self.code = reason
        self.reason = reason.name
        self.hint = reasons.hint(reason)
        self.retryable = reason in _PASSING


class SignatureUnreadable(HsmError):
    """An officer's key or signature that is not in OpenSSH's format."""

    reason = "SIGNATURE_UNREADABLE"
    hint = "Make keys with ssh-keygen -t ed25519 (or ed25519-sk), signatures with ssh-keygen -Y sign."


class LeaseUnreadable(HsmError):
    """A lease that is not of its form, or for another module."""

    reason = "LEASE_UNREADABLE"
    hint = "Have it printed by `keywatt lease text`, and sign it as it is (docs/lease.md)."
