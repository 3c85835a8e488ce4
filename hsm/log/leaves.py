"""Leaves: one canonical JSON object for each thing that happened, versioned; no token digits, no secrets.

Canonical means RFC 8785 for what is used of it here: an object with its names in order, no blanks, UTF-8, text,
booleans, whole numbers below 2^53 and lists of them. Amounts and hashes are text. docs/log.md lists the fields.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from hsm.log.errors import LeafInvalid

VERSION = 1
_NUMBER_MAX = (1 << 53) - 1
Leaf = Mapping[str, Any]


class LeafType(enum.StrEnum):
    """What a leaf bears witness of."""

    ISSUE = "issue"
    KEY_CHANGE = "key-change"
    VERIFY = "verify"
    REFUSAL = "refusal"
    START = "start"
    STOP = "stop"
    MODE = "mode"
    KEYS = "keys"
    RELOAD = "reload"
    CEREMONY = "ceremony"
    LEASE = "lease"


_TYPES = frozenset(LeafType)


def encode(leaf: Leaf) -> bytes:
    """Return the canonical octets of a leaf."""
    return json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode(entry: bytes) -> dict[str, Any]:
    """Read a leaf; raises LeafInvalid unless it is canonical and of a known version and type."""
    try:
        leaf = json.loads(entry)
        canonical = encode(leaf) == entry
    except (ValueError, TypeError, RecursionError):
        raise LeafInvalid("an entry is no JSON") from None
    if not isinstance(leaf, dict) or not canonical:
        raise LeafInvalid("an entry is not canonical")
    if not all(_is_plain(value) or (isinstance(value, list) and all(map(_is_text, value))) for value in leaf.values()):
        raise LeafInvalid("an entry holds a value that leaves do not have")
    kind, time = leaf.get("type"), leaf.get("time")
    if leaf.get("v") != VERSION or kind not in _TYPES or not _is_number(time) or str(time).startswith("-"):
        raise LeafInvalid("an entry has a version, type or time that this release does not know")
    fields = _FIELDS.get(kind, {})
    if any(not is_right(leaf.get(name)) for name, is_right in fields.items()):
        raise LeafInvalid(f"an entry lacks what every {kind} has")
    return leaf


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _NUMBER_MAX


def _is_plain(value: object) -> bool:
    return isinstance(value, str | bool) or _is_number(value)


def _is_hex16(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32}", value) is not None


def _is_decimal(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,60}", value) is not None


# What readers rely on.
_FIELDS: dict[str, dict[str, Callable[[object], bool]]] = {
    "issue": {
        "client": _is_text,
        "request": _is_hex16,
        "class": _is_number,
        "subclass": _is_number,
        "token": _is_text,
        "value": _is_decimal,
    },
    "key-change": {
        "client": _is_text,
        "request": _is_hex16,
        "key": _is_text,
        "meter": _is_text,
        "tokens": lambda value: isinstance(value, list),
    },
}


def tokens_of(leaf: Leaf) -> list[str]:
    """Return the hashes of the tokens that an entry says were made; none for an entry that says nothing was."""
    match leaf["type"]:
        case "issue":
            return [str(leaf["token"])]
        case "key-change":
            return [str(token) for token in leaf["tokens"]]
        case _:
            return []


def make(kind: LeafType, time: int, **fields: object) -> bytes:
    """Return a leaf; ``time`` in milliseconds since 1970. Fields that are None are left out."""
    return encode(
        {"v": VERSION, "type": kind.value, "time": time}
        | {name.replace("_", "-"): value for name, value in fields.items() if value is not None}
    )


def token_hash(digits: str | bytes) -> str:
    """Return what stands for a token in a leaf: SHA-256 of its twenty ASCII digits, in hexadecimal."""
    return hashlib.sha256(digits.encode("ascii") if isinstance(digits, str) else digits).hexdigest()


@functools.lru_cache(maxsize=1024)
def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


@functools.lru_cache(maxsize=4096)
def _key_fields(base_date: int, key: str, check_value: str) -> tuple[str, str]:
    return f'"bdt":{base_date},', f'"kcv":"{check_value}","key":"{key}",'


def issue(
    *,
    time: int,
    client: str,
    request: str,
    key: tuple[int, str, str] | None,
    ea: int,
    tct: int,
    marks: int,
    meter: str,
    ti: str,
    token_class: int,
    subclass: int,
    tid: int,
    value: int,
    token: str,
) -> bytes:
    """Return the leaf of one token, made by hand: this is done for every one of them. docs/log.md has the fields.

    Of these ``key`` is base date, reference and check value of the vending key, None in class 1, which has no meter
    either; ``token`` is as :func:`token_hash` gives it.
    """
    bdt, reference = ("", "") if key is None else _key_fields(*key)
    about_meter, about_tariff = (
        ("", "") if key is None else (f'"meter":"{meter}",', f'"tct":{tct},"ti":"{ti}","tid":{tid},')
    )
    about_ea = "" if key is None else f'"ea":{ea},'
    return (
        f'{{{bdt}"class":{token_class},"client":{_text(client)},{about_ea}{reference}"marks":{marks},{about_meter}'
        f'"request":"{request}","subclass":{subclass},{about_tariff}"time":{time},"token":"{token}",'
        f'"type":"issue","v":1,"value":"{value}"}}'
    ).encode()
