"""How a ceremony is approved: officers sign one after the other, and the module counts them."""

from __future__ import annotations

from hsm.errors import ModuleRefusal, SignatureUnreadable
from hsm.officers import Approval, EnrolledOfficer, Enrolment
from hsm.ssh_signatures import OfficerKey, OfficerSignature
from keyloader.ceremonies.base import Approver
from keyloader.errors import ApprovalRefused, CeremonyStopped
from keyloader.record import now
from keyloader.stage import TableStage

_ATTEMPTS = 3
_NOBODY = "nobody: stop here"


def collect(stage: TableStage, enrolled: Enrolment, text: str) -> None:
    """Have as many officers sign as are needed; what the module refuses is asked again, three times in all.

    Raises:
        ApprovalRefused: too many signatures were refused.
        CeremonyStopped: those present ended it.
    """
    fields = stage.record.fields
    needed, attempts = int(fields["needed"]), 0
    left = [officer.name for officer in enrolled.officers]
    while len(stage.approvers) < needed:
        stage.desk.say(f"{len(stage.approvers)} of {needed} officers have approved.")
        name = stage.choose("Who approves now?", [*left, _NOBODY])
        if name not in left:
            raise CeremonyStopped("those present ended it")
        officer = next(one for one in enrolled.officers if one.name == name)
        try:
            signature = stage.signer.sign(stage.desk, officer, text)
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


def _require_key_of(officer: EnrolledOfficer, signature: OfficerSignature) -> None:
    if signature.key.public != officer.key:
        raise SignatureUnreadable(f"this is not the key of {officer.name}")
