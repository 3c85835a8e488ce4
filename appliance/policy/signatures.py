"""Who has signed a policy: officers of the token, as the module names them; each counts once, within his term."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.errors import PolicyUnsigned
from appliance.policy.document import Policy
from hsm.errors import SignatureUnreadable
from hsm.officers import CeremonyKind, Enrolment
from hsm.ssh_signatures import OfficerSignature

NAMESPACE = "policy@keywatt.dev"
"""What ssh-keygen -Y sign is given as -n for a policy."""
_SIGNATURES_MAX = 64


def signers(policy: Policy, signatures: Sequence[OfficerSignature], officers: Enrolment, minute: int) -> list[str]:
    """Return the names of the officers whose signatures prove this policy.

    Args:
        policy: as it was read.
        signatures: of anybody, over anything; those that prove nothing of it do not count.
        officers: of the token.
        minute: minutes since 1970 UTC.
    """
    message = policy.text.encode()
    return [
        officer.name
        for officer in officers.officers
        if officer.valid_from <= minute < officer.valid_until
        and any(
            # Of a FIDO2 key the token keeps its application by digest.
            signature.key.public == officer.key
            and signature.key.application_digest == officer.application_digest
            and signature.proves(signature.key, NAMESPACE, message)
            for signature in signatures
        )
    ]


def require(policy: Policy, signatures: Sequence[OfficerSignature], officers: Enrolment, minute: int) -> list[str]:
    """As :func:`signers`; raises PolicyUnsigned unless there are as many as the token says, two at least."""
    names = signers(policy, signatures, officers, minute)
    needed = max(2, officers.thresholds[CeremonyKind.POLICY])
    if len(names) < needed:
        raise PolicyUnsigned(
            f"policy {policy.number} has the signatures of {len(names)} officers, {needed} must sign it"
        )
    return names


def read_all(folder: Path) -> list[OfficerSignature]:
    """Return every signature in a folder (``*.sig``); files that are none are passed over. Raises PolicyUnsigned."""
    found = []
    try:
        for path in sorted(folder.glob("*.sig"))[:_SIGNATURES_MAX]:
            try:
                found.append(OfficerSignature.parse(path.read_text("ascii", "replace")))
            except SignatureUnreadable:
                continue
    except OSError as error:
        raise PolicyUnsigned(f"{folder}: {error.strerror}") from None
    return found
