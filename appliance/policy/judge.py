"""What a policy says of a request: refused, or allowed and counted against these limits. Pure; built once a policy."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from appliance.errors import ClientRevoked, NotAuthorised
from appliance.policy import document
from appliance.policy.document import ANY, Client, Grant, Limit, Policy

_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a client wants to issue.

    Args:
        client: its name.
        supply_groups: of the keys that take part; empty in class 1.
        token_class, subclass: of the token; of a key-change set the first section's.
        meter: PAN as a number, or None.
        units, currency: what it will grant, in least significant bits; zero where it grants nothing.
        is_free: whether it takes the reserved identifier.
        tokens: how many it counts for.
    """

    client: str
    supply_groups: tuple[str, ...]
    token_class: int
    subclass: int
    meter: int | None = None
    units: int = 0
    currency: int = 0
    is_free: bool = False
    tokens: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a request counts for one limit.

    Args:
        counter: name of the counter, with its window.
        ends: end of the window, naive, in the system's zone.
        limit: name of the limit.
        count, units, currency: what is added.
        count_max, units_max, currency_max: what must not be exceeded; None for no bound.
    """

    counter: str
    ends: datetime
    limit: str
    count: int
    units: int
    currency: int
    count_max: int | None
    units_max: int | None
    currency_max: int | None


class _Rule:
    """A grant, made ready."""

    __slots__ = ("classes", "currency", "grant", "groups", "hours", "units")

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.groups = frozenset(grant.supply_groups)
        self.classes = document.subclasses(grant.classes)
        self.hours = grant.hours
        self.units = document.units(grant.ceiling_units)
        self.currency = document.currency(grant.ceiling_currency)

    def covers(self, asked: Asked, group: str, local: datetime) -> bool:
        """Tell whether this grant allows it for one of its supply groups."""
        return (
            (asked.token_class, asked.subclass) in self.classes
            and (ANY in self.groups or group in self.groups)
            and (self.hours is None or self.hours.contain(local.time()))
            and (self.units is None or asked.units <= self.units)
            and (self.currency is None or asked.currency <= self.currency)
            and (self.grant.free_issue or not asked.is_free)
        )


class _Counted:
    """A limit, made ready."""

    __slots__ = ("classes", "clients", "currency", "groups", "limit", "units")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.clients = frozenset(limit.clients)
        self.groups = frozenset(limit.supply_groups)
        self.classes = document.subclasses(limit.classes)
        self.units = document.units(limit.units)
        self.currency = document.currency(limit.currency)

    def charges(self, asked: Asked, local: datetime) -> list[Charge]:
        """Return what a request counts; nothing if the limit is not for it."""
        if self.clients and asked.client not in self.clients:
            return []
        if self.classes and (asked.token_class, asked.subclass) not in self.classes:
            return []
        is_open = not self.groups or ANY in self.groups
        groups = [group for group in asked.supply_groups if is_open or group in self.groups]
        if self.groups and not groups:
            return []
        match self.limit.per:
            case "client":
                scopes = [asked.client]
            case "supply-group":
                scopes = groups
            case "meter":
                scopes = [] if asked.meter is None else [str(asked.meter)]
            case "all":
                scopes = [""]
        start, ends = _window_name(self.limit.window, local.replace(second=0, microsecond=0))
        return [
            Charge(
                counter=f"{self.limit.name}|{self.limit.window}|{start}|{scope}",
                ends=ends,
                limit=self.limit.name,
                count=asked.tokens,
                units=asked.units,
                currency=asked.currency,
                count_max=self.limit.count,
                units_max=self.units,
                currency_max=self.currency,
            )
            for scope in scopes
        ]


def window(kind: str, local: datetime) -> tuple[datetime, datetime]:
    """Return the first minute of a window and the first one after it."""
    minute = local.replace(second=0, microsecond=0)
    match kind:
        case "minute":
            return minute, minute + _MINUTE
        case "hour":
            start = minute.replace(minute=0)
            return start, start + _HOUR
        case "day":
            start = minute.replace(hour=0, minute=0)
            return start, start + _DAY
        case _:
            start = minute.replace(day=1, hour=0, minute=0)
            return start, (start + 32 * _DAY).replace(day=1)


@lru_cache(maxsize=64)
def _window_name(kind: str, minute: datetime) -> tuple[str, datetime]:
    # Asked for every limit of every token; another answer is needed once a minute.
    start, ends = window(kind, minute)
    return f"{start:%Y%m%d%H%M}", ends


class Judge:
    """Judges requests by one policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._clients: dict[str, Client] = {client.name: client for client in policy.client}
        self._rules: dict[str, list[_Rule]] = defaultdict(list)
        for client in policy.client:
            self._rules[client.name] = [_Rule(grant) for grant in client.grant]
        self._limits = [_Counted(limit) for limit in policy.limit]

    def require_client(self, name: str) -> Client:
        """Return a client; raises NotAuthorised or ClientRevoked."""
        client = self._clients.get(name)
        if client is None:
            raise NotAuthorised("the policy does not know this client")
        if client.is_revoked:
            raise ClientRevoked("the policy has revoked this client")
        return client

    def require_reading(self, name: str) -> None:
        """See that a client may look things up; raises NotAuthorised or ClientRevoked."""
        if not self.require_client(name).reads:
            raise NotAuthorised("the policy does not let this client look anything up")

    def is_auditor(self, name: str) -> bool:
        """Tell whether a client may see the log; raises NotAuthorised or ClientRevoked."""
        return self.require_client(name).audits

    def judge(self, asked: Asked, local: datetime) -> list[Charge]:
        """Return what a request counts against; raises NotAuthorised or ClientRevoked.

        Args:
            asked: what is wanted.
            local: the time, naive, in the system's zone.
        """
        self.require_client(asked.client)
        rules = self._rules[asked.client]
        for group in asked.supply_groups or (ANY,):
            if not any(rule.covers(asked, group, local) for rule in rules):
                raise NotAuthorised("the policy does not let this client issue this")
        return [charge for limit in self._limits for charge in limit.charges(asked, local)]
