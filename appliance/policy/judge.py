"""What a policy says of a request: refused, or allowed and counted against these limits. Pure; built once a policy.

Asked for every token, so that what is the same for many is worked out once: which grants and limits are for a client,
its groups and a class, and what a counter is called in this minute.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from appliance.errors import ApprovalRequired, ClientRevoked, NotAuthorised
from appliance.policy import document
from appliance.policy.document import ANY, Approves, Client, Grant, Limit, Policy

_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_PLANS_MAX = 100_000


@dataclass(slots=True, kw_only=True)
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


@dataclass(slots=True, kw_only=True, eq=False)
class Bound:
    """A limit in one of its windows, for one of those that it counts apart.

    Args:
        counter: name of the counter, with its window.
        ends: end of the window, naive, in the system's zone.
        limit: name of the limit.
        count_max, units_max, currency_max: what must not be exceeded; None for no bound.
    """

    counter: str
    ends: datetime
    limit: str
    count_max: int | None
    units_max: int | None
    currency_max: int | None


class Charge:
    """What a request counts for one limit: tokens, and least significant bits of units and currency."""

    __slots__ = ("bound", "count", "currency", "units")

    def __init__(self, bound: Bound, count: int, units: int, currency: int) -> None:
        self.bound = bound
        self.count = count
        self.units = units
        self.currency = currency


class _Rule:
    """A grant, made ready."""

    __slots__ = ("approvals", "classes", "currency", "groups", "hours", "is_free", "units")

    def __init__(self, grant: Grant) -> None:
        self.groups = frozenset(grant.supply_groups)
        self.classes = document.subclasses(grant.classes)
        self.hours = grant.hours
        self.units = document.units(grant.ceiling_units)
        self.currency = document.currency(grant.ceiling_currency)
        self.is_free = grant.free_issue
        self.approvals = grant.approvals

    def is_for(self, kind: tuple[int, int], group: str) -> bool:
        """Tell whether this grant is for a class and a supply group."""
        return kind in self.classes and (ANY in self.groups or group in self.groups)

    def covers(self, asked: Asked, local: datetime) -> bool:
        """Tell whether it allows what it is for."""
        return (
            (self.units is None or asked.units <= self.units)
            and (self.currency is None or asked.currency <= self.currency)
            and (self.is_free or not asked.is_free)
            and (self.hours is None or self.hours.contain(local.time()))
        )


class _Approver:
    """What a client may approve, made ready."""

    __slots__ = ("classes", "groups")

    def __init__(self, approves: Approves) -> None:
        self.groups = frozenset(approves.supply_groups)
        self.classes = document.subclasses(approves.classes)

    def covers(self, asked: Asked) -> bool:
        """Tell whether a request may be approved."""
        if (asked.token_class, asked.subclass) not in self.classes:
            return False
        return ANY in self.groups or (bool(asked.supply_groups) and self.groups.issuperset(asked.supply_groups))


class _Counted:
    """A limit, made ready, with its bounds in the present window."""

    __slots__ = ("_bounds", "_ends", "_prefix", "_start", "classes", "clients", "currency", "groups", "limit", "units")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.clients = frozenset(limit.clients)
        self.groups = frozenset(limit.supply_groups)
        self.classes = document.subclasses(limit.classes)
        self.units = document.units(limit.units)
        self.currency = document.currency(limit.currency)
        self._bounds: dict[str, Bound] = {}
        self._prefix = ""
        self._start = self._ends = datetime.min  # noqa: DTZ901 - windows are naive, in the system's zone

    def scopes(self, asked: Asked) -> list[str] | None:
        """Return what it counts apart for such a request; None: the meter, which each request has its own of."""
        if self.clients and asked.client not in self.clients:
            return []
        if self.classes and (asked.token_class, asked.subclass) not in self.classes:
            return []
        if self.limit.free_issue not in (None, asked.is_free):
            return []
        is_open = not self.groups or ANY in self.groups
        groups = [group for group in asked.supply_groups if is_open or group in self.groups]
        if not is_open and not groups:
            return []
        match self.limit.per:
            case "client":
                return [asked.client]
            case "supply-group":
                return groups
            case "meter":
                return None
            case "all":
                return [""]

    def bound(self, scope: str, local: datetime) -> Bound:
        """Return its bound for one of those that it counts apart, in the window of a time."""
        if not self._start <= local < self._ends:
            self._start, self._ends = window(self.limit.window, local)
            self._prefix = f"{self.limit.name}|{self.limit.window}|{self._start:%Y%m%d%H%M}|"
            self._bounds = {}
        found = self._bounds.get(scope)
        if found is None:
            limit = self.limit
            found = Bound(
                counter=self._prefix + scope,
                ends=self._ends,
                limit=limit.name,
                count_max=limit.count,
                units_max=self.units,
                currency_max=self.currency,
            )
            # Meters are too many to be kept; each comes back seldom.
            if limit.per != "meter":
                self._bounds[scope] = found
        return found


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


class _Plan:
    """What is for every request of a client for these groups and this class."""

    __slots__ = ("counted", "fixed", "rules")

    def __init__(self, rules: list[list[_Rule]], fixed: list[tuple[_Counted, str]], counted: list[_Counted]) -> None:
        self.rules = rules
        self.fixed = fixed
        self.counted = counted


class Judge:
    """Judges requests by one policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._clients: dict[str, Client] = {client.name: client for client in policy.client}
        self._rules = {client.name: [_Rule(grant) for grant in client.grant] for client in policy.client}
        self._approvers = {client.name: [_Approver(one) for one in client.approves] for client in policy.client}
        self._limits = [_Counted(limit) for limit in policy.limit]
        self._plans: dict[tuple[str, tuple[str, ...], int, int, bool], _Plan] = {}

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

    def require_lease_bearer(self, name: str) -> None:
        """See that a client may bring leases; raises NotAuthorised or ClientRevoked."""
        if not self.require_client(name).renews_lease:
            raise NotAuthorised("the policy does not let this client bring leases")

    def is_auditor(self, name: str) -> bool:
        """Tell whether a client may see the log; raises NotAuthorised or ClientRevoked."""
        return self.require_client(name).audits

    def may_approve(self, name: str, asked: Asked) -> bool:
        """Tell whether a client may approve what another asks."""
        client = self._clients.get(name)
        if client is None or client.is_revoked or name == asked.client:
            return False
        return any(one.covers(asked) for one in self._approvers[name])

    def approvals_needed(self, asked: Asked, local: datetime) -> int:
        """Return how many must approve; raises NotAuthorised or ClientRevoked."""
        self.require_client(asked.client)
        return _approvals(self._plan(asked), asked, local)

    def judge(self, asked: Asked, local: datetime, approvers: Collection[str] | None = ()) -> list[Charge]:
        """Return what a request counts against.

        Args:
            asked: what is wanted.
            local: the time, naive, in the system's zone.
            approvers: who has approved it; None: as if enough had.

        Raises:
            NotAuthorised, ClientRevoked: the policy does not allow it.
            ApprovalRequired: others must approve it.
        """
        self.require_client(asked.client)
        plan = self._plan(asked)
        needed = _approvals(plan, asked, local)
        if needed and approvers is not None:
            found = sum(self.may_approve(name, asked) for name in set(approvers))
            if found < needed:
                raise ApprovalRequired("others must approve this", needed=str(needed), found=str(found))
        charges = [
            Charge(counted.bound(scope, local), asked.tokens, asked.units, asked.currency)
            for counted, scope in plan.fixed
        ]
        if asked.meter is not None:
            meter = str(asked.meter)
            charges += [
                Charge(counted.bound(meter, local), asked.tokens, asked.units, asked.currency)
                for counted in plan.counted
            ]
        return charges

    def _plan(self, asked: Asked) -> _Plan:
        name = (asked.client, asked.supply_groups, asked.token_class, asked.subclass, asked.is_free)
        found = self._plans.get(name)
        if found is None:
            kind = (asked.token_class, asked.subclass)
            rules = [
                [rule for rule in self._rules[asked.client] if rule.is_for(kind, group)]
                for group in asked.supply_groups or (ANY,)
            ]
            scoped = [(counted, counted.scopes(asked)) for counted in self._limits]
            found = _Plan(
                rules,
                [(counted, scope) for counted, scopes in scoped for scope in scopes or ()],
                [counted for counted, scopes in scoped if scopes is None],
            )
            # Groups come from requests: whoever makes them up does not fill the memory.
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[name] = found
        return found


def _approvals(plan: _Plan, asked: Asked, local: datetime) -> int:
    """Return how many approvals the easiest grants need, of each group the most; raises NotAuthorised."""
    needed = 0
    for rules in plan.rules:
        least = _least(rules, asked, local)
        if least is None:
            raise NotAuthorised("the policy does not let this client issue this")
        needed = max(needed, least)
    return needed


def _least(rules: Sequence[_Rule], asked: Asked, local: datetime) -> int | None:
    least: int | None = None
    for rule in rules:
        if rule.covers(asked, local):
            if not rule.approvals:
                return 0
            least = rule.approvals if least is None else min(least, rule.approvals)
    return least
