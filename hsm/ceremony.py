"""Ceremony mode: initialise a token, load vending keys, install STA tables; each through the functionality module."""

from __future__ import annotations

from hsm.errors import ModuleFault, ModuleRefusal
from hsm.reasons import Reason
from hsm.requests import (
    HEADER_LENGTH,
    CheckValue,
    InitTokenItem,
    InstallTablesItem,
    Item,
    LoadKeyItem,
    Operation,
    pack_request,
)
from hsm.session import ModuleSession
from hsm.status import Mode


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

    def _one(self, operation: Operation, item: Item) -> CheckValue:
        answer = self._session.operate(operation, pack_request(operation, [item]))
        return CheckValue.unpack(answer[HEADER_LENGTH:])

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
        checked = self._one(Operation.LOAD_KEY, item)
        if checked.reason not in (Reason.OK, Reason.KEY_ALREADY_LOADED):
            raise ModuleRefusal(checked.reason)
        self._session.reload_keys()
        return checked, checked.reason is Reason.OK

    def install_tables(self, item: InstallTablesItem) -> None:
        """Replace the EA07 tables; raises ModuleRefusal unless each is a permutation of its range."""
        reason = self._one(Operation.INSTALL_TABLES, item).reason
        if reason is not Reason.OK:
            raise ModuleRefusal(reason)
