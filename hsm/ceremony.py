"""Ceremony mode: initialise a token, load vending keys, install STA tables; each through the functionality module."""

from __future__ import annotations

from dataclasses import dataclass

from hsm.ceremony_requests import (
    BlockKeyItem,
    CentresItem,
    InitTokenItem,
    InstallTablesItem,
    KeyBlockItem,
    KeyNameItem,
    LoadKeyItem,
    LoadWrappedItem,
    TransportKey,
)
from hsm.errors import ModuleFault, ModuleRefusal
from hsm.mandate import Lease, Mandate, PolicyItem
from hsm.officers import Approval, BeginItem, Begun, ComponentPart, Enrolment, OfficersItem, unpack_approved
from hsm.reasons import Reason
from hsm.requests import HEADER_LENGTH, CheckValue, Item, Operation, SignedCheckpoint, pack_request
from hsm.session import ModuleSession
from hsm.status import Mode


@dataclass(frozen=True, slots=True)
class _Digest:
    octets: bytes

    def pack(self) -> bytes:
        """Return the 32 octets."""
        return self.octets


def _require(reason: int) -> None:
    if reason != Reason.OK:
        raise ModuleRefusal(Reason(reason))


class Ceremony:
    """What officers do to a token. The session must be in ceremony mode, which its configuration file decides."""

    def __init__(self, session: ModuleSession) -> None:
        """Take a session that is open.

        Raises:
            ModuleFault: the module is in another mode.
        """
        self._session = session
        if session.status().mode is not Mode.CEREMONY:
            raise ModuleFault("the functionality module is not in ceremony mode")

    @property
    def session(self) -> ModuleSession:
        """The session that it works with."""
        return self._session

    def _answer(self, operation: Operation, item: Item) -> bytes:
        return self._session.operate(operation, pack_request(operation, [item]))[HEADER_LENGTH:]

    def _bare(self, operation: Operation) -> bytes:
        return self._session.operate(operation, pack_request(operation))[HEADER_LENGTH:]

    def _one(self, operation: Operation, item: Item) -> CheckValue:
        return CheckValue.unpack(self._answer(operation, item))

    def init_token(self, item: InitTokenItem) -> bool:
        """Initialise the blank token; False if a token of this label stands, which is never touched."""
        reason = self._one(Operation.INIT_TOKEN, item).reason
        if reason not in (Reason.OK, Reason.KEY_EXISTS):
            raise ModuleRefusal(reason)
        return reason is Reason.OK

    def make_audit_key(self) -> tuple[bytes, bool]:
        """Make the key that signs the log; return its public half, and False if there was one."""
        return self._session.make_audit_key()

    def load_key(self, item: LoadKeyItem) -> tuple[CheckValue, bool]:
        """Load a vending key; return its check value, and False if this very key with this record was there.

        Raises:
            ModuleRefusal: KEY_EXISTS if another key or record has the name, or any rule of the record.
        """
        return self._loaded(Operation.LOAD_KEY, item)

    def _loaded(self, operation: Operation, item: Item) -> tuple[CheckValue, bool]:
        checked = self._one(operation, item)
        if checked.reason not in (Reason.OK, Reason.KEY_ALREADY_LOADED):
            raise ModuleRefusal(checked.reason)
        self._session.reload_keys()
        return checked, checked.reason is Reason.OK

    def officers(self) -> Enrolment | None:
        """Return who is enrolled; None if nobody is."""
        answer = self._bare(Operation.OFFICERS)
        reason = Reason(int.from_bytes(answer[:2], "big"))
        return Enrolment.unpack(answer[8:]) if reason is Reason.OK else None

    def begin(self, item: BeginItem) -> Begun:
        """Begin a ceremony, which ends the one before; raises ModuleRefusal."""
        begun = Begun.unpack(self._answer(Operation.BEGIN_CEREMONY, item))
        _require(begun.reason)
        return begun

    def set_officers(self, item: OfficersItem) -> None:
        """Enrol officers instead of those before; on a token without any, first propose them, then enrol them.

        Raises:
            ModuleRefusal: OFFICERS_INVALID, or not approved.
        """
        _require(self._one(Operation.SET_OFFICERS, item).reason)

    def approve(self, approval: Approval) -> tuple[int, int]:
        """Hand in an officer's signature; return how many have approved and how many must. Raises ModuleRefusal."""
        reason, count, needed = unpack_approved(self._answer(Operation.APPROVE, approval))
        _require(reason)
        return count, needed

    def enter_component(self, part: ComponentPart) -> CheckValue:
        """Enter some octets of a component; its check value comes with the last of them. Raises ModuleRefusal."""
        checked = self._one(Operation.COMPONENT, part)
        _require(checked.reason)
        return checked

    def destroy_key(self, item: KeyNameItem) -> None:
        """Destroy a vending key; raises ModuleRefusal."""
        _require(self._one(Operation.DESTROY_KEY, item).reason)
        self._session.reload_keys()

    def retire_key(self, item: KeyNameItem) -> None:
        """Have a vending key issue nothing any more; raises ModuleRefusal."""
        _require(self._one(Operation.RETIRE_KEY, item).reason)
        self._session.reload_keys()

    def make_transport_key(self) -> TransportKey:
        """Make the key pair for one delivery of keys, in place of the one before; raises ModuleRefusal."""
        made = TransportKey.unpack(self._bare(Operation.TRANSPORT_KEY))
        _require(made.reason)
        return made

    def end_transport(self) -> None:
        """Destroy the key pair: what was wrapped for it never opens again. Raises ModuleRefusal."""
        _require(CheckValue.unpack(self._bare(Operation.END_TRANSPORT)).reason)

    def load_wrapped(self, item: LoadWrappedItem) -> tuple[CheckValue, bool]:
        """Load a key that a centre has wrapped; as :meth:`load_key`, and the same key may take new limits and dates."""
        return self._loaded(Operation.LOAD_WRAPPED, item)

    def load_block(self, item: KeyBlockItem) -> tuple[CheckValue, bool]:
        """Load a key out of a key block of X9.143; as :meth:`load_wrapped`."""
        return self._loaded(Operation.LOAD_BLOCK, item)

    def set_block_key(self, item: BlockKeyItem) -> CheckValue:
        """Load the key block protection key from the components that were entered; raises ModuleRefusal."""
        checked = self._one(Operation.SET_BLOCK_KEY, item)
        _require(checked.reason)
        return checked

    def centres(self) -> CentresItem:
        """Return the centres whose files the token takes."""
        return CentresItem.unpack(self._bare(Operation.CENTRES)[8:])

    def set_centres(self, item: CentresItem) -> None:
        """Replace the list of centres; raises ModuleRefusal."""
        _require(self._one(Operation.SET_CENTRES, item).reason)

    def mandate(self) -> Mandate:
        """Return lease and policy that the token keeps."""
        return Mandate.unpack(self._bare(Operation.MANDATE))

    def set_lease(self, item: Lease) -> None:
        """Put a lease into the token; raises ModuleRefusal."""
        _require(self._one(Operation.SET_LEASE, item).reason)

    def set_policy(self, item: PolicyItem) -> None:
        """Put a policy in force; raises ModuleRefusal."""
        _require(self._one(Operation.SET_POLICY, item).reason)

    def sign_record(self, digest: bytes) -> bytes:
        """Have the audit key sign the record of the ceremony under way; return the signature. Raises ModuleRefusal."""
        answer = self._answer(Operation.SIGN_RECORD, _Digest(digest))
        signed = SignedCheckpoint.unpack(answer)
        _require(signed.reason)
        return signed.signature

    def install_tables(self, item: InstallTablesItem) -> None:
        """Replace the EA07 tables; raises ModuleRefusal unless each is a permutation of its range."""
        reason = self._one(Operation.INSTALL_TABLES, item).reason
        if reason is not Reason.OK:
            raise ModuleRefusal(reason)
