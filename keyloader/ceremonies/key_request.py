"""Ask a key management centre for keys: the module makes a key pair for one delivery, and signs its public half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from hsm.officers import CeremonyKind
from hsm.requests import Operation
from keyloader.ceremonies.base import Action, CeremonyType, Stage
from keyloader.errors import RecordInvalid
from keyloader.exchange.request_file import KeyRequest

_STEP = "transport key made"


class RequestKeys(CeremonyType):
    """A request; what was requested before and has not come is void."""

    code: ClassVar[CeremonyKind] = CeremonyKind.KEY_FILE
    kind: Literal["key-request"]

    def actions(self, folder: Path) -> list[Action]:  # noqa: ARG002 - no file beside the plan
        """Make the key pair."""
        return [
            Action(operation=Operation.TRANSPORT_KEY, item=None, what="make the transport key for one delivery of keys")
        ]

    def script(self) -> list[str]:
        """In words."""
        return [
            "The module makes a key pair for one delivery of keys; a request of before that was not answered is void.",
            "The request file is written beside the record, and goes to the key management centre.",
        ]

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:  # noqa: ARG002 - they are what this does
        """Make it."""
        made = stage.ceremony.make_transport_key()
        stage.step(_STEP, point=made.point.hex(), signature=made.signature.hex())

    def papers(self, fields: Mapping[str, Any], audit_key: bytes) -> dict[str, bytes]:
        """Return the request file."""
        return {"request.json": request_of(fields, audit_key).pack()}


def request_of(fields: Mapping[str, Any], audit_key: bytes) -> KeyRequest:
    """Return the request that a ceremony made, from its record; raises RecordInvalid if it made none."""
    made = next((step["facts"] for step in fields["steps"] if step["what"] == _STEP), None)
    if made is None or fields["outcome"] != "done":
        raise RecordInvalid("this ceremony made no request")
    module = fields["module"]
    return KeyRequest(
        module=module["id"],
        serial=module["token_serial"],
        profile=module["profile"],
        transport=made["point"],
        audit_key=audit_key.hex(),
        signature=made["signature"],
    )
