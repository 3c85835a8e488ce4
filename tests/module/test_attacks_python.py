"""An attacker with the user PIN and python-pkcs11, on bare SoftHSM and on the functionality module.

Each attack is first run on bare SoftHSM, with the very token, to show what it would give there; then on the module,
which must refuse it with the right code. Methods that python-pkcs11 hides for want of an attribute are called anyway.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from typing import Any

import pkcs11
import pkcs11.exceptions as refusals
import pytest
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, _pkcs11

from hsm.session_paths import LIBRARY_PATH
from tests.support import cryptoki
from tests.support.lab import LABEL, SOFTHSM, USER_PIN, Lab

HMAC_KEY = "sgc=600001 krn=1"
DES_KEY = "sgc=600007 krn=1"


@pytest.fixture
def bare(lab: Lab) -> Iterator[Any]:
    os.environ.update(lab.environment())
    library = pkcs11.lib(SOFTHSM)
    session = library.get_token(token_label=LABEL).open(rw=True, user_pin=USER_PIN)
    yield session
    library.finalize()


@pytest.fixture
def guarded(bare: Any, lab: Lab) -> Iterator[Any]:
    # After `bare`, so that the attack below runs against both, one after the other.
    pkcs11.lib(SOFTHSM).finalize()
    os.environ.update(lab.environment())
    library = pkcs11.lib(str(LIBRARY_PATH))
    session = library.get_token(token_label=LABEL).open(user_pin=USER_PIN)
    yield session
    library.finalize()
    pkcs11.lib(SOFTHSM)  # for the end of `bare`


def find(session: Any, name: str) -> Any:
    keys = session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})
    (found,) = [key for key in keys if name in str(key.label)]
    return found


Attack = Callable[[Any, Any], Any]


def sign_hmac(_: Any, key: Any) -> Any:
    return _pkcs11.SignMixin._sign(key, b"any data", mechanism=Mechanism.SHA256_HMAC)


def digest_key(session: Any, key: Any) -> Any:
    return session.digest(iter([key]), mechanism=Mechanism.SHA256)


def derive(_: Any, key: Any) -> Any:
    return _pkcs11.DeriveMixin.derive_key(
        key, KeyType.AES, 128, mechanism=Mechanism.CONCATENATE_BASE_AND_DATA, mechanism_param=b"x" * 16
    )


def wrap(session: Any, key: Any) -> Any:
    if session.rw:
        wrapping = session.generate_key(KeyType.AES, 256)
        return _pkcs11.WrapMixin.wrap_key(wrapping, key, mechanism=Mechanism.AES_CBC, mechanism_param=b"\0" * 16)
    return _pkcs11.WrapMixin.wrap_key(key, key, mechanism=Mechanism.AES_CBC, mechanism_param=b"\0" * 16)


def unwrap(_: Any, key: Any) -> Any:
    return _pkcs11.UnwrapMixin.unwrap_key(
        key, ObjectClass.SECRET_KEY, KeyType.AES, b"\0" * 24, mechanism=Mechanism.AES_KEY_WRAP
    )


def generate_wrapping_key(session: Any, _: Any) -> Any:
    return session.generate_key(KeyType.AES, 256)


def copy(_: Any, key: Any) -> Any:
    return key.copy({Attribute.LABEL: "copy"})


def relabel(_: Any, key: Any) -> Any:
    key[Attribute.LABEL] = "another record"
    return True


def allow_derive(_: Any, key: Any) -> Any:
    key[Attribute.DERIVE] = True
    return True


def read_value(_: Any, key: Any) -> Any:
    return key[Attribute.VALUE]


def create(session: Any, _: Any) -> Any:
    return session.create_object(
        {Attribute.CLASS: ObjectClass.DATA, Attribute.TOKEN: session.rw, Attribute.LABEL: "note", Attribute.VALUE: b"x"}
    )


def import_under_protected_name(session: Any, key: Any) -> Any:
    return session.create_object(
        {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
            Attribute.TOKEN: session.rw,
            Attribute.LABEL: key.label,
            Attribute.SIGN: True,
            Attribute.VALUE: b"\1" * 32,
        }
    )


def destroy(_: Any, key: Any) -> Any:
    key.destroy()
    return True


def change_pin(session: Any, _: Any) -> Any:
    session.set_pin(USER_PIN, "0" * 32)
    return True


def set_first_pin(session: Any, _: Any) -> Any:
    session.init_pin("0" * 32)
    return True


# python-pkcs11 has no class for these two return values; it quotes their number.
NOT_PERMITTED = "68"  # CKR_KEY_FUNCTION_NOT_PERMITTED
PROHIBITED = "1b"  # CKR_ACTION_PROHIBITED
NOT_SUPPORTED = "FunctionNotSupported"

# attack, key, what bare SoftHSM does (None: it succeeds), what the module does
ATTACKS: list[tuple[Attack, str, str | None, str]] = [
    (sign_hmac, HMAC_KEY, None, NOT_PERMITTED),
    (digest_key, HMAC_KEY, None, "MechanismInvalid"),
    (derive, HMAC_KEY, "MechanismInvalid", NOT_PERMITTED),
    (wrap, HMAC_KEY, "KeyUnextractable", NOT_PERMITTED),
    (unwrap, HMAC_KEY, "UnwrappingKeyTypeInconsistent", NOT_PERMITTED),
    (copy, HMAC_KEY, "AttributeReadOnly", NOT_SUPPORTED),
    (relabel, HMAC_KEY, PROHIBITED, NOT_SUPPORTED),
    (allow_derive, HMAC_KEY, PROHIBITED, NOT_SUPPORTED),
    (read_value, HMAC_KEY, "AttributeSensitive", "AttributeSensitive"),
    (destroy, HMAC_KEY, None, NOT_SUPPORTED),
    (wrap, DES_KEY, None, NOT_PERMITTED),
    (digest_key, DES_KEY, None, "MechanismInvalid"),
    (destroy, DES_KEY, None, NOT_SUPPORTED),
    (read_value, DES_KEY, "AttributeSensitive", "AttributeSensitive"),
    (generate_wrapping_key, DES_KEY, None, NOT_SUPPORTED),
    (create, HMAC_KEY, None, NOT_SUPPORTED),
    (import_under_protected_name, HMAC_KEY, None, NOT_SUPPORTED),
    (change_pin, HMAC_KEY, None, NOT_SUPPORTED),
    (set_first_pin, HMAC_KEY, "UserNotLoggedIn", NOT_SUPPORTED),
]


def outcome(run: Attack, session: Any, name: str) -> str | None:
    """None if the attack gave the attacker something; else the return value that refused it."""
    try:
        assert run(session, find(session, name)) is not None
    except refusals.PKCS11Error as error:
        if type(error) is not refusals.PKCS11Error:
            return type(error).__name__
        return str(error).lower().split()[-1].removeprefix("0x")
    return None


def names(attack: tuple[Attack, str, Any, Any]) -> str:
    return f"{attack[0].__name__}-{'hmac' if attack[1] == HMAC_KEY else 'des'}"


@pytest.mark.parametrize("attack", ATTACKS, ids=names)
def test_attack(bare: Any, request: pytest.FixtureRequest, golden_lab: Lab, lab: Lab, attack: Any) -> None:
    run, name, on_bare, on_module = attack
    assert outcome(run, bare, name) == on_bare
    # What the attack did to the token must not help or hinder the second half.
    bare.token  # noqa: B018 - the session is still alive here
    pkcs11.lib(SOFTHSM).finalize()
    golden_lab.copy(lab.folder)
    pkcs11.lib(SOFTHSM)
    guarded = request.getfixturevalue("guarded")
    assert outcome(run, guarded, name) == on_module


# function, key, mechanism, whether bare SoftHSM begins the operation
RAW = [
    ("C_EncryptInit", DES_KEY, cryptoki.CKM_DES3_ECB, True),
    ("C_DecryptInit", DES_KEY, cryptoki.CKM_DES3_ECB, False),
    ("C_SignInit", HMAC_KEY, cryptoki.CKM_SHA256_HMAC, True),
    ("C_VerifyInit", HMAC_KEY, cryptoki.CKM_SHA256_HMAC, False),
    ("C_SignRecoverInit", HMAC_KEY, cryptoki.CKM_SHA256_HMAC, False),
    ("C_VerifyRecoverInit", HMAC_KEY, cryptoki.CKM_SHA256_HMAC, False),
]


@pytest.mark.parametrize("attack", RAW, ids=lambda attack: attack[0])
def test_raw_operation(bare: Any, request: pytest.FixtureRequest, attack: tuple[str, str, int, bool]) -> None:
    function, name, mechanism, begins = attack
    raw = cryptoki.RawLibrary(SOFTHSM)
    assert (raw.with_key(function, bare.handle, mechanism, find(bare, name).handle) == cryptoki.CKR_OK) == begins
    guarded = request.getfixturevalue("guarded")
    raw = cryptoki.RawLibrary(LIBRARY_PATH)
    code = raw.with_key(function, guarded.handle, mechanism, find(guarded, name).handle)
    assert code == cryptoki.CKR_KEY_FUNCTION_NOT_PERMITTED


def test_digest_key_itself(bare: Any, request: pytest.FixtureRequest) -> None:
    guarded = request.getfixturevalue("guarded")
    raw = cryptoki.RawLibrary(LIBRARY_PATH)
    session, key = ctypes.c_ulong(guarded.handle), ctypes.c_ulong(find(guarded, HMAC_KEY).handle)
    assert raw.call("C_DigestKey", session, key) == cryptoki.CKR_KEY_FUNCTION_NOT_PERMITTED


ALLOWED = frozenset(
    [
        "C_Initialize",
        "C_Finalize",
        "C_GetInfo",
        "C_GetFunctionList",
        "C_GetSlotList",
        "C_GetSlotInfo",
        "C_GetTokenInfo",
        "C_GetMechanismList",
        "C_GetMechanismInfo",
        "C_OpenSession",
        "C_CloseSession",
        "C_CloseAllSessions",
        "C_GetSessionInfo",
        "C_Login",
        "C_Logout",
        "C_GetAttributeValue",
        "C_FindObjectsInit",
        "C_FindObjects",
        "C_FindObjectsFinal",
        "C_DigestInit",
        "C_Digest",
        "C_SignInit",
        "C_Sign",
        "C_GenerateRandom",
    ]
)


@pytest.mark.parametrize("function", sorted(set(cryptoki.FUNCTIONS) - ALLOWED))
def test_everything_outside_the_allow_list_is_refused(guarded: Any, function: str) -> None:
    raw = cryptoki.RawLibrary(LIBRARY_PATH)
    zeros = [ctypes.c_ulong(guarded.handle), *[ctypes.c_void_p(None)] * 7]
    assert raw.call(function, *zeros) == cryptoki.CKR_FUNCTION_NOT_SUPPORTED


def test_read_write_session_is_refused_online(guarded: Any) -> None:
    with pytest.raises(refusals.TokenWriteProtected):
        guarded.token.open(rw=True)


def test_security_officer_login_is_refused(guarded: Any) -> None:
    guarded.close()
    with pytest.raises(refusals.FunctionNotSupported):
        guarded.token.open(so_pin="x" * 32)


def test_wrong_pin_is_refused(guarded: Any) -> None:
    token = guarded.token
    guarded.close()
    with pytest.raises(refusals.PinIncorrect):
        token.open(user_pin="0" * 32)


def test_hidden_attributes_stay_hidden(guarded: Any) -> None:
    key = find(guarded, DES_KEY)
    assert key[Attribute.SENSITIVE]
    assert not key[Attribute.EXTRACTABLE]
    assert not key[Attribute.MODIFIABLE]


def test_only_vending_keys_are_found(guarded: Any) -> None:
    classes = {found[Attribute.CLASS] for found in guarded.get_objects()}
    assert classes == {ObjectClass.SECRET_KEY}
    assert not list(guarded.get_objects({Attribute.CLASS: ObjectClass.DATA}))


def test_no_interface_of_version_3_is_exported() -> None:
    library = ctypes.CDLL(str(LIBRARY_PATH))
    for name in ("C_GetInterface", "C_GetInterfaceList", "C_Sign", "C_Initialize"):
        with pytest.raises(AttributeError):
            getattr(library, name)
