"""Who has approved a campaign: officers of the token, as the sealed record of their enrolment names them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from hsm.errors import SignatureUnreadable
from hsm.ssh_signatures import OfficerKey, OfficerSignature
from keyloader import plan as plans
from keyloader import record
from keyloader.ceremonies.hand_over import HandOver
from keyloader.ceremonies.initialise import Initialise
from keyloader.ceremonies.officers import ChangeOfficers
from keyloader.errors import ApprovalRefused, RecordInvalid
from keyloader.keychange.campaign import NAMESPACE, CampaignFile
from keyloader.officer_list import OfficerList


def officers_of(path: Path, audit_key: bytes) -> OfficerList:
    """Return the officers that a ceremony has enrolled, from its record; raises RecordInvalid.

    Whether they are still the ones, :func:`require_current` tells.
    """
    verified = record.verify(record.read(path), audit_key)
    if not verified.is_done or verified.fields["rehearsal"]:
        raise RecordInvalid("this ceremony enrolled nobody: it was refused, or a rehearsal")
    ceremony = plans.parse(str(verified.fields["plan"]), "the plan").ceremony
    if not isinstance(ceremony, Initialise | ChangeOfficers | HandOver):
        raise RecordInvalid("this ceremony enrolled nobody: give the record of the last one that did")
    return ceremony.officers


def require_current(officers: OfficerList, reported: str) -> None:
    """See that the module of the appliance has these very officers, and no later ones.

    Args:
        officers: from a record.
        reported: digest of the module's list of officers as the appliance gives it; empty for a token without any,
            which is one of development.

    Raises:
        ApprovalRefused: others have been enrolled since.
    """
    if reported and reported != officers.enrolment.digest.hex():
        raise ApprovalRefused("the module has other officers than this record enrolled: give the record of the last")


def require(campaign: CampaignFile, signatures: Sequence[Path], officers: OfficerList, today: date) -> list[str]:
    """See that enough different officers, within their terms, have signed the campaign; return their names.

    Raises:
        ApprovalRefused: a signature proves nothing, or there are too few.
    """
    names: list[str] = []
    for path in signatures:
        try:
            signature = OfficerSignature.parse(path.read_text("ascii", "replace"))
        except OSError as error:
            raise ApprovalRefused(f"{path}: {error.strerror}") from None
        except SignatureUnreadable as error:
            raise ApprovalRefused(f"{path}: {error}") from None
        entry = next((one for one in officers.officer if OfficerKey.parse(one.key) == signature.key), None)
        if entry is None:
            raise ApprovalRefused(f"{path}: this is the key of no officer")
        if not signature.proves(OfficerKey.parse(entry.key), NAMESPACE, campaign.text.encode()):
            raise ApprovalRefused(f"{path}: {entry.name} has not signed this campaign")
        if not entry.valid_from <= today < entry.valid_until:
            raise ApprovalRefused(f"{path}: the term of {entry.name} has not begun or is over")
        if entry.name not in names:
            names.append(entry.name)
    needed = max(campaign.campaign.approvals, officers.needed)
    if len(names) < needed:
        raise ApprovalRefused(f"{len(names)} officers have approved this campaign, {needed} must")
    return names
