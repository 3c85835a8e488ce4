"""Leaves: one canonical JSON object for each thing that happened, versioned; no token digits, no secrets.

Canonical means RFC 8785 for what is used of it here: an object with its names in order, no blanks, UTF-8, text,
booleans, whole numbers below 2^53 and lists of them. Amounts and hashes are text. docs/log.md lists the fields.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import json
from collections.abc import Mapping
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
    if leaf.get("v") != VERSION or leaf.get("type") not in _TYPES:
        raise LeafInvalid("an entry has a version or type that this release does not know")
    if not _is_plain(leaf):
        raise LeafInvalid("an entry holds a value that leaves do not have")
    return leaf


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(inner) for inner in value.values())
    if isinstance(value, list):
        return all(_is_plain(inner) for inner in value)
    return isinstance(value, str | bool) or (isinstance(value, int) and abs(value) <= _NUMBER_MAX)


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
