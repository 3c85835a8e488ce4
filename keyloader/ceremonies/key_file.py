"""Load the keys of a key-load file, which lies beside the plan; afterwards nothing opens that file again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field

from hsm.ceremony_requests import Centre as EnrolledCentre
from hsm.ceremony_requests import CentresItem, LoadWrappedItem
from hsm.officers import CeremonyKind
from hsm.requests import Operation
from keyloader.ceremonies.base import Action, CeremonyType, Stage, Throwaway
from keyloader.errors import PlanInvalid
from keyloader.exchange.centre import Centre, ClearKey, throwaway_key
from keyloader.exchange.key_load_file import KeyLoadFile
from keyloader.exchange.request_file import KeyRequest

_REHEARSAL_FILE = "rehearsal-keys.json"


class LoadKeyFile(CeremonyType):
    """Keys that a centre sent.

    Args:
        file: name of the file in the plan's folder.
        sha256: of the file, as ``sha256sum`` and ``keyloader lint`` show it.
        centre: name of the centre that has signed it, which must be enrolled.
    """

    code: ClassVar[CeremonyKind] = CeremonyKind.KEY_FILE
    needs_files: ClassVar[bool] = True
    kind: Literal["key-file"]
    file: Annotated[str, Field(pattern=r"^[^/]+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    centre: Annotated[str, Field(min_length=1, max_length=32)]

    def read(self, folder: Path) -> KeyLoadFile:
        """Read the file; raises PlanInvalid or KeyLoadFileInvalid."""
        path = folder / self.file
        found = KeyLoadFile.read(path)
        found.require_signed()
        if hashlib.sha256(path.read_bytes()).hexdigest() != self.sha256:
            raise PlanInvalid(f"{self.file} is another file than the plan says")
        if found.centre != self.centre:
            raise PlanInvalid(f"{self.file} is of {found.centre}, the plan names {self.centre}")
        return found

    def actions(self, folder: Path) -> list[Action]:
        """Load each key, then end the transport key."""
        found = self.read(folder)
        actions = [
            Action(
                operation=Operation.LOAD_WRAPPED,
                item=found.item(key),
                what=f"load vending key {key.attributes.name} of {found.centre}, check value {key.check_value}",
            )
            for key in found.keys
        ]
        end = Action(operation=Operation.END_TRANSPORT, item=None, what="destroy the transport key of this delivery")
        return [*actions, end]

    def may_change(self, folder: Path) -> frozenset[str]:
        """Name them: a key that is there takes new dates and limits."""
        return frozenset(key.attributes.name for key in self.read(folder).keys)

    def script(self) -> list[str]:
        """In words."""
        return [
            f"The keys of {self.file} with SHA-256 {self.sha256} are loaded; {self.centre} has signed each of them.",
            "Each key's check value is read out and compared with the letter of the centre.",
            "The transport key is destroyed: the file opens nowhere any more.",
        ]

    def rehearsed(self, throwaway: Throwaway) -> tuple[CeremonyType, Path]:
        """Have a throw-away centre send throw-away keys of the same names."""
        centre = Centre(name=self.centre, private=Ed25519PrivateKey.generate())
        real = self.read(throwaway.plan_folder)
        trust = CentresItem(centres=[EnrolledCentre(name=centre.name, key=centre.key.public)])
        enrol = Action(operation=Operation.SET_CENTRES, item=trust, what="enrol a centre to rehearse with")
        with throwaway.holding(CeremonyKind.OFFICERS, enrol) as ceremony:
            ceremony.set_centres(trust)
        ask = Action(operation=Operation.TRANSPORT_KEY, item=None, what="make a transport key to rehearse with")
        with throwaway.holding(CeremonyKind.KEY_FILE, ask) as ceremony:
            made = ceremony.make_transport_key()
            status = ceremony.session.status()
            request = KeyRequest(
                module=status.module_id,
                serial=status.token_serial,
                profile="development",
                transport=made.point.hex(),
                audit_key=ceremony.session.audit_key().hex(),
                signature=made.signature.hex(),
            )
        keys = [
            ClearKey(attributes=key.attributes, key=throwaway_key(key.attributes.key_length, number))
            for number, key in enumerate(real.keys)
        ]
        octets = centre.send(request, keys).pack()
        (throwaway.folder / _REHEARSAL_FILE).write_bytes(octets)
        update = {"file": _REHEARSAL_FILE, "sha256": hashlib.sha256(octets).hexdigest()}
        return self.model_copy(update=update), throwaway.folder

    def perform(self, stage: Stage, actions: Sequence[Action]) -> None:
        """Load."""
        for action in actions:
            if isinstance(action.item, LoadWrappedItem):
                checked, is_new = stage.ceremony.load_wrapped(action.item)
                load = action.item.load
                stage.step(
                    "vending key loaded" if is_new else "this very key was there already",
                    key=f"{load.supply_group_code}/{load.key_revision_number}",
                    check_value=checked.octets.hex().upper(),
                    algorithm=checked.algorithm.label,
                    expected=load.expected.hex().upper(),
                )
        stage.ceremony.end_transport()
        stage.step("transport key destroyed", file_sha256=self.sha256, centre=self.centre)
