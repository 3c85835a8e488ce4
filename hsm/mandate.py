"""What the officers allow a module, octet for octet as in ``module/include/keywatt_fm.h``: its lease and its policy."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from hsm.errors import FrameInvalid, LeaseUnreadable
from hsm.officers import OFFICERS_MAX, Approval

LEASE_NAMESPACE = "lease@keywatt.dev"
"""What ssh-keygen -Y sign is given as -n for a lease."""
LEASE_DAYS = 30
LEASE_DAYS_MAX = 92

_SET_LEASE = struct.Struct(">QQQ8x")
_SET_POLICY = struct.Struct(">Q32s8x")
_PRESENT = struct.Struct(f">QQQBB6xQ{OFFICERS_MAX * 104}s")
_MANDATE = struct.Struct(">HB5xQQQQ32sQ")
_HEAD = "keywatt lease 1"
_TEXT = re.compile(
    rf"{_HEAD}\nmodule (?P<module>[!-~]{{1,64}})\nnumber (?P<number>[1-9]\d{{0,9}})\n"
    r"from (?P<since>\d{4}-\d\d-\d\dT\d\d:\d\d)\nuntil (?P<until>\d{4}-\d\d-\d\dT\d\d:\d\d)\n"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)


def utc_minutes(moment: datetime) -> int:
    """Return minutes since 1970 UTC of an aware time."""
    return (moment - _EPOCH) // _MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The time within which a module issues.

    Args:
        number: from 1; a lease takes the place of every one with a lower number.
        valid_from, valid_until: minutes since 1970 UTC; the second is the first minute in which it is over.
    """

    number: int
    valid_from: int
    valid_until: int

    def pack(self) -> bytes:
        """Return the 32 octets of a set-lease item; raises FrameInvalid."""
        try:
            return _SET_LEASE.pack(self.number, self.valid_from, self.valid_until)
        except struct.error as error:
            raise FrameInvalid("a lease has numbers of 64 bits") from error

    @property
    def until(self) -> datetime:
        """The end, aware."""
        return _EPOCH + self.valid_until * _MINUTE

    def text(self, module_id: str) -> str:
        """Return the lines that officers sign."""
        since, until = (
            f"{_EPOCH + minutes * _MINUTE:%Y-%m-%dT%H:%M}" for minutes in (self.valid_from, self.valid_until)
        )
        return f"{_HEAD}\nmodule {module_id}\nnumber {self.number}\nfrom {since}\nuntil {until}\n"


def parse_lease(text: str) -> tuple[str, Lease]:
    """Read the lines that officers sign; return the module that they are for, and the lease. Raises LeaseUnreadable."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise LeaseUnreadable("these are not the lines of a lease")
    try:
        since, until = (
            utc_minutes(datetime.strptime(match[name], "%Y-%m-%dT%H:%M").replace(tzinfo=UTC))
            for name in ("since", "until")
        )
    except ValueError:
        raise LeaseUnreadable("a lease names a time that there is not") from None
    return match["module"], Lease(number=int(match["number"]), valid_from=since, valid_until=until)


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedLease:
    """A lease with the signatures of officers.

    Args:
        lease: what they signed.
        signatures: as approvals are handed in; at most sixteen.
        latest: a minute since 1970 UTC that is known to have passed; 0 for none. Officers' terms are judged by it too.
        is_new: whether the lease's own time begins anew, with its beginning.
    """

    lease: Lease
    signatures: Sequence[Approval]
    latest: int = 0
    is_new: bool = False

    def pack(self) -> bytes:
        """Return the item; raises FrameInvalid for more signatures than a token has officers."""
        if len(self.signatures) > OFFICERS_MAX:
            raise FrameInvalid(f"a lease has at most {OFFICERS_MAX} signatures")
        lease = self.lease
        signatures = b"".join(one.pack() for one in self.signatures)
        try:
            return _PRESENT.pack(
                lease.number,
                lease.valid_from,
                lease.valid_until,
                len(self.signatures),
                self.is_new,
                self.latest,
                signatures,
            )
        except struct.error as error:
            raise FrameInvalid("a lease has numbers of 64 bits") from error

    @classmethod
    def unpack(cls, octets: bytes) -> Self:
        """Read an item; raises FrameInvalid."""
        if len(octets) != _PRESENT.size:
            raise FrameInvalid("a lease has the wrong length")
        number, since, until, count, is_new, latest, signatures = _PRESENT.unpack(octets)
        if count > OFFICERS_MAX or is_new > 1:
            raise FrameInvalid("a lease has more signatures than a token has officers, or flags that there are not")
        return cls(
            lease=Lease(number=number, valid_from=since, valid_until=until),
            signatures=[Approval.unpack(signatures[104 * at : 104 * at + 104]) for at in range(count)],
            latest=latest,
            is_new=bool(is_new),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyItem:
    """A policy that a ceremony puts in force: its number, and SHA-256 of its canonical form."""

    number: int
    digest: bytes

    def pack(self) -> bytes:
        """Return the 48 octets of the item."""
        return _SET_POLICY.pack(self.number, self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """What the module says of it.

    Args:
        lease_required: whether nothing is issued without a lease.
        lease: in force, or over; None if there is none.
        policy_number, policy_digest: of the policy that a ceremony put in force last; 0 for none.
        latest: the latest minute since 1970 UTC that the module knows to have passed.
    """

    lease_required: bool
    lease: Lease | None
    policy_number: int
    policy_digest: bytes
    latest: int

    @classmethod
    def unpack(cls, octets: bytes) -> Self:
        """Read an answer without its header; raises FrameInvalid."""
        if len(octets) != _MANDATE.size:
            raise FrameInvalid("a mandate has the wrong length")
        _, required, number, since, until, policy, digest, latest = _MANDATE.unpack(octets)
        return cls(
            lease_required=bool(required),
            lease=Lease(number=number, valid_from=since, valid_until=until) if number else None,
            policy_number=policy,
            policy_digest=digest,
            latest=latest,
        )
