"""Where a token came from that was found in the field. A genuine one that no log has is the alarm of alarms."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass

import structlog

from appliance.audit.log_reader import LogReader, Snapshot
from appliance.errors import AnswerUnreadable
from appliance.issuing.meter import Meter
from appliance.issuing.orders import Verification
from appliance.issuing.verifier import Verifier
from appliance.ledger.ledger import Ledger
from appliance.ledger.records import Issuance
from hsm.log import leaves
from hsm.log.errors import LeafInvalid
from sts.token_number import TokenNumber

logger = structlog.get_logger("keywatt.appliance")


class TokenOrigin(enum.Enum):
    """Where a token came from; docs/api.md says what to do about each."""

    ISSUED = 1
    NOT_IN_LEDGER = 2
    OTHER_MODULE = 3
    UNKNOWN = 4
    MISUSE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Identification:
    """What is known of a token; ``entry`` is empty unless this module's log has it."""

    origin: TokenOrigin
    log_origin: str = ""
    log_index: int | None = None
    entry: bytes = b""


class Identifier:
    """Asks module, ledger and log about a token."""

    def __init__(self, verifier: Verifier, ledger: Ledger, log: LogReader) -> None:
        self._verifier = verifier
        self._ledger = ledger
        self._log = log

    async def identify(self, number: TokenNumber, meter: Meter | None, client: str) -> Identification:
        """Say where a token came from.

        Args:
            number: the token.
            meter: the meter as it is configured; None: it is looked for, not decrypted.
            client: who asks; the question goes into the log.

        Raises:
            StsError, HsmError, ApplianceError: the question makes no sense, or cannot be answered now.
        """
        found: Verification | None = None
        if meter is not None or number.token_class == 1:
            found = await self._verifier.verify(number, meter, client)
        issuances = await self._issuances(found, meter, number)
        snapshot = await self._log.newest(fresh=True)
        own = snapshot.checkpoint.origin
        for issuance in issuances:
            for token in issuance.tokens:
                index = token.log_index
                if issuance.log == own and index is not None and 0 <= index < snapshot.size:
                    entry = await asyncio.to_thread(snapshot.proven_entry, index)
                    if _is_of(entry, number):
                        return _found(TokenOrigin.ISSUED, snapshot, index, entry)
        known = await asyncio.to_thread(_search, snapshot, number)
        if known is not None:
            index, entry = known
            in_ledger = await self._ledger_has(own, index, entry)
            origin = TokenOrigin.ISSUED if in_ledger else TokenOrigin.NOT_IN_LEDGER
            return _found(origin, snapshot, index, entry)
        for issuance in issuances:
            if issuance.log and issuance.log != own:
                index = issuance.tokens[0].log_index
                return Identification(origin=TokenOrigin.OTHER_MODULE, log_origin=issuance.log, log_index=index)
        if found is not None and found.genuine and number.token_class != 1:
            logger.critical(
                "key-or-module-misused",
                key=None if found.origin is None or found.origin.key is None else str(found.origin.key.reference),
                hint="A genuine token is in no log. Stop vending under this key and call the security officers.",
            )
            return Identification(origin=TokenOrigin.MISUSE)
        return Identification(origin=TokenOrigin.UNKNOWN)

    async def _ledger_has(self, origin: str, index: int, entry: bytes) -> bool:
        leaf = leaves.decode(entry)
        issuance = await self._ledger.find(str(leaf["client"]), bytes.fromhex(str(leaf["request"])))
        if issuance is None or issuance.log != origin:
            return False
        return any(token.log_index == index for token in issuance.tokens)

    async def _issuances(self, found: Verification | None, meter: Meter | None, number: TokenNumber) -> list[Issuance]:
        """Return what the ledger has under the token's identifier, if its sealed answer bears these very digits.

        Who can write to the database cannot seal an answer: a row alone says nothing.
        """
        if found is None or meter is None or found.identifier is None:
            return []
        identifier = found.identifier
        names = await self._ledger.requests_of(int(meter.pan.digits), identifier.base_date, identifier.minutes)
        issuances = []
        for client, request_id in names:
            try:
                issuance = await self._ledger.find(client, request_id)
            except AnswerUnreadable:
                continue
            if issuance is not None and number.digits.encode() in issuance.answer:
                issuances.append(issuance)
        return issuances


def _found(origin: TokenOrigin, snapshot: Snapshot, index: int, entry: bytes) -> Identification:
    return Identification(origin=origin, log_origin=snapshot.checkpoint.origin, log_index=index, entry=entry)


def _is_of(entry: bytes, number: TokenNumber) -> bool:
    try:
        return leaves.token_hash(number.digits) in leaves.tokens_of(leaves.decode(entry))
    except LeafInvalid:
        return False


def _search(snapshot: Snapshot, number: TokenNumber) -> tuple[int, bytes] | None:
    for index in snapshot.find(leaves.token_hash(number.digits).encode()):
        entry = snapshot.proven_entry(index)
        if _is_of(entry, number):
            return index, entry
    return None
