"""Campaigns: files that are none, approvals that are none, and the course with an appliance that is played."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from uuid import UUID

import pyrage
import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st
from keywatt.vending.v1 import vending_pb2

from keyloader.errors import ApplianceRefusal, ApprovalRefused, CampaignInvalid, OutputExists
from keyloader.keychange import course, slip
from keyloader.keychange.approval import require, require_current
from keyloader.keychange.campaign import NAMESPACE, CampaignFile
from keyloader.keychange.meters import COLUMNS, MeterChange, parse
from keyloader.keychange.shop import KeyChangeSet, Shop
from keyloader.officer_list import OfficerList
from tests.support.meters import pan
from tests.support.officers import ALICE, BOB, CAROL, Person

TODAY = date(2026, 11, 29)
KEYS = {name: pyrage.x25519.Identity.generate() for name in ("North", "South")}


def line(number: int, group: str = "201457") -> str:
    return f"{pan(number)},{group},1,01,11,203557,1,01"


def write(folder: Path, meters: int = 5, *, text: str = "", lines: Sequence[str] = ()) -> Path:
    listed = "\n".join(
        [",".join(COLUMNS), *(lines or [line(n, "201457" if n % 2 else "201458") for n in range(meters)])]
    )
    (folder / "meters.csv").write_text(listed + "\n")
    digest = hashlib.sha256((folder / "meters.csv").read_bytes()).hexdigest()
    recipients = "".join(
        f'[[recipient]]\nname = "{name}"\nkey = "{KEYS[name].to_public()}"\nsupply_groups = ["{group}"]\n'
        for name, group in (("North", "201457"), ("South", "201458"))
    )
    path = folder / "campaign.toml"
    path.write_text(
        'format = "keywatt-campaign/1"\ntitle = "Base date 2035"\nmeters = "meters.csv"\n'
        f'sha256 = "{digest}"\nnot_before = 2026-11-01\nnot_after = 2027-01-31\n{text}{recipients}'
    )
    return path


class Played:
    """An appliance: the same set for the same request id, always; refuses what it is told to."""

    def __init__(self, refuse: str = "", fail_after: int = -1) -> None:
        self.asked: list[str] = []
        self.refuse = refuse
        self.left = fail_after

    def change(self, asked: Sequence[tuple[MeterChange, str]]) -> list[KeyChangeSet]:
        if self.left == 0:
            raise ApplianceRefusal("gone")
        self.left -= 1
        self.asked += [request_id for _, request_id in asked]
        return [self._one(change, request_id) for change, request_id in asked]

    def _one(self, change: MeterChange, request_id: str) -> KeyChangeSet:
        if change.meter_pan == self.refuse:
            return KeyChangeSet(change=change, request_id=request_id, reason="NEW_KEY_UNKNOWN")
        digest = hashlib.sha256(request_id.encode()).hexdigest()
        tokens = tuple(f"{int(digest[n * 8 : n * 8 + 8], 16):020d}" for n in range(4))
        return KeyChangeSet(
            change=change, request_id=request_id, tokens=tokens, rollover=True, new_key="6C3DE4 by SHA", module="lab"
        )


def nobody(_: int) -> None:
    """Is told how far it is."""


def contents(folder: Path, name: str) -> list[list[str]]:
    octets = pyrage.decrypt((folder / f"{name}.csv.age").read_bytes(), [KEYS[name]])
    return list(csv.reader(io.StringIO(octets.decode())))


def test_each_recipient_gets_its_meters_and_nobody_else_reads_them(tmp_path: Path) -> None:
    campaign, out = CampaignFile.read(write(tmp_path)), tmp_path / "out"
    course.open_folder(out, campaign)
    outcome = course.run(campaign, Played(), out, ["Alice", "Bob"], nobody)
    north, south = contents(out, "North"), contents(out, "South")
    assert [row[0] for row in north[1:]] == [pan(1), pan(3)]
    assert [row[0] for row in south[1:]] == [pan(0), pan(2), pan(4)]
    assert all(len(row) == 10 and all(len(token) == 20 for token in row[6:]) for row in north[1:])
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt((out / "North.csv.age").read_bytes(), [KEYS["South"]])
    report = json.loads((out / "report.json").read_text())
    assert report == outcome.report
    assert (report["sets"], report["tokens"], report["refused"]) == (5, 20, 0)
    assert report["approved_by"] == ["Alice", "Bob"]
    # No digit of a token is anywhere in the clear.
    tokens = {token for row in north[1:] + south[1:] for token in row[6:]}
    clear = b"".join(path.read_bytes() for path in out.iterdir())
    assert not any(token.encode() in clear for token in tokens)


def test_two_runs_give_identical_sets(tmp_path: Path) -> None:
    campaign = CampaignFile.read(write(tmp_path, 2500))
    cut_off = Played(fail_after=1)
    out = tmp_path / "one"
    course.open_folder(out, campaign)
    with pytest.raises(ApplianceRefusal):
        course.run(campaign, cut_off, out, [], nobody)
    assert course.open_folder(out, campaign) in {0, 1000}
    seen: list[int] = []
    course.run(campaign, Played(), out, [], seen.append)
    assert seen == [1000, 2000, 2500]
    with pytest.raises(OutputExists, match="finished"):
        course.open_folder(out, campaign)
    other = tmp_path / "two"
    course.open_folder(other, campaign)
    course.run(campaign, Played(), other, [], nobody)
    for name in KEYS:
        assert contents(out, name) == contents(other, name)


def test_meters_that_are_refused_are_named(tmp_path: Path) -> None:
    campaign, out = CampaignFile.read(write(tmp_path)), tmp_path / "out"
    course.open_folder(out, campaign)
    outcome = course.run(campaign, Played(refuse=pan(2)), out, [], nobody)
    assert not outcome.is_clean
    assert outcome.report["refused"] == 1
    assert outcome.report["refused_meters"] == [{"meter_pan": pan(2), "reason": "NEW_KEY_UNKNOWN"}]
    assert [row[0] for row in contents(out, "South")[1:]] == [pan(0), pan(4)]


def test_a_folder_that_is_not_the_campaigns(tmp_path: Path) -> None:
    campaign = CampaignFile.read(write(tmp_path))
    with pytest.raises(OutputExists, match="holds no campaign"):
        course.open_folder(tmp_path, campaign)
    course.open_folder(tmp_path / "out", campaign)
    other = CampaignFile.read(write(tmp_path, 6))
    with pytest.raises(OutputExists, match="another campaign"):
        course.open_folder(tmp_path / "out", other)
    (tmp_path / "out" / "campaign.json").write_text("[]")
    with pytest.raises(OutputExists, match="no state"):
        course.open_folder(tmp_path / "out", campaign)


@given(st.integers(0, 10**9), st.integers(0, 10**6))
def test_request_ids_are_uuids_of_their_own(number: int, place: int) -> None:
    campaign = _campaign()
    change = MeterChange(
        meter_pan=pan(number),
        supply_group_code="201457",
        key_revision_number=1,
        tariff_index="01",
        encryption_algorithm=11,
        new_supply_group_code="203557",
        new_key_revision_number=1,
        new_tariff_index="01",
    )
    found = UUID(campaign.request_id(change, place))
    assert (found.version, found.variant) == (7, "specified in RFC 4122")
    assert campaign.request_id(change, place) == str(found)


@functools.cache
def _campaign() -> CampaignFile:
    with tempfile.TemporaryDirectory() as folder:
        return CampaignFile.read(write(Path(folder)))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line(1), line(1)], "line 3: this meter stands in a line before"),
        ([line(1).replace("201457", "20145")], "line 2"),
        ([line(1)[:-1] + "1,1"], "line 2: a line has as many fields"),
        ([line(1)[:5]], "line 2: a line has as many fields"),
        ([line(1).replace(",11,", ",09,")], "EA09"),
        ([line(1)[:17] + "0" + line(1)[18:]], "line 2"),
        ([line(n).replace(",1,", ",x,", 1) for n in range(50)], "line 21"),
        (["x" * 200_000], "field larger"),
        (['"' + line(1)], "line"),
    ],
)
def test_lists_that_are_none(lines: list[str], message: str) -> None:
    with pytest.raises(CampaignInvalid) as refused:
        parse(("\n".join([",".join(COLUMNS), *lines]) + "\n").encode(), "meters.csv")
    assert message in str(refused.value)
    assert len(str(refused.value)) < 4000


def test_a_list_without_meters_or_head() -> None:
    with pytest.raises(CampaignInvalid, match="no meter"):
        parse((",".join(COLUMNS) + "\n").encode(), "meters.csv")
    with pytest.raises(CampaignInvalid, match="first line"):
        parse(b"meter,sgc\n", "meters.csv")
    with pytest.raises(CampaignInvalid, match="UTF-8"):
        parse(b"\xff\xfe", "meters.csv")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("keywatt-campaign/1", "keywatt-campaign/2", "format"),
        ('supply_groups = ["201458"]', 'supply_groups = ["201457"]', "two recipients"),
        ('supply_groups = ["201458"]', 'supply_groups = ["201459"]', "201458 has no recipient"),
        ('name = "South"', 'name = "../South"', "recipient.2.name"),
        ('name = "South"', 'name = "north"', "same name"),
        ("age1", "age2", "recipient.1.key"),
        ("not_after = 2027-01-31", "not_after = 2026-01-31", "not_after"),
        ('title = "Base', 'extra = 1\ntitle = "Base', "extra"),
        ('meters = "meters.csv"', 'meters = "other.csv"', "other.csv"),
        ('sha256 = "', 'sha256 = "00', "sha256"),
    ],
)
def test_campaigns_that_are_none(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(CampaignInvalid) as refused:
        CampaignFile.read(path)
    assert message in str(refused.value)


def test_a_list_that_was_altered(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "meters.csv").write_text((tmp_path / "meters.csv").read_text() + line(99) + "\n")
    with pytest.raises(CampaignInvalid, match="another list"):
        CampaignFile.read(path)


def enrolled(*people: Person, needed: int = 2) -> OfficerList:
    entries = [
        {"name": one.name, "key": str(one.key), "valid_from": date(2020, 1, 1), "valid_until": date(2030, 1, 1)}
        for one in people
    ]
    return OfficerList.model_validate({"officer": entries, "needed": needed})


def test_who_has_approved(tmp_path: Path) -> None:
    campaign = CampaignFile.read(write(tmp_path))
    officers = enrolled(ALICE, BOB, CAROL)

    def signed(person: Person, text: str = "", namespace: str = NAMESPACE) -> Path:
        path = tmp_path / f"{person.name}-{len(list(tmp_path.iterdir()))}.sig"
        path.write_text(str(person.sign(text or campaign.text, namespace)))
        return path

    alice, bob, carol = signed(ALICE), signed(BOB), signed(CAROL)
    assert require(campaign, [alice, bob], officers, TODAY) == ["Alice", "Bob"]
    assert require(campaign, [alice, carol], officers, TODAY) == ["Alice", "Carol"]
    for signatures, who, day, message in (
        ([alice], officers, TODAY, "1 officers have approved"),
        ([alice, alice], officers, TODAY, "1 officers have approved"),
        ([alice, signed(ALICE)], officers, TODAY, "1 officers have approved"),
        ([alice, bob], enrolled(ALICE, CAROL), TODAY, "no officer"),
        ([alice, bob], enrolled(ALICE, BOB, CAROL, needed=3), TODAY, "3 must"),
        ([alice, signed(BOB, "another text")], officers, TODAY, "has not signed"),
        ([alice, signed(BOB, namespace="approval@keywatt.dev")], officers, TODAY, "has not signed"),
        ([alice, bob], officers, date(2031, 1, 1), "term"),
        ([alice, tmp_path / "none"], officers, TODAY, "No such file"),
        ([alice, tmp_path / "campaign.toml"], officers, TODAY, "begins with"),
    ):
        with pytest.raises(ApprovalRefused) as refused:
            require(campaign, signatures, who, day)
        assert message in str(refused.value)


def test_the_slip_has_the_tokens_in_order(tmp_path: Path) -> None:
    from tests.ceremony.test_ceremony import rendered

    campaign = CampaignFile.read(write(tmp_path, 1))
    (made,) = Played().change([(campaign.changes[0], campaign.request_id(campaign.changes[0], 0))])
    slip.print_slip(made, "", tmp_path / "slip.pdf")
    pages, text = rendered(tmp_path / "slip.pdf")
    assert len(pages) == 1
    places = [text.index(slip.grouped(digits)) for digits in made.tokens]
    assert places == sorted(places)
    assert "Credit that is on the meter stays" in " ".join(text.split())
    with pytest.raises(FileExistsError):
        slip.print_slip(made, "", tmp_path / "slip.pdf")


def test_a_key_that_was_exchanged_meanwhile_is_told_of(tmp_path: Path) -> None:
    class Exchanged(Played):
        def change(self, asked: Sequence[tuple[MeterChange, str]]) -> list[KeyChangeSet]:
            sets = super().change(asked)
            return [replace(made, new_key="FFFFFF by SHA") if int(made.change.meter_pan[-6]) else made for made in sets]

    campaign, out = CampaignFile.read(write(tmp_path, 2500)), tmp_path / "out"
    course.open_folder(out, campaign)
    outcome = course.run(campaign, Exchanged(), out, [], nobody)
    assert outcome.report["keys_that_changed"] == ["203557/1"]
    assert not outcome.is_clean
    assert {group["check_value"] for group in outcome.report["groups"]} == {"6C3DE4 by SHA", "FFFFFF by SHA"}
    assert {row[4] for row in contents(out, "North")[1:]} == {"6C3DE4 by SHA", "FFFFFF by SHA"}


def test_what_may_pass_is_no_refusal() -> None:
    """An outage does not finish a campaign."""
    info = error_details_pb2.ErrorInfo(reason="MODULE_UNAVAILABLE", metadata={"retryable": "true", "hint": "wait"})
    result = vending_pb2.TokenResult()
    result.error.details.add().Pack(info)

    class Away:
        def issue_batch(self, requests: Sequence[object]) -> list[vending_pb2.TokenResult]:
            return [result] * len(requests)

    found = Shop.__new__(Shop)
    found._client = Away()  # type: ignore[assignment]  # played
    change = _campaign().changes[0]
    with pytest.raises(ApplianceRefusal, match="MODULE_UNAVAILABLE"):
        found.change([(change, _campaign().request_id(change, 0))])


def test_officers_who_were_replaced_approve_nothing() -> None:
    officers = enrolled(ALICE, BOB)
    require_current(officers, officers.enrolment.digest.hex())
    require_current(officers, "")
    with pytest.raises(ApprovalRefused, match="other officers"):
        require_current(officers, enrolled(ALICE, CAROL).enrolment.digest.hex())


def test_a_fido2_key_wants_a_touch_and_its_own_application(tmp_path: Path) -> None:
    campaign = CampaignFile.read(write(tmp_path))
    officers = enrolled(ALICE, CAROL)
    (tmp_path / "alice.sig").write_text(str(ALICE.sign(campaign.text, NAMESPACE)))
    elsewhere = replace(CAROL, application="ssh:elsewhere")
    for signature, is_good in (
        (CAROL.sign(campaign.text, NAMESPACE), True),
        (CAROL.sign(campaign.text, NAMESPACE, flags=0), False),
        (elsewhere.sign(campaign.text, NAMESPACE), False),
    ):
        (tmp_path / "carol.sig").write_text(str(signature))
        signatures = [tmp_path / "alice.sig", tmp_path / "carol.sig"]
        if is_good:
            assert require(campaign, signatures, officers, TODAY) == ["Alice", "Carol"]
        else:
            with pytest.raises(ApprovalRefused):
                require(campaign, signatures, officers, TODAY)
