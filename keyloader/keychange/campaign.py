"""Campaign files: which meters are changed, for whom, and what officers approve."""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from keyloader.errors import CampaignInvalid
from keyloader.field_errors import describe
from keyloader.keychange import meters
from keyloader.keychange.envelopes import Recipient as AgeRecipient
from keyloader.keychange.envelopes import parse_recipient
from keyloader.keychange.meters import MeterChange

NAMESPACE = "campaign@keywatt.dev"
"""What ssh-keygen -Y sign is given as -n for the approval of a campaign."""
_SIZE_MAX = 64 * 1024
_Line = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e]*$")]


class Recipient(BaseModel):
    """Somebody who gets the tokens of some supply groups.

    Args:
        name: names the file: letters, digits, dash and underscore.
        key: an age recipient (``age1…``) or an SSH public key; nobody else can read the file.
        supply_groups: of the meters as they are now.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,59}$")]
    key: str
    supply_groups: Annotated[list[Annotated[str, Field(pattern=r"^\d{6}$")]], Field(min_length=1)]

    @field_validator("key")
    @classmethod
    def _check_key(cls, text: str) -> str:
        parse_recipient(text)
        return text

    @property
    def age(self) -> AgeRecipient:
        """As age takes it."""
        return parse_recipient(self.key)


class Campaign(BaseModel):
    """A campaign.

    Args:
        format: ``keywatt-campaign/1``.
        title: one line.
        meters: name of the CSV file beside the campaign file (:mod:`keyloader.keychange.meters`).
        sha256: of that file.
        not_before, not_after: the days within which it may be run, UTC.
        approvals: how many officers must have signed, two at least.
        recipient: who gets what; every supply group of the list has exactly one.
        customer_text: what customers read before the tokens; empty for the usual text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    format: Literal["keywatt-campaign/1"]
    title: _Line
    meters: Annotated[str, Field(pattern=r"^[^/]+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    not_before: date
    not_after: date
    approvals: Annotated[int, Field(ge=2, le=16)] = 2
    recipient: Annotated[list[Recipient], Field(min_length=1, max_length=200)]
    customer_text: Annotated[str, Field(max_length=2000)] = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.not_after < self.not_before:
            raise ValueError("not_after lies before not_before")
        if len({one.name.lower() for one in self.recipient}) != len(self.recipient):
            raise ValueError("two recipients have the same name")
        groups = Counter(group for one in self.recipient for group in one.supply_groups)
        twice = [group for group, count in groups.items() if count > 1]
        if twice:
            raise ValueError(f"supply group {twice[0]} has two recipients")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignFile:
    """A campaign as it lies on the disk, with its meters."""

    campaign: Campaign
    digest: bytes
    changes: list[MeterChange]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a campaign and its list of meters; raises CampaignInvalid with what is wrong."""
        try:
            octets = path.read_bytes()
            if len(octets) > _SIZE_MAX:
                raise CampaignInvalid(f"{path}: too large to be a campaign file")
            campaign = Campaign.model_validate(tomllib.loads(octets.decode("utf-8")))
        except OSError as error:
            raise CampaignInvalid(f"{path}: {error.strerror}") from None
        except ValidationError as error:
            raise CampaignInvalid(f"{path}: {describe(error)}") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            raise CampaignInvalid(f"{path}: {error}") from None
        listed = meters.read(path.parent / campaign.meters)
        if hashlib.sha256(listed).hexdigest() != campaign.sha256:
            raise CampaignInvalid(f"{campaign.meters} is another list than the campaign says")
        changes = meters.parse(listed, campaign.meters)
        served = {group for one in campaign.recipient for group in one.supply_groups}
        unserved = {change.supply_group_code for change in changes} - served
        if unserved:
            raise CampaignInvalid(f"supply group {min(unserved)} has no recipient")
        return cls(campaign=campaign, digest=hashlib.sha256(octets).digest(), changes=changes)

    @property
    def text(self) -> str:
        """What officers sign: the campaign by its digest, and so its list of meters."""
        return (
            f"keywatt campaign 1\ncampaign {self.digest.hex()}\nmeters {self.campaign.sha256}\n"
            f"count {len(self.changes)}\n"
        )

    @property
    def groups(self) -> Counter[tuple[str, str]]:
        """How many meters go from which key to which, both as SGC/KRN."""
        return Counter(
            (
                f"{one.supply_group_code}/{one.key_revision_number}",
                f"{one.new_supply_group_code}/{one.new_key_revision_number}",
            )
            for one in self.changes
        )

    def request_id(self, change: MeterChange, place: int) -> str:
        """Return the request id of a meter: always the same for this campaign, so that its set is always the same.

        A UUID of version 7, in the order of the list: the ledger's index stays together.
        """
        start = datetime.combine(self.campaign.not_before, datetime.min.time(), UTC)
        milliseconds = int(start.timestamp() * 1000) + place
        digest = hashlib.sha256(self.digest + change.meter_pan.encode("ascii")).digest()
        value = milliseconds << 80 | int.from_bytes(digest[:10], "big")
        value = value & ~(0xF << 76) | 0x7 << 76
        return str(UUID(int=value & ~(0x3 << 62) | 0x2 << 62))

    def recipient_of(self, change: MeterChange) -> Recipient:
        """Return who gets the tokens of a meter."""
        return next(one for one in self.campaign.recipient if change.supply_group_code in one.supply_groups)
