"""Reason codes of the functionality module (``hsm/module/include/keywatt_fm.h``), with what to do about each."""

from __future__ import annotations

import enum

from sts import errors


class Reason(enum.IntEnum):
    """Why the module refused one item. Names reach a client unchanged; numbers are those of the C header."""

    OK = 0
    REQUEST_MALFORMED = 1
    PAN_INVALID = 2
    PAN_CHECK_DIGIT = 3
    DRN_CHECK_DIGIT = 4
    IIN_INVALID = 5
    TARIFF_INDEX_INVALID = 6
    SGC_INVALID = 7
    KEY_REVISION_INVALID = 8
    KEY_TYPE_INVALID = 9
    KEY_EXPIRY_INVALID = 10
    EA_UNKNOWN = 11
    EA09_WITHDRAWN = 12
    DKGA_UNKNOWN = 13
    DKGA_WITHDRAWN = 14
    EA_DKGA_MISMATCH = 15
    TCT_INVALID = 16
    BASE_DATE_INVALID = 17
    TOKEN_CLASS_RESERVED = 18
    SUBCLASS_RESERVED = 19
    KEY_CHANGE_NOT_ISSUABLE = 20
    CLASS_NOT_ALLOWED = 21
    CREDIT_UNDER_DEFAULT_KEY = 22
    COMMON_KEY_CARRIER = 23
    COMMON_KEY_UNSETTLED = 24
    AMOUNT_ZERO = 25
    AMOUNT_NEGATIVE = 26
    AMOUNT_TOO_LARGE = 27
    FIELD_OUT_OF_RANGE = 28
    TID_INVALID = 29
    TID_RESERVED = 30
    TID_OUT_OF_WINDOW = 31
    KEY_EXPIRED = 32
    KEY_NOT_ACTIVE = 33
    KEY_ISSUE_PERIOD_OVER = 34
    KEY_TYPE_TRANSITION = 35
    KEY_CHANGE_SET_INVALID = 36
    NEW_KEY_UNKNOWN = 37
    TOKEN_NUMBER_FORMAT = 38
    TOKEN_NUMBER_RANGE = 39
    CRC_MISMATCH = 40
    CERTIFICATION_KEY = 41
    CLOCK_NOT_SETTABLE = 42
    CLOCK_MISSING = 43
    SAMPLE_TABLES_REFUSED = 44
    KEY_EXISTS = 45
    KEY_ALREADY_LOADED = 46
    KEY_PARITY = 47
    KEY_INVALID = 48
    TEST_KEY_REFUSED = 49
    STA_TABLES_INVALID = 50
    TOKEN_STORE_FULL = 51
    CIPHER_FAULT = 52
    LIBRARY_FAULT = 53
    VERIFICATION_LIMIT = 54
    AUDIT_KEY_MISSING = 55
    LOG_INCONSISTENT = 56
    LOG_NOT_WITNESSED = 57
    OFFICERS_INVALID = 58
    OFFICERS_MISSING = 59
    OFFICER_UNKNOWN = 60
    OFFICER_NOT_VALID = 61
    OFFICER_REPEATED = 62
    SIGNATURE_WRONG = 63
    CEREMONY_NOT_BEGUN = 64
    CEREMONY_NOT_APPROVED = 65
    ACTION_NOT_APPROVED = 66
    COMPONENT_INVALID = 67
    COMPONENTS_MISSING = 68
    CHECK_VALUE_DIFFERS = 69
    CLEAR_KEY_REFUSED = 70
    KEY_UNKNOWN = 71
    KEY_REFRESH_DUE = 72
    KEY_VALUE_LIMIT = 73
    KEY_RETIRED = 74
    TRANSPORT_KEY_MISSING = 75
    CENTRE_UNKNOWN = 76
    CENTRES_INVALID = 77
    WRAPPED_KEY_WRONG = 78
    BLOCK_KEY_MISSING = 79
    KEY_BLOCK_INVALID = 80
    KEY_BLOCK_WRONG = 81
    LEASE_MISSING = 82
    LEASE_OVER = 83
    LEASE_CLOCK = 84
    LEASE_INVALID = 85
    LEASE_OUTDATED = 86
    LEASE_NOT_SIGNED = 87
    POLICY_OUTDATED = 88


_CORRECT = "Correct the request; the same request will be refused again."

HINTS: dict[Reason, str] = {
    Reason.KEY_CHANGE_NOT_ISSUABLE: "Sections of a decoder key are made by the key-change operation only.",
    Reason.CLASS_NOT_ALLOWED: "The record of the vending key does not allow this class and subclass.",
    Reason.CREDIT_UNDER_DEFAULT_KEY: "A default key (KT 1) takes no credit; change the meter to a unique key first.",
    Reason.COMMON_KEY_CARRIER: "A common key (KT 3) is for magnetic cards (TCT 01) only.",
    Reason.COMMON_KEY_UNSETTLED: "Common keys are supported for IIN 600727 under DKGA02 only.",
    Reason.EA09_WITHDRAWN: "EA09 was withdrawn in 2018; the meter needs EA07 or EA11.",
    Reason.DKGA_WITHDRAWN: "DKGA01 and DKGA03 are not supported; load a vending key for DKGA02 or DKGA04.",
    Reason.EA_DKGA_MISMATCH: "EA11 needs a vending key for DKGA04.",
    Reason.TID_OUT_OF_WINDOW: "The clocks of appliance and module differ, or the time asked for is too far off.",
    Reason.TID_RESERVED: "00:01 is reserved: ask for the reserved identifier explicitly, or take the next minute.",
    Reason.KEY_EXPIRED: "The key expiry number has passed: change the meters to a new vending key.",
    Reason.KEY_NOT_ACTIVE: "The vending key is not active yet; see its activation date.",
    Reason.KEY_ISSUE_PERIOD_OVER: "The issued-until date of the vending key has passed; load its successor.",
    Reason.NEW_KEY_UNKNOWN: "Load the new vending key in a ceremony first.",
    Reason.CRC_MISMATCH: "The token is not for this meter and key, or a digit is wrong.",
    Reason.CERTIFICATION_KEY: "Certification mode works with the public test keys only.",
    Reason.CLOCK_NOT_SETTABLE: "A time can be given in certification mode only.",
    Reason.CLOCK_MISSING: "Certification mode has no clock of its own: give the issue time.",
    Reason.SAMPLE_TABLES_REFUSED: "Install the licensed EA07 tables; the sample tables are for development.",
    Reason.KEY_PARITY: "Every octet of a DES vending key has odd parity; a digit was mistyped.",
    Reason.KEY_EXISTS: "Another key of this supply group and revision is loaded; nothing was changed.",
    Reason.TEST_KEY_REFUSED: "Test keys and production do not mix.",
    Reason.VERIFICATION_LIMIT: "Too many wrong tokens were shown to the module; wait, and see who asks.",
    Reason.AUDIT_KEY_MISSING: "The token has no audit key: make one in a ceremony; nothing is issued without a log.",
    Reason.LOG_INCONSISTENT: "The log is shorter than it was, or another: stop the module and call the auditors.",
    Reason.LOG_NOT_WITNESSED: "Too few witnesses have cosigned a recent checkpoint; see that they can be reached, and "
    "what the appliance's log says of them.",
    Reason.OFFICERS_INVALID: "Enrol two officers at least, of different names and keys; each ceremony needs two.",
    Reason.OFFICERS_MISSING: "This token has no officers yet: initialise it in a ceremony.",
    Reason.OFFICER_UNKNOWN: "This key belongs to no officer of the token; compare it with the inventory.",
    Reason.OFFICER_NOT_VALID: "The officer's term has not begun or is over; enrol a successor, with the others.",
    Reason.OFFICER_REPEATED: "Each approval, and each component, takes another officer.",
    Reason.SIGNATURE_WRONG: "The signature is not over this ceremony's text: sign again, the nonce is new each time.",
    Reason.CEREMONY_NOT_BEGUN: "Begin the ceremony first; a login or another beginning ends the one before.",
    Reason.CEREMONY_NOT_APPROVED: "Too few officers have approved.",
    Reason.ACTION_NOT_APPROVED: "This is not what the officers approved, or it was done already.",
    Reason.COMPONENT_INVALID: "A component is not zero, has the length of the key, and is entered from its beginning.",
    Reason.COMPONENTS_MISSING: "Every component must be entered before the key is loaded.",
    Reason.CHECK_VALUE_DIFFERS: "A component is wrong, or the plan is: compare each check value with its envelope.",
    Reason.CLEAR_KEY_REFUSED: "In production a key comes in components, is generated, or comes in a key file.",
    Reason.KEY_UNKNOWN: "The token has no such key.",
    Reason.KEY_REFRESH_DUE: "The centre allows this key until its time of refresh: load its next key file.",
    Reason.KEY_VALUE_LIMIT: "The key's record allows no token of this value; a key file with another limit would.",
    Reason.KEY_RETIRED: "This key was retired: change the meter to its successor.",
    Reason.TRANSPORT_KEY_MISSING: "The file is for another request, or was loaded already: request anew.",
    Reason.CENTRE_UNKNOWN: "No enrolled centre has signed this file; if it is the right one, enrol it.",
    Reason.CENTRES_INVALID: "Centres have names and keys of their own; a token knows at most eight.",
    Reason.WRAPPED_KEY_WRONG: "The file says of the key what the centre did not bind to it, or is for another token.",
    Reason.BLOCK_KEY_MISSING: "Load the key block protection key in a ceremony first.",
    Reason.KEY_BLOCK_INVALID: "See docs/key-files.md for the form of a key block; ask the centre for another.",
    Reason.KEY_BLOCK_WRONG: "The block was altered, or made under another key block protection key.",
    Reason.LEASE_MISSING: "In production nothing is issued without a lease: have officers sign one (docs/lease.md).",
    Reason.LEASE_OVER: "The lease to vend is over: have officers sign the next one (docs/lease.md).",
    Reason.LEASE_CLOCK: "The module's clock is behind its log or its lease: set it right, or renew the lease.",
    Reason.LEASE_INVALID: "A lease has a number from 1, begins before it ends, and lasts 92 days at most.",
    Reason.LEASE_OUTDATED: "A lease with this number or a greater one was in force: sign one with the next number.",
    Reason.LEASE_NOT_SIGNED: "Too few officers of the token, within their terms, have signed this lease.",
    Reason.POLICY_OUTDATED: "Give the policy a greater number and have it approved again.",
    Reason.CIPHER_FAULT: "The module's own check of its cipher failed: take it out of service.",
}


# The module's reasons bear the names of the standard's errors, and so do their hints.
_STS_HINTS = {error.reason: error.hint for error in errors.StsError.__subclasses__()}


def hint(reason: Reason) -> str:
    """Return what the operator should do about a reason."""
    return HINTS.get(reason) or _STS_HINTS.get(reason.name, _CORRECT)
