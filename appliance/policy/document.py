"""Policy files: clients, what each may do, and limits; ``keywatt-policy/1`` (docs/policy.md). Deny by default."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from datetime import time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from appliance.errors import PolicyInvalid

ANY = "*"
KEY_CHANGE = "key-change"
_SIZE_MAX = 1024 * 1024
_CLASS = re.compile(r"(?P<cls>[012])\.(?P<first>\d{1,2})(?:-(?P<last>\d{1,2}))?")
_SECTIONS_OF_KEYS = frozenset({(2, 3), (2, 4), (2, 8), (2, 9)})
_Name = Annotated[str, Field(min_length=1, max_length=1024)]
_Group = Annotated[str, Field(pattern=r"^(?:\d{6}|\*)$")]
_Units = Annotated[str, Field(pattern=r"^\d{1,13}(\.\d)?$")]
_Currency = Annotated[str, Field(pattern=r"^\d{1,9}(\.\d{1,5})?$")]
_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def subclasses(entries: list[str]) -> frozenset[tuple[int, int]]:
    """Turn entries like ``0.0``, ``0.4-7`` or ``2.1`` into pairs of class and subclass; raises ValueError."""
    found: set[tuple[int, int]] = set()
    for entry in entries:
        if entry == KEY_CHANGE:
            found |= _SECTIONS_OF_KEYS
            continue
        match = _CLASS.fullmatch(entry)
        if match is None:
            raise ValueError(f"{entry!r} is none of the form 0.0, 0.4-7, 2.1, 1.0 or {KEY_CHANGE}")
        first = int(match["first"])
        wanted = {(int(match["cls"]), number) for number in range(first, int(match["last"] or first) + 1)}
        if not wanted or any(number > 15 for _, number in wanted) or wanted & _SECTIONS_OF_KEYS:
            raise ValueError(f"{entry!r} names a subclass that cannot be issued; key changes are called {KEY_CHANGE}")
        found |= wanted
    return frozenset(found)


def _checked(entries: list[str]) -> list[str]:
    subclasses(entries)
    return entries


_Classes = Annotated[list[str], AfterValidator(_checked)]


class Hours(BaseModel):
    """A part of the day in the system's zone: from ``start`` on, before ``end``; over midnight if end is earlier."""

    model_config = _STRICT

    start: time
    end: time

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.start == self.end or self.start.tzinfo is not None or self.end.tzinfo is not None:
            raise ValueError("hours have a start and another end, both local times without a zone")
        return self

    def contain(self, moment: time) -> bool:
        """Tell whether a local time lies within."""
        if self.start < self.end:
            return self.start <= moment < self.end
        return moment >= self.start or moment < self.end


class Grant(BaseModel):
    """What a client may issue.

    Args:
        supply_groups: six digits each, or ``*`` for all; class 1 tokens have none and need ``*``.
        classes: such as ``0.0``, ``0.4-7``, ``2.1``, ``1.0`` or ``key-change``.
        hours: within which; all day if not given.
        ceiling_units, ceiling_currency: the most that one token may grant, as decimals; no ceiling if not given.
        free_issue: whether tokens may take the reserved identifier 00:01, which free allowances have.
        approvals: how many other clients must approve each request; 0 for none.
    """

    model_config = _STRICT

    supply_groups: Annotated[list[_Group], Field(min_length=1)]
    classes: Annotated[_Classes, Field(min_length=1)]
    hours: Hours | None = None
    ceiling_units: _Units | None = None
    ceiling_currency: _Currency | None = None
    free_issue: bool = False
    approvals: Annotated[int, Field(ge=0, le=8)] = 0


class Approves(BaseModel):
    """What a client may approve when another proposes it.

    Args:
        supply_groups, classes: as of a grant.
    """

    model_config = _STRICT

    supply_groups: Annotated[list[_Group], Field(min_length=1)]
    classes: Annotated[_Classes, Field(min_length=1)]


class Client(BaseModel):
    """A client.

    Args:
        name: first subject alternative name of its certificate (URI or DNS).
        is_revoked: refused whatever it asks, from the moment on that the policy is in force.
        reads: whether it may verify tokens, and see its own issuances, keys and status.
        audits: whether it sees the log, and what others were issued; without digits.
        renews_lease: whether it may bring leases; their signatures decide.
        grant: what it may issue; nothing if there is none.
        approves: what it may approve; nothing if there is none.
    """

    model_config = _STRICT

    name: _Name
    is_revoked: bool = False
    reads: bool = True
    audits: bool = False
    renews_lease: bool = False
    grant: list[Grant] = Field(default=[])
    approves: list[Approves] = Field(default=[])


class Limit(BaseModel):
    """How much may be issued in a time.

    Args:
        name: what refusals and counters call it: letters, digits and dashes.
        per: each client, each supply group, each meter, or all together.
        window: minute, hour, day or month of the system's zone.
        clients: names that it is for; all if empty.
        supply_groups: that it is for; all if empty.
        classes: that it is for; all if empty.
        free_issue: true for tokens with the reserved identifier alone, false for all others; both if not given.
        count, units, currency: tokens, decimal units, decimal base currency; at least one of them.
    """

    model_config = _STRICT

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
    per: Literal["client", "supply-group", "meter", "all"]
    window: Literal["minute", "hour", "day", "month"]
    clients: list[_Name] = Field(default=[])
    supply_groups: list[_Group] = Field(default=[])
    classes: _Classes = Field(default=[])
    free_issue: bool | None = None
    count: Annotated[int, Field(ge=0, le=10**12)] | None = None
    units: _Units | None = None
    currency: _Currency | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.count is None and self.units is None and self.currency is None:
            raise ValueError("a limit has a count, units or currency")
        return self


_SIGNAL_FIELDS = {
    "velocity": {"most", "minutes"},
    "round-amounts": {"most", "minutes", "multiple"},
    "off-hours": {"hours"},
    "free-ratio": {"percent", "least", "minutes"},
    "engineering-ratio": {"percent", "least", "minutes"},
    "after-denial": {"most", "minutes"},
}


class Signal(BaseModel):
    """Something that misuse looks like; told of, and refused if the policy says so.

    Args:
        kind: ``velocity`` (a meter gets more than ``most`` tokens in ``minutes``), ``round-amounts`` (a client sells
            multiples of ``multiple`` units more than ``most`` times in ``minutes``), ``off-hours`` (anything is issued
            outside ``hours``), ``free-ratio`` and ``engineering-ratio`` (of a client's tokens in ``minutes``, once they
            are ``least``, more than ``percent`` are free, or of class 2), ``after-denial`` (a client issues within
            ``minutes`` of more than ``most`` refusals by the policy).
        clients: names that it is for; all if empty.
        refuse: whether the request is refused.
        most, minutes, multiple, hours, percent, least: as the kind needs them, and no others.
    """

    model_config = _STRICT

    kind: Literal["velocity", "round-amounts", "off-hours", "free-ratio", "engineering-ratio", "after-denial"]
    clients: list[_Name] = Field(default=[])
    refuse: bool = False
    most: Annotated[int, Field(ge=0, le=10**6)] | None = None
    minutes: Annotated[int, Field(ge=1, le=1440)] | None = None
    multiple: _Units | None = None
    hours: Hours | None = None
    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    least: Annotated[int, Field(ge=1, le=10**6)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        wanted = _SIGNAL_FIELDS[self.kind]
        given = {name for names in _SIGNAL_FIELDS.values() for name in names if getattr(self, name) is not None}
        if given != wanted:
            raise ValueError(f"a signal {self.kind} has {', '.join(sorted(wanted))} and nothing else")
        if self.multiple is not None and not units(self.multiple):
            raise ValueError("multiple is more than nothing")
        return self


def _require_approvers(clients: list[Client], client: Client, grant: Grant) -> None:
    """See that a grant that needs approvals can have them; raises ValueError."""
    if not grant.approvals:
        return
    others = [one for one in clients if one.name != client.name and not one.is_revoked and one.approves]
    wanted = subclasses(grant.classes)
    for group in grant.supply_groups:
        able = sum(
            any(
                (ANY in one.supply_groups or group in one.supply_groups) and wanted <= subclasses(one.classes)
                for one in other.approves
            )
            for other in others
        )
        if able < grant.approvals:
            raise ValueError(
                f"client {client.name}: a grant needs {grant.approvals} approvals, and {able} others may give them"
            )


class Policy(BaseModel):
    """A policy.

    Args:
        format: ``keywatt-policy/1``.
        number: greater than that of every policy before.
        title: one line.
        module: id of the module that it is for.
        approval_hours: how long a proposal can be approved and executed.
        client, limit, signal: see there.
    """

    model_config = _STRICT

    format: Literal["keywatt-policy/1"]
    number: Annotated[int, Field(ge=1, le=2**31)]
    title: Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e]*$")]
    module: Annotated[str, Field(pattern=r"^[!-~]{1,64}$")]
    approval_hours: Annotated[int, Field(ge=1, le=720)] = 24
    client: Annotated[list[Client], Field(max_length=10_000)] = []
    limit: Annotated[list[Limit], Field(max_length=1000)] = []
    signal: Annotated[list[Signal], Field(max_length=100)] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [client.name for client in self.client]
        if len(set(names)) != len(names):
            raise ValueError("client: a name stands twice")
        limits = [limit.name for limit in self.limit]
        if len(set(limits)) != len(limits):
            raise ValueError("limit: a name stands twice")
        for client in self.client:
            for grant in client.grant:
                _require_approvers(self.client, client, grant)
        named: list[Limit | Signal] = [*self.limit, *self.signal]
        unknown = {name for one in named for name in one.clients} - set(names)
        if unknown:
            raise ValueError(f"limit or signal: there is no client {min(unknown)}")
        return self

    @classmethod
    def parse(cls, octets: bytes, name: str) -> Self:
        """Read the octets of a policy file; raises PolicyInvalid with every field that is wrong."""
        try:
            if len(octets) > _SIZE_MAX:
                raise PolicyInvalid(f"{name}: too large to be a policy")
            return cls.model_validate(tomllib.loads(octets.decode("utf-8")))
        except ValidationError as error:
            raise PolicyInvalid(f"{name}: {_describe(error)}") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
            raise PolicyInvalid(f"{name}: {error}") from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a policy file; raises PolicyInvalid."""
        try:
            return cls.parse(path.read_bytes(), str(path))
        except OSError as error:
            raise PolicyInvalid(f"{path}: {error.strerror}") from None

    @property
    def canonical(self) -> bytes:
        """What is signed: JSON with every field, names in order, no blanks; comments and layout do not enter."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form."""
        return hashlib.sha256(self.canonical).digest()

    @property
    def text(self) -> str:
        """The lines that officers sign."""
        return f"keywatt policy 1\nmodule {self.module}\nnumber {self.number}\npolicy {self.digest.hex()}\n"


def units(text: str | None) -> int | None:
    """Return units in least significant bits, tenths."""
    return None if text is None else int(Decimal(text).scaleb(1))


def currency(text: str | None) -> int | None:
    """Return base currency in least significant bits, 1e-5."""
    return None if text is None else int(Decimal(text).scaleb(5))


def _describe(error: ValidationError) -> str:
    """Name every field that is wrong, never what stands in it."""
    lines = []
    for found in error.errors(include_input=False):
        field = ".".join(str(part + 1) if isinstance(part, int) else part for part in found["loc"])
        lines.append(f"{field}: {found['msg'].removeprefix('Value error, ')}" if field else found["msg"])
    return "; ".join(lines)
