"""The session with the functionality module over python-pkcs11: the only file that imports ``pkcs11``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import pkcs11
import pkcs11.exceptions

from hsm.errors import ModuleFault, ModuleRefusal, ModuleUnavailable, VendingKeyUnknown
from hsm.keys import KeyReference, VendingKey
from hsm.reasons import Reason
from hsm.requests import (
    HEADER_LENGTH,
    AuditKey,
    CheckValue,
    Operation,
    SignCheckpointItem,
    SignedCheckpoint,
    pack_request,
)
from hsm.session_paths import LIBRARY_PATH
from hsm.status import ModuleStatus

_MECHANISM_BASE = 0x804B5700
T = TypeVar("T")


def _vendor_mechanism(operation: Operation) -> pkcs11.Mechanism:
    # python-pkcs11 takes members of its enumeration only; a vendor mechanism has to pose as one.
    member = int.__new__(pkcs11.Mechanism, _MECHANISM_BASE | operation)
    member._name_ = f"KEYWATT_{operation.name}"
    member._value_ = _MECHANISM_BASE | operation
    return member


_MECHANISMS = {operation: _vendor_mechanism(operation) for operation in Operation}


def _guarded(work: Callable[[], T]) -> T:
    try:
        return work()
    except pkcs11.exceptions.PKCS11Error as error:
        raise ModuleFault(f"PKCS#11: {type(error).__name__}") from error


def _audit_key(answer: bytes) -> bytes:
    found = AuditKey.unpack(answer[HEADER_LENGTH:])
    if found.reason is not Reason.OK:
        raise ModuleRefusal(found.reason)
    return found.public


class ModuleSession:
    """One logged-in session; use it from one thread, except where a method says otherwise."""

    def __init__(self, library: Path = LIBRARY_PATH, *, loaded: Any = None) -> None:
        """Load the library, or share one that is loaded; nobody is logged in yet.

        Raises:
            ModuleUnavailable: the library does not load, or its configuration is refused.
        """
        try:
            self._library = loaded if loaded is not None else pkcs11.lib(str(library))
        except (pkcs11.exceptions.PKCS11Error, RuntimeError, OSError) as error:
            raise ModuleUnavailable(f"the functionality module does not start: {type(error).__name__}") from error
        self._session: Any = None
        self._keys: dict[KeyReference, tuple[VendingKey, Any]] = {}
        self.labels: list[str] = []

    def open(self, pin: str | None) -> Self:
        """Open the session and, with a PIN, log in; the module then runs its own known answers.

        Raises:
            ModuleFault: wrong PIN, a failed known answer, or a fault of the library.
        """

        def work() -> Any:
            slot = self._library.get_slots()[0]
            return slot.get_token().open(user_pin=pin)

        self._session = _guarded(work)
        if pin is not None:
            self.reload_keys()
        return self

    @contextmanager
    def sibling(self) -> Iterator[Self]:
        """Open a second session under the same login, for another thread, and close it again."""
        other = type(self)(loaded=self._library).open(None)
        try:
            other.reload_keys()
            yield other
        finally:
            other.close()

    def close(self) -> None:
        """Log out; keys and handles are gone."""
        if self._session is not None:
            session, self._session = self._session, None
            self._keys = {}
            _guarded(session.close)

    def finalize(self) -> None:
        """Close, and unload the library's state, so that another mode can be entered in this process."""
        self.close()
        _guarded(self._library.finalize)

    def reload_keys(self) -> None:
        """Read the keys that the module shows."""
        template = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY}
        objects = _guarded(lambda: list(self._session.get_objects(template)))
        self.labels = _guarded(lambda: [str(handle.label) for handle in objects])
        keys = [VendingKey.from_label(label) for label in self.labels]
        self._keys = {key.reference: (key, handle) for key, handle in zip(keys, objects, strict=True)}

    @property
    def keys(self) -> list[VendingKey]:
        """Every vending key of the token, ordered by reference."""
        return [key for _, (key, _) in sorted(self._keys.items(), key=lambda entry: str(entry[0]))]

    def key(self, reference: KeyReference) -> VendingKey | None:
        """Return the record of a vending key, or None."""
        found = self._keys.get(reference)
        return None if found is None else found[0]

    def operate(self, operation: Operation, request: bytes, reference: KeyReference | None = None) -> bytes:
        """Give the module one request; with a reference under that vending key. Safe from several threads.

        Raises:
            VendingKeyUnknown: the token has no such key.
            ModuleFault: the request is malformed as a whole, or the library failed; nothing was released.
        """
        mechanism = _MECHANISMS[operation]
        if reference is None:
            return _guarded(lambda: bytes(self._session.digest(request, mechanism=mechanism)))
        try:
            handle = self._keys[reference][1]
        except KeyError:
            raise VendingKeyUnknown(f"no vending key {reference}") from None
        return _guarded(lambda: bytes(handle.sign(request, mechanism=mechanism)))

    def status(self) -> ModuleStatus:
        """Ask the module what it is."""
        return ModuleStatus.unpack(self.operate(Operation.STATUS, pack_request(Operation.STATUS)))

    def audit_key(self) -> bytes:
        """Return the public audit key, 32 octets; raises ModuleRefusal if the token has none."""
        answer = self.operate(Operation.AUDIT_KEY, pack_request(Operation.AUDIT_KEY))
        return _audit_key(answer)

    def make_audit_key(self) -> tuple[bytes, bool]:
        """Make the audit key, in ceremony mode; return its public half, and False if there was one."""
        answer = self.operate(Operation.MAKE_AUDIT_KEY, pack_request(Operation.MAKE_AUDIT_KEY))
        made = AuditKey.unpack(answer[HEADER_LENGTH:])
        return made.public, made.reason is Reason.OK

    def sign_checkpoint(self, size: int, root: bytes) -> bytes:
        """Have the module compose and sign a checkpoint of its log; return the signature, 64 octets.

        Raises:
            ModuleRefusal: no audit key, or a log that is shorter than the last one or another.
        """
        request = pack_request(Operation.SIGN_CHECKPOINT, [SignCheckpointItem(size=size, root=root)])
        signed = SignedCheckpoint.unpack(self.operate(Operation.SIGN_CHECKPOINT, request)[HEADER_LENGTH:])
        if signed.reason is not Reason.OK:
            raise ModuleRefusal(signed.reason)
        return signed.signature

    def self_test(self) -> None:
        """Run every known answer inside the module; raises ModuleFault if one fails."""
        self.operate(Operation.SELF_TEST, pack_request(Operation.SELF_TEST))

    def check_value(self, reference: KeyReference) -> CheckValue:
        """Prove a key: the module recomputes what the key's record claims; raises ModuleFault if it differs."""
        answer = self.operate(Operation.CHECK_VALUE, pack_request(Operation.CHECK_VALUE), reference)
        return CheckValue.unpack(answer[HEADER_LENGTH:])
