"""The course of a campaign: chunk by chunk through the appliance, then one encrypted file a recipient, and a report.

Nothing of a token is on the disk before it is encrypted. A campaign that was cut off is simply run again: what was
issued is given again from the ledger, under the same request ids, and is the same, digit for digit.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from hsm.log.durable import replace_file
from keyloader.errors import OutputExists
from keyloader.keychange import envelopes
from keyloader.keychange.campaign import CampaignFile
from keyloader.keychange.meters import MeterChange, chunks
from keyloader.keychange.shop import KeyChangeSet

CHUNK = 1000
_AT_ONCE = 2
_STATE = "campaign.json"
_REPORT = "report.json"
_HEAD = (
    "meter_pan",
    "new_supply_group_code",
    "new_key_revision_number",
    "new_tariff_index",
    "new_key_check_value",
    "rollover",
    "token_1",
    "token_2",
    "token_3",
    "token_4",
)


class Source(Protocol):
    """Where sets come from."""

    def change(self, asked: Sequence[tuple[MeterChange, str]]) -> list[KeyChangeSet]:
        """Ask for sets; see :meth:`keyloader.keychange.shop.Shop.change`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a campaign came to; ``report`` is what the report file holds."""

    report: dict[str, Any]
    files: list[Path]

    @property
    def is_clean(self) -> bool:
        """Whether every meter got its set, and all of one key the same."""
        return not self.report["refused"] and not self.report["keys_that_changed"]


def open_folder(folder: Path, campaign: CampaignFile) -> int:
    """Make the folder of a campaign, or go on in it; return how many meters an earlier run had come to.

    Raises:
        OutputExists: it holds something else, or this campaign has been finished there.
    """
    state = folder / _STATE
    if not folder.exists():
        folder.mkdir(mode=0o700)
    elif not state.exists() and any(folder.iterdir()):
        raise OutputExists(f"{folder} is not empty, and holds no campaign")
    if (folder / _REPORT).exists():
        raise OutputExists(f"{folder}: this campaign was finished here; name another folder to have its tokens again")
    if not state.exists():
        keep_state(folder, campaign, 0)
        return 0
    try:
        kept = json.loads(state.read_bytes())
        digest, done = kept["campaign"], int(kept["done"])
    except (ValueError, KeyError, TypeError):
        raise OutputExists(f"{state}: this is no state of a campaign") from None
    if digest != campaign.digest.hex():
        raise OutputExists(f"{folder} belongs to another campaign")
    return done


def keep_state(folder: Path, campaign: CampaignFile, done: int) -> None:
    """Keep how far it has come, durable; raises OSError."""
    state = {"campaign": campaign.digest.hex(), "meters": len(campaign.changes), "done": done}
    replace_file(folder / _STATE, json.dumps(state).encode() + b"\n")


def run(
    campaign: CampaignFile, source: Source, folder: Path, officers: Sequence[str], tell: Callable[[int], None]
) -> Outcome:
    """Get every set, write what each recipient gets, and the report.

    Args:
        campaign: as it was approved.
        source: the appliance.
        folder: from :func:`open_folder`.
        officers: names of those who approved, for the report.
        tell: is told how many meters are through, after each chunk.

    Raises:
        KeyLoaderError, OSError: run it again.
    """
    started = datetime.now(UTC)
    outputs: dict[str, io.StringIO] = {}
    writers: dict[str, Any] = {}
    for one in campaign.campaign.recipient:
        outputs[one.name] = io.StringIO(newline="")
        writers[one.name] = csv.writer(outputs[one.name], lineterminator="\n")
        writers[one.name].writerow(_HEAD)
    tally = _Tally()
    done = 0
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked = [
            [(change, campaign.request_id(change, start * CHUNK + place)) for place, change in enumerate(chunk)]
            for start, chunk in enumerate(chunks(campaign.changes, CHUNK))
        ]
        for sets in pool.map(source.change, asked):
            for made in sets:
                tally.add(made)
                if not made.reason:
                    writers[campaign.recipient_of(made.change).name].writerow(_line(made))
            done += len(sets)
            keep_state(folder, campaign, done)
            tell(done)
    files = []
    for one in campaign.campaign.recipient:
        octets = outputs[one.name].getvalue().encode("ascii")
        path = folder / f"{one.name}.csv.age"
        replace_file(path, envelopes.seal(octets, one.age))
        tally.contents[one.name] = hashlib.sha256(octets).hexdigest()
        files.append(path)
    report = _report(campaign, tally, officers, started)
    replace_file(folder / _REPORT, json.dumps(report, indent=1, sort_keys=True).encode() + b"\n")
    return Outcome(report=report, files=files)


class _Tally:
    def __init__(self) -> None:
        self.made: Counter[tuple[str, str, str]] = Counter()
        self.refused: list[dict[str, str]] = []
        self.tokens = 0
        self.modules: set[str] = set()
        self.test_keys = False
        self.contents: dict[str, str] = {}

    def add(self, made: KeyChangeSet) -> None:
        """Count a set."""
        change = made.change
        if made.reason:
            self.refused.append({"meter_pan": change.meter_pan, "reason": made.reason})
            return
        new = f"{change.new_supply_group_code}/{change.new_key_revision_number}"
        self.made[change.supply_group_code, new, made.new_key] += 1
        self.tokens += len(made.tokens)
        self.modules.add(made.module)
        self.test_keys |= made.test_key


def _report(campaign: CampaignFile, tally: _Tally, officers: Sequence[str], started: datetime) -> dict[str, Any]:
    reasons = Counter(one["reason"] for one in tally.refused)
    return {
        "format": "keywatt-campaign-report/1",
        "title": campaign.campaign.title,
        "campaign": campaign.digest.hex(),
        "meters_sha256": campaign.campaign.sha256,
        "approved_by": list(officers),
        "started": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "ended": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "meters": len(campaign.changes),
        "sets": sum(tally.made.values()),
        "tokens": tally.tokens,
        "refused": len(tally.refused),
        "refused_by_reason": dict(sorted(reasons.items())),
        "refused_meters": tally.refused,
        "groups": [
            {"supply_group": old, "new_key": new, "check_value": check_value, "sets": count}
            for (old, new, check_value), count in sorted(tally.made.items())
        ],
        # A key that was exchanged under its name while the campaign was cut off: meters of one list got two keys.
        "keys_that_changed": sorted(new for new, values in _values(tally).items() if len(values) > 1),
        "modules": sorted(tally.modules),
        "test_keys": tally.test_keys,
        "recipients": [
            {
                "name": one.name,
                "supply_groups": one.supply_groups,
                "file": f"{one.name}.csv.age",
                "content_sha256": tally.contents[one.name],
            }
            for one in campaign.campaign.recipient
        ],
    }


def _values(tally: _Tally) -> dict[str, set[str]]:
    """Return the check values that each new key had."""
    found: dict[str, set[str]] = {}
    for _, new, check_value in tally.made:
        found.setdefault(new, set()).add(check_value)
    return found


def _line(made: KeyChangeSet) -> list[str]:
    tokens = [*made.tokens, "", "", "", ""][:4]
    change = made.change
    return [
        change.meter_pan,
        change.new_supply_group_code,
        str(change.new_key_revision_number),
        change.new_tariff_index,
        made.new_key,
        "1" if made.rollover else "0",
        *tokens,
    ]
