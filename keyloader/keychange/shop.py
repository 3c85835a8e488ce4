"""Asks the appliance for key-change tokens; the one file of the key loader that speaks its API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from keywatt.keys.v1 import keys_pb2
from keywatt.type.v1 import meter_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client.client import ClientError, ClientProfile, KeywattClient, info_of, passing
from keyloader.errors import ApplianceRefusal
from keyloader.keychange.meters import MeterChange

_NUMERIC_CARRIER = 2
_ALGORITHMS = {7: meter_pb2.ENCRYPTION_ALGORITHM_EA07, 11: meter_pb2.ENCRYPTION_ALGORITHM_EA11}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class KeyChangeSet:
    """The set of one meter, or why there is none; its repr shows no digits.

    Args:
        tokens: 20 digits each, in the order of entry; empty if it was refused.
        rollover: whether the meter forgets its token identifiers.
        new_key: check value of the new key, with its algorithm.
        reason: reason code of a refusal (docs/errors.md), else empty.
    """

    change: MeterChange
    request_id: str
    tokens: tuple[str, ...] = ()
    rollover: bool = False
    new_key: str = ""
    module: str = ""
    test_key: bool = False
    reason: str = ""


class Shop:
    """A connection to the appliance, for key changes; use it as a context manager."""

    def __init__(self, profile: Path) -> None:
        """Open it; raises ApplianceRefusal for a profile that cannot be read."""
        try:
            self._client = KeywattClient(ClientProfile.read(profile))
        except ValueError as error:
            raise ApplianceRefusal(str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def officers_digest(self) -> str:
        """Return the digest of the officers of the module; empty if it has none. Raises ApplianceRefusal."""
        try:
            status = self._client.call(self._client.keys.GetModuleStatus, keys_pb2.GetModuleStatusRequest())
        except ClientError as error:
            raise ApplianceRefusal(f"{error.reason or error.code.name}: {error}", hint=error.hint) from None
        return str(status.officers_digest)

    def change(self, asked: Sequence[tuple[MeterChange, str]]) -> list[KeyChangeSet]:
        """Ask for the sets of at most 1,000 meters, each under its request id; they come in the order of the question.

        Repeated until it is answered, within the profile's time: a set that was made is given again, not made anew.

        Raises:
            ApplianceRefusal: no answer; asking again is safe.
        """
        requests = [vending_pb2.TokenRequest(key_change=_request(change, request_id)) for change, request_id in asked]
        try:
            results = self._client.issue_batch(requests)
        except ClientError as error:
            raise ApplianceRefusal(f"{error.reason or error.code.name}: {error}", hint=error.hint) from None
        waiting = next((found for result in results if (found := passing(result)) is not None), None)
        if waiting is not None:
            # What may pass is no refusal: the campaign is not finished.
            raise ApplianceRefusal(f"{waiting.reason}: some meters have no answer yet", hint=waiting.metadata["hint"])
        return [_set(change, request_id, result) for (change, request_id), result in zip(asked, results, strict=True)]


def _request(change: MeterChange, request_id: str) -> vending_pb2.IssueKeyChangeTokensRequest:
    return vending_pb2.IssueKeyChangeTokensRequest(
        meter=meter_pb2.MeterConfiguration(
            meter_pan=change.meter_pan,
            supply_group_code=change.supply_group_code,
            key_revision_number=change.key_revision_number,
            tariff_index=change.tariff_index,
            encryption_algorithm=_ALGORITHMS[change.encryption_algorithm],
            token_carrier_type=_NUMERIC_CARRIER,
        ),
        target=meter_pb2.KeyAssignment(
            supply_group_code=change.new_supply_group_code,
            key_revision_number=change.new_key_revision_number,
            tariff_index=change.new_tariff_index,
        ),
        request_id=request_id,
    )


def _set(change: MeterChange, request_id: str, result: vending_pb2.TokenResult) -> KeyChangeSet:
    if result.WhichOneof("result") != "key_change":
        return KeyChangeSet(change=change, request_id=request_id, reason=info_of(result.error).reason or "UNKNOWN")
    answer = result.key_change
    return KeyChangeSet(
        change=change,
        request_id=request_id,
        tokens=tuple(token.digits for token in answer.tokens),
        rollover=answer.rollover,
        new_key=f"{answer.new_key.check_value} by {answer.new_key.check_value_algorithm}",
        module=answer.provenance.module_id,
        test_key=answer.new_key.test_key,
    )
