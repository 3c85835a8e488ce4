"""The lease to vend, as the worker keeps it: presented at every login, written into the log, never an older one.

The functionality module judges signatures and time; it forgets a lease that no ceremony put into the token when it is
logged out. What is here makes it hear again: of the lease that was presented last, and of the latest time that the log
knows, so that a clock that was set back does not bring a lease back that is over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hsm.errors import FrameInvalid
from hsm.log import leaves
from hsm.log.errors import LeafInvalid, LogDamaged
from hsm.log.tiles import read_regular
from hsm.mandate import Lease, Mandate, PresentedLease
from hsm.reasons import Reason
from hsm.requests import HEADER_LENGTH, CheckValue, Operation, pack_request
from hsm.session import ModuleSession

FILE = "lease"
"""Beside the log: the item that was presented last."""
_MILLISECONDS = 60_000
_FILE_MAX = 64 * 1024
_BACKWARD = 10
_ISSUING = frozenset({Operation.ISSUE, Operation.KEY_CHANGE})


class LeaseMemory:
    """What the worker knows of leases.

    Args:
        facts: what the log's writer keeps durable.
        last: the last entry of the log when it was opened.
    """

    def __init__(self, facts: Mapping[str, Any], last: bytes | None) -> None:
        """Begin with what was durable; raises LogDamaged."""
        kept = facts.get("lease", {})
        try:
            self.number, self.latest = int(kept.get("number", 0)), int(kept.get("latest", 0))
            if last is not None:
                self.latest = max(self.latest, leaves.decode(last)["time"] // _MILLISECONDS)
        except (TypeError, ValueError, AttributeError, LeafInvalid):
            raise LogDamaged("state.json or the last entry is not what a writer leaves") from None
        self._lease: Lease | None = None

    def facts(self, now: int) -> dict[str, int]:
        """Return what is to be kept; ``now`` in minutes since 1970 UTC."""
        return {"number": self.number, "latest": max(self.latest, now)}

    def present(self, session: ModuleSession, octets: bytes) -> tuple[Reason, PresentedLease]:
        """Present a lease to the module; a new one begins the count of time anew. Raises HsmError."""
        item = PresentedLease.unpack(octets)
        is_new = item.lease.number > self.number
        # What the caller says of the time is not believed: the log has it.
        item = PresentedLease(lease=item.lease, signatures=item.signatures, latest=0 if is_new else self.latest)
        answer = session.operate(Operation.PRESENT_LEASE, pack_request(Operation.PRESENT_LEASE, [item]))
        reason = CheckValue.unpack(answer[HEADER_LENGTH:]).reason
        if reason is Reason.OK:
            if is_new:
                self.number, self.latest = item.lease.number, item.lease.valid_from
            self.look(session)
        return reason, item

    def recall(self, session: ModuleSession, folder: Path) -> str:
        """Present at a login what was presented before, from beside the log; return why that failed, or nothing.

        Raises:
            HsmError: the module failed.
        """
        refusal = ""
        try:
            reason, _ = self.present(session, read_regular(folder / FILE, _FILE_MAX))
            refusal = "" if reason is Reason.OK else reason.name
        except FileNotFoundError:
            pass
        except FrameInvalid as error:
            refusal = error.reason
        except OSError as error:
            refusal = str(error.strerror)
        self.look(session)
        return refusal

    def look(self, session: ModuleSession) -> Mandate:
        """Compare what the module has with what was in force before. Raises HsmError."""
        mandate = mandate_of(session)
        self._lease = mandate.lease
        if mandate.lease is not None and mandate.lease.number > self.number:
            self.number, self.latest = mandate.lease.number, mandate.lease.valid_from
        return mandate

    def refuses(self, operation: Operation, now: int) -> Reason | None:
        """Tell why nothing of this kind may be done; None if the module is to judge. ``now`` in minutes UTC."""
        if operation not in _ISSUING:
            return None
        if self.number > (0 if self._lease is None else self._lease.number):
            return Reason.LEASE_OUTDATED
        return Reason.LEASE_CLOCK if self._lease is not None and now + _BACKWARD < self.latest else None


def mandate_of(session: ModuleSession) -> Mandate:
    """Ask the module for its mandate. Raises HsmError."""
    return Mandate.unpack(session.operate(Operation.MANDATE, pack_request(Operation.MANDATE))[HEADER_LENGTH:])


def said_of(item: PresentedLease) -> dict[str, object]:
    """Return what the log says of a lease that was accepted."""
    lease = item.lease
    return {
        "number": lease.number,
        "from": lease.valid_from * _MILLISECONDS,
        "until": lease.valid_until * _MILLISECONDS,
        "keys": [one.key.hex() for one in item.signatures],
        "presented": hashlib.sha256(PresentedLease(lease=lease, signatures=item.signatures).pack()).hexdigest(),
    }
