"""The policy in force, as everything else in the appliance asks it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from appliance.errors import NotAuthorised
from appliance.policy.document import Policy
from appliance.policy.judge import Asked, Charge, Judge
from appliance.policy.signals import Signals


class Authority:
    """Says who may do what. Without a policy everybody whose certificate is good may do everything: development only.

    Args:
        judge: of the policy in force; None to be open.
    """

    def __init__(self, judge: Judge | None = None) -> None:
        self._judge = judge
        self.signed_by: tuple[str, ...] = ()
        """Officers who signed the policy in force."""
        self.signals = Signals()
        """Of misuse, by the policy in force."""
        if judge is not None:
            self.signals.put(judge.policy)

    @property
    def policy(self) -> Policy | None:
        """The policy in force."""
        return None if self._judge is None else self._judge.policy

    def put(self, policy: Policy, signed_by: Sequence[str] = ()) -> None:
        """Put a policy in force, from the next request on; ``signed_by``: the officers who signed it."""
        self.signed_by = tuple(signed_by)
        self._judge = Judge(policy)
        self.signals.put(policy)

    def require_client(self, name: str) -> None:
        """See that a client is known and not revoked; raises NotAuthorised or ClientRevoked."""
        if self._judge is not None:
            self._judge.require_client(name)

    def require_reading(self, name: str) -> None:
        """See that a client may look things up; raises NotAuthorised or ClientRevoked."""
        if self._judge is not None:
            self._judge.require_reading(name)

    def is_auditor(self, name: str, *, otherwise: bool) -> bool:
        """Tell whether a client may see the log; without a policy as ``otherwise`` says. Raises NotAuthorised."""
        return otherwise if self._judge is None else self._judge.is_auditor(name)

    def require_lease_bearer(self, name: str) -> None:
        """See that a client may bring leases; raises NotAuthorised or ClientRevoked."""
        if self._judge is not None:
            self._judge.require_lease_bearer(name)

    def may_approve(self, name: str, asked: Sequence[Asked]) -> bool:
        """Tell whether a client may approve all that another asks; nobody may without a policy."""
        judge = self._judge
        return judge is not None and bool(asked) and all(judge.may_approve(name, one) for one in asked)

    def approvals_needed(self, asked: Sequence[Asked], local: datetime) -> int:
        """Return how many must approve a request; raises NotAuthorised or ClientRevoked."""
        judge = self._judge
        return 0 if judge is None else max((judge.approvals_needed(one, local) for one in asked), default=0)

    def judge(self, asked: Sequence[Asked], local: datetime, approvers: Collection[str] | None = ()) -> list[Charge]:
        """Return what a request counts against; raises NotAuthorised, ClientRevoked or ApprovalRequired.

        Args:
            asked: everything that it would issue.
            local: the time, naive, in the system's zone.
            approvers: who has approved it; None: as if enough had.
        """
        judge = self._judge
        if judge is None:
            return []
        if not asked:
            raise NotAuthorised("there is nothing that the policy could allow")
        return [charge for one in asked for charge in judge.judge(one, local, approvers)]
