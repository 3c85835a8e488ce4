"""PKCS#11 by hand: any function of a loaded library, for calls that python-pkcs11 would not make."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

# The order of CK_FUNCTION_LIST, PKCS#11 v2.40.
FUNCTIONS = [
    "C_Initialize",
    "C_Finalize",
    "C_GetInfo",
    "C_GetFunctionList",
    "C_GetSlotList",
    "C_GetSlotInfo",
    "C_GetTokenInfo",
    "C_GetMechanismList",
    "C_GetMechanismInfo",
    "C_InitToken",
    "C_InitPIN",
    "C_SetPIN",
    "C_OpenSession",
    "C_CloseSession",
    "C_CloseAllSessions",
    "C_GetSessionInfo",
    "C_GetOperationState",
    "C_SetOperationState",
    "C_Login",
    "C_Logout",
    "C_CreateObject",
    "C_CopyObject",
    "C_DestroyObject",
    "C_GetObjectSize",
    "C_GetAttributeValue",
    "C_SetAttributeValue",
    "C_FindObjectsInit",
    "C_FindObjects",
    "C_FindObjectsFinal",
    "C_EncryptInit",
    "C_Encrypt",
    "C_EncryptUpdate",
    "C_EncryptFinal",
    "C_DecryptInit",
    "C_Decrypt",
    "C_DecryptUpdate",
    "C_DecryptFinal",
    "C_DigestInit",
    "C_Digest",
    "C_DigestUpdate",
    "C_DigestKey",
    "C_DigestFinal",
    "C_SignInit",
    "C_Sign",
    "C_SignUpdate",
    "C_SignFinal",
    "C_SignRecoverInit",
    "C_SignRecover",
    "C_VerifyInit",
    "C_Verify",
    "C_VerifyUpdate",
    "C_VerifyFinal",
    "C_VerifyRecoverInit",
    "C_VerifyRecover",
    "C_DigestEncryptUpdate",
    "C_DecryptDigestUpdate",
    "C_SignEncryptUpdate",
    "C_DecryptVerifyUpdate",
    "C_GenerateKey",
    "C_GenerateKeyPair",
    "C_WrapKey",
    "C_UnwrapKey",
    "C_DeriveKey",
    "C_SeedRandom",
    "C_GenerateRandom",
    "C_GetFunctionStatus",
    "C_CancelFunction",
    "C_WaitForSlotEvent",
]

CKR_OK = 0x00
CKR_FUNCTION_NOT_SUPPORTED = 0x54
CKR_KEY_FUNCTION_NOT_PERMITTED = 0x68
CKM_DES3_ECB = 0x132
CKM_SHA256 = 0x250
CKM_SHA256_HMAC = 0x251


class Mechanism(ctypes.Structure):
    _fields_ = (("mechanism", ctypes.c_ulong), ("parameter", ctypes.c_void_p), ("length", ctypes.c_ulong))


class RawLibrary:
    """The function list of a library that somebody else has initialised."""

    def __init__(self, path: str | Path) -> None:
        library = ctypes.CDLL(str(path))
        pointer = ctypes.c_void_p()
        assert library.C_GetFunctionList(ctypes.byref(pointer)) == CKR_OK
        # CK_VERSION stands before the functions, padded to a pointer.
        array = ctypes.c_void_p * (len(FUNCTIONS) + 1)
        self.pointers = array.from_address(pointer.value or 0)[1:]

    def call(self, name: str, *arguments: Any) -> int:
        pointer = self.pointers[FUNCTIONS.index(name)]
        prototype = ctypes.CFUNCTYPE(ctypes.c_ulong, *[type(argument) for argument in arguments])
        return int(prototype(pointer)(*arguments))

    def with_key(self, name: str, session: int, mechanism: int, key: int) -> int:
        """Call one of the functions of the shape (session, mechanism, key)."""
        pointer = ctypes.cast(ctypes.pointer(Mechanism(mechanism, None, 0)), ctypes.c_void_p)
        return self.call(name, ctypes.c_ulong(session), pointer, ctypes.c_ulong(key))
