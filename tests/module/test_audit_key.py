"""The key that signs the log: made once, in a ceremony, never seen, and it signs nothing but checkpoints that go on."""

from __future__ import annotations

import base64

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hsm.errors import ModuleFault, ModuleRefusal
from hsm.reasons import Reason
from hsm.session import ModuleSession
from tests.support.lab import Lab


def make(lab: Lab) -> bytes:
    lab.configure("ceremony")
    with lab.session() as session:
        public, is_new = session.make_audit_key()
        assert is_new
        assert session.make_audit_key() == (public, False)
        assert session.audit_key() == public
        with pytest.raises(ModuleFault):
            session.sign_checkpoint(1, bytes(32))
    lab.configure("online")
    return public


def refused(session: ModuleSession, size: int, root: bytes) -> Reason:
    with pytest.raises(ModuleRefusal) as refusal:
        session.sign_checkpoint(size, root)
    return refusal.value.code


def test_a_checkpoint_is_composed_and_signed_inside(lab: Lab) -> None:
    public = make(lab)
    with lab.session() as session:
        assert session.audit_key() == public
        module_id = session.status().module_id
        for size, root in ((0, bytes(32)), (7, bytes(range(32))), (1 << 62, b"\xff" * 32)):
            signature = session.sign_checkpoint(size, root)
            text = f"{module_id}\n{size}\n{base64.b64encode(root).decode()}\n".encode()
            Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
            with pytest.raises(InvalidSignature):
                Ed25519PublicKey.from_public_bytes(public).verify(signature, text + b"\n")


def test_a_log_that_goes_back_or_forks_is_not_signed(lab: Lab) -> None:
    make(lab)
    with lab.session() as session:
        first = session.sign_checkpoint(100, b"a" * 32)
        assert session.sign_checkpoint(100, b"a" * 32) == first
        assert refused(session, 100, b"b" * 32) is Reason.LOG_INCONSISTENT
        assert refused(session, 99, b"a" * 32) is Reason.LOG_INCONSISTENT
        session.sign_checkpoint(101, b"b" * 32)


def test_without_a_key_nothing_is_signed(lab: Lab) -> None:
    with lab.session() as session:
        assert refused(session, 1, bytes(32)) is Reason.AUDIT_KEY_MISSING
        with pytest.raises(ModuleRefusal) as refusal:
            session.audit_key()
        assert refusal.value.code is Reason.AUDIT_KEY_MISSING
        with pytest.raises(ModuleFault):
            session.make_audit_key()


def test_the_key_is_not_among_what_the_module_shows(lab: Lab) -> None:
    import pkcs11

    make(lab)
    with lab.session() as session:
        for kind in (pkcs11.ObjectClass.PRIVATE_KEY, pkcs11.ObjectClass.PUBLIC_KEY):
            assert list(session._session.get_objects({pkcs11.Attribute.CLASS: kind})) == []
        labels = [handle.label for handle in session._session.get_objects({})]
        assert not [label for label in labels if "audit" in str(label)]
