"""Errors of the appliance itself; ``sts.errors`` has those of the standard, ``hsm.errors`` those of the module."""

from __future__ import annotations

from typing import ClassVar


class ApplianceError(Exception):
    """Base of every error raised by :mod:`appliance`.

    Attributes:
        reason: stable code, which reaches the client.
        retryable: whether the same request can succeed later.
        hint: what the operator should do.
        details: further fields for the client; never digits, never secrets.
    """

    reason: ClassVar[str] = "APPLIANCE_ERROR"
    retryable: ClassVar[bool] = False
    hint: ClassVar[str] = "See the log of the appliance."

    def __init__(self, message: str, **details: str) -> None:
        super().__init__(message)
        self.details = details


class FieldMissing(ApplianceError):
    """A field that the request needs is missing or unspecified."""

    reason = "FIELD_MISSING"
    hint = "Fill in the field that the message names."


class FieldInvalid(ApplianceError):
    """A field has a value that is not of its form."""

    reason = "FIELD_INVALID"
    hint = "See the message for the field and its form."


class AuditorRequired(ApplianceError):
    """Something that shows what others were issued, asked for by a client that is no auditor."""

    reason = "AUDITOR_REQUIRED"
    hint = "Ask with the certificate of an auditor, or have this client named in audit.auditors."


class LogEntryUnknown(ApplianceError):
    """An entry or a tree beyond what the newest checkpoint of the module's log covers."""

    reason = "LOG_ENTRY_UNKNOWN"
    hint = "Ask for a smaller index or size; GetCheckpoint with fresh tells how far the log goes."


class LogUnreadable(ApplianceError):
    """The appliance cannot read the module's log. Issuing does not need it."""

    reason = "LOG_UNREADABLE"
    retryable = True
    hint = "See that audit.log names the folder of the module's log and that the appliance's user may read it."


class ClientUnnamed(ApplianceError):
    """A client whose certificate names nobody."""

    reason = "CLIENT_UNNAMED"
    hint = "Give the client a certificate with a subject alternative name; requests are kept under it."


class KeyChangeRequired(ApplianceError):
    """The meter holds another key than it ought to: it needs key-change tokens first."""

    reason = "KEY_CHANGE_REQUIRED"
    hint = "Issue key-change tokens for the meter, have them entered, then repeat the sale."


class MeterKeyMismatch(ApplianceError):
    """The meter is said to hold a key type or base date that the vending key named for it does not have."""

    reason = "METER_KEY_MISMATCH"
    hint = "Name the vending key that the meter really holds, and give the one that it ought to hold as assignment."


class RequestIdReused(ApplianceError):
    """A request id that this client used before, for another request."""

    reason = "REQUEST_ID_REUSED"
    hint = "Make a new request id for every new request; repeat a request with its own id, unchanged."


class IssuanceUnknown(ApplianceError):
    """No issuance of this client has this request id: nothing was issued under it."""

    reason = "ISSUANCE_UNKNOWN"
    hint = "Nothing was issued under this request id; repeat the request with the same id if it is still wanted."


class QueueFull(ApplianceError):
    """More requests wait than the appliance takes in."""

    reason = "QUEUE_FULL"
    retryable = True
    hint = "Retry after the time given, with the same request id; spread the load or use batches."


class DeadlinePassed(ApplianceError):
    """The client's deadline passed before work on its request began; nothing was issued."""

    reason = "DEADLINE_PASSED"
    retryable = True
    hint = "Repeat with the same request id and more time; if it lasts, the appliance has more load than it can carry."


class ClockStopped(ApplianceError):
    """The clock stepped back, or forward beyond policy: issuing has stopped."""

    reason = "CLOCK_STOPPED"
    hint = "Set the clock right; issuing goes on by itself, or after `keywatt-ledger confirm-clock` (docs/runbook.md)."


class LedgerUnavailable(ApplianceError):
    """The ledger cannot be read or written; nothing that was not durable was given out."""

    reason = "LEDGER_UNAVAILABLE"
    retryable = True
    hint = "Repeat with the same request id; the operator sees to the database: disk space, permissions, connection."


class LedgerConflict(ApplianceError):
    """Another appliance worked on the same thing at the same moment; nothing was given out."""

    reason = "LEDGER_CONFLICT"
    retryable = True
    hint = "Repeat with the same request id."


class LogEntryUnwitnessed(ApplianceError):
    """No checkpoint that covers this entry has been cosigned by enough witnesses."""

    reason = "LOG_ENTRY_UNWITNESSED"
    retryable = True
    hint = "Repeat in some seconds; if it lasts, see what the appliance's log says of witnesses."


class AnswerUnreadable(ApplianceError):
    """The stored answer of a request does not open."""

    reason = "ANSWER_UNREADABLE"
    hint = "Put the ledger key of that time back into the key file; if it is there, the database was altered."


class IdentifierLookAhead(ApplianceError):
    """So many tokens for one meter that the next identifier would be too far in the future."""

    reason = "IDENTIFIER_LOOK_AHEAD"
    retryable = True
    hint = "Wait a few minutes: one meter takes one token a minute."


class IdentifierUsed(ApplianceError):
    """The reserved identifier of this date was given to this meter before."""

    reason = "IDENTIFIER_USED"
    hint = "The allowance of this date was issued already; look the token up instead."


class CertificationOnly(ApplianceError):
    """Something that exists in certification mode only."""

    reason = "CLOCK_NOT_SETTABLE"
    hint = "A time can be given in certification mode only."


class IssueTimeMissing(ApplianceError):
    """Certification mode has no clock of its own."""

    reason = "CLOCK_MISSING"
    hint = "Give certification.issue_time, a naive local time to the minute."


class PageTokenInvalid(ApplianceError):
    """A page token that this service did not make."""

    reason = "PAGE_TOKEN_INVALID"
    hint = "Take next_page_token of the page before as it is, or begin again without one."


class ConfigurationInvalid(ApplianceError):
    """The appliance's configuration is missing, wrong, or unsafe for its profile."""

    reason = "CONFIGURATION_INVALID"
    hint = "See the message for the field; docs/runbook.md lists them all."


class PolicyInvalid(ApplianceError):
    """A policy that is not of its form, is for another module, or contradicts itself."""

    reason = "POLICY_INVALID"
    hint = "See the message for the field; docs/policy.md has the form. The policy in force stays in force."


class PolicyUnsigned(ApplianceError):
    """A policy that too few officers have signed."""

    reason = "POLICY_UNSIGNED"
    hint = "Have it signed by as many different officers as the token says; the policy in force stays in force."


class PolicyOutdated(ApplianceError):
    """A policy whose number is below that of one that was in force."""

    reason = "POLICY_OUTDATED"
    hint = "Give the policy a greater number and have it signed again; going back is a new policy too."


class NotAuthorised(ApplianceError):
    """The policy does not allow this to this client."""

    reason = "NOT_AUTHORISED"
    hint = "Ask for what the policy allows, or have two officers sign a policy that allows this."


class ClientRevoked(ApplianceError):
    """A client that the policy has revoked."""

    reason = "CLIENT_REVOKED"
    hint = "This client may do nothing any more; give it a new certificate and name in a new policy if it should."


class LimitExceeded(ApplianceError):
    """A limit of the policy has been reached; nothing was issued."""

    reason = "LIMIT_EXCEEDED"
    hint = "Wait until the time given, or have two officers sign a policy with another limit."


class ApprovalRequired(ApplianceError):
    """Something that the policy lets nobody issue alone."""

    reason = "APPROVAL_REQUIRED"
    hint = "Propose it with keywatt.approval.v1 (keywatt approval propose), have others approve it, then execute it."


class ProposalUnknown(ApplianceError):
    """No proposal with this id, or none that this client may see."""

    reason = "PROPOSAL_UNKNOWN"
    hint = "See which proposals are open (keywatt approval list)."


class ProposalClosed(ApplianceError):
    """A proposal that was rejected or executed, or whose time is over."""

    reason = "PROPOSAL_CLOSED"
    hint = "Propose it anew, with a new request id, if it is still wanted."


class ProposalDiffers(ApplianceError):
    """An approval of something else than was proposed."""

    reason = "PROPOSAL_DIFFERS"
    hint = "Look at the proposal again, and approve what it says now."


class SignalRefused(ApplianceError):
    """A request that looks like misuse, which the policy refuses."""

    reason = "SIGNAL_REFUSED"
    hint = "See who asks, and why; two officers can sign a policy with other signals."


class CertificateRevoked(ApplianceError):
    """A client certificate that was revoked, has run out, or is of an authority that is not believed any more."""

    reason = "CERTIFICATE_REVOKED"
    hint = "Give the client a new certificate; see who uses the old one."


class RevocationUnknown(ApplianceError):
    """Nobody can say whether a client certificate was revoked: its authority's list is missing, or out of date."""

    reason = "REVOCATION_UNKNOWN"
    hint = "Put a fresh revocation list of the client's authority into the file of tls.revocation_lists."
