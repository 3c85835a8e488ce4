"""The issuing core with a module that is played, a real ledger, and a clock that tests set."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from appliance.client import request_ids as client_ids
from appliance.config import ClockSettings
from appliance.issuing.issuer import Issuer
from appliance.issuing.meter import KeyAssignment, Meter
from appliance.issuing.module import ModuleCatalogue
from appliance.issuing.orders import CreditOrder, Delivery, KeyChangeDelivery, KeyChangeOrder, Order, Submission, Timing
from appliance.issuing.pipeline import Pipeline
from appliance.issuing.time_guard import TimeGuard
from appliance.ledger.answers import AnswerCipher
from appliance.ledger.ledger import Ledger
from appliance.ledger.records import Method
from appliance.policy.authority import Authority
from appliance.services import request_ids
from hsm.frames import Asker
from hsm.keys import KeyReference, VendingKey
from hsm.reasons import Reason
from hsm.requests import Issued, IssueItem, KeyChanged, KeyChangeItem, Mark
from hsm.status import Mode, ModuleStatus, Profile
from sts.credit import CreditSubClass
from sts.identifiers import EncryptionAlgorithm, MeterPAN, TariffIndex, TokenCarrierType
from tests.support.lab import reference

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PAN = MeterPAN.parse("00000000000")
PANS = [MeterPAN.parse(text) for text in ("00000000000", "11111111115", "22222222220")]
CIPHER = AnswerCipher({1: bytes(range(32))})
LABEL = (
    "keywatt-vk/1 sgc={} krn=1 kt=2 dkga=04 bdt={} ken=255 act=- iut=- c0=00ff c2=fce7 kc=1 origin=public kcv=000000"
)
KEYS = [("201457", 14), ("201458", 14), ("203557", 35), ("123457", 93)]
STATUS = ModuleStatus(
    mode=Mode.ONLINE,
    profile=Profile.DEVELOPMENT,
    config_root_owned=True,
    self_test_passed=True,
    sample_tables=True,
    logged_in=True,
    utc_offset_minutes=0,
    clock_minutes=0,
    keys=2,
    keys_refused=0,
    issued=0,
    verified=0,
    key_changes=0,
    refused=0,
    tables_name="sample",
    tables_digest=bytes(32),
    source_digest=bytes(32),
    module_id="played",
    token_label="keywatt",
    token_serial="1",
    library="none",
    library_version="0.0",
    past_window_minutes=10,
    future_window_minutes=60,
    module_version="0.1",
    hardware=False,
)
_places = itertools.count()
_serials = itertools.count(1)


class PlayedModule:
    """Answers as the module would, or as it is told. No two tokens of it have the same digits."""

    def __init__(self) -> None:
        self.status_now = STATUS
        self.connections = 1
        self.generation = 0
        self.is_connected = True
        self.asked: list[IssueItem | KeyChangeItem] = []
        self.batches: list[int] = []
        self.fails: BaseException | None = None
        self.refuses = Reason.OK
        self.gate: asyncio.Event | None = None
        self.is_asked = asyncio.Event()

    async def status(self) -> ModuleStatus:
        return self.status_now

    async def keys(self) -> list[VendingKey]:
        return [VendingKey.from_label(LABEL.format(sgc, base_date)) for sgc, base_date in KEYS]

    async def until_asked(self) -> None:
        """Wait until something has come to the module."""
        await self.is_asked.wait()

    async def issue(
        self, _: KeyReference | None, items: Sequence[IssueItem], askers: Sequence[Asker] = ()
    ) -> list[Issued]:
        assert len(askers) == len(items)
        self.asked += items
        self.batches.append(len(items))
        self.is_asked.set()
        if self.fails is not None:
            raise self.fails
        await (self.gate.wait() if self.gate is not None else asyncio.sleep(0))
        return [
            Issued(
                reason=self.refuses,
                token_class=item.token_class,
                subclass=item.subclass,
                marks=Mark.TEST_KEY,
                random_number=0,
                token_identifier=item.token_identifier,
                digits="" if item.validate_only or self.refuses is not Reason.OK else f"{next(_serials):020d}",
                granted=item.value,
                log_index=None if item.validate_only else next(_places),
            )
            for item in items
        ]

    async def key_change(
        self, _: KeyReference, items: Sequence[KeyChangeItem], askers: Sequence[Asker] = ()
    ) -> list[KeyChanged]:
        assert len(askers) == len(items)
        self.asked += items
        return [
            KeyChanged(
                reason=Reason.OK,
                marks=Mark.TEST_KEY,
                key_expiry_number=255,
                key_revision_number=1,
                key_type=2,
                rollover=False,
                tokens=() if item.validate_only else tuple(f"{next(_serials):020d}" for _ in range(item.set_size)),
                log_index=None if item.validate_only else next(_places),
            )
            for item in items
        ]


class PlayedClock:
    """A wall clock and a steady one; time passes on both, a step moves the wall alone."""

    def __init__(self, start: datetime = NOW) -> None:
        self.wall_seconds = start.timestamp()
        self.steady_seconds = 1000.0

    def wall(self) -> float:
        return self.wall_seconds

    def steady(self) -> float:
        return self.steady_seconds

    def milliseconds(self) -> int:
        return int(self.wall_seconds * 1000)

    def passes(self, seconds: float) -> None:
        self.wall_seconds += seconds
        self.steady_seconds += seconds

    def steps(self, seconds: float) -> None:
        self.wall_seconds += seconds


class World:
    """One appliance on a ledger. ``crash`` forgets everything that is not in the ledger."""

    def __init__(self, url: str, *, module: PlayedModule | None = None, clock: PlayedClock | None = None) -> None:
        self.url = url
        self.module = module or PlayedModule()
        self.clock = clock or PlayedClock()
        self.ledger: Ledger
        self.guard: TimeGuard
        self.pipeline: Pipeline

    async def open(
        self,
        *,
        look_ahead: int = 30,
        queue_max: int = 1000,
        automatic_key_change: bool = False,
        authority: Authority | None = None,
        **policy: float,
    ) -> World:
        certification = self.module.status_now.mode is Mode.CERTIFICATION
        self.ledger = await Ledger.open(self.url, CIPHER, certification=certification, now=self.clock.milliseconds)
        self.guard = TimeGuard(ClockSettings(**policy), wall=self.clock.wall, steady=self.clock.steady)
        self.guard.learn(await self.ledger.clock_mark())
        catalogue = ModuleCatalogue(self.module)  # type: ignore[arg-type]  # played
        self.issuer = Issuer(
            catalogue=catalogue,
            ledger=self.ledger,
            guard=self.guard,
            look_ahead_minutes=look_ahead,
            automatic_key_change=automatic_key_change,
            authority=authority,
        )
        self.pipeline = Pipeline(self.issuer, queue_max=queue_max)
        return self

    async def close(self) -> None:
        await self.pipeline.drain()
        await self.ledger.close()

    async def outcome(self, submission: Submission) -> bytes | Exception:
        try:
            return await self.pipeline.ask(lambda: submission)
        except Exception as error:  # noqa: BLE001 - the outcome
            return error

    async def sell(self, submission: Submission | None = None, **changes: Any) -> dict[str, Any]:
        """Return what the answer says; raises what it was refused with."""
        outcome = await self.outcome(submission or submit(order(**changes)))
        if isinstance(outcome, Exception):
            raise outcome
        answer: dict[str, Any] = json.loads(outcome)
        return answer


def compose(delivery: Delivery | KeyChangeDelivery) -> bytes:
    """Answer in JSON, for tests to look into."""
    if isinstance(delivery, KeyChangeDelivery):
        return json.dumps({"digits": [token.digits for token in delivery.tokens]}).encode()
    identifier = delivery.token.identifier
    answer = {
        "digits": delivery.token.digits,
        "identifier": None if identifier is None else identifier.minutes,
        "base_date": None if identifier is None else int(identifier.base_date),
        "key_change": [token.digits for token in delivery.key_change_tokens],
    }
    return json.dumps(answer).encode()


def holds(sgc: str = "201457", ti: str = "01") -> KeyAssignment:
    return KeyAssignment(reference=reference(sgc), tariff_index=TariffIndex(digits=ti))


def meter(pan: MeterPAN = PAN, sgc: str = "201457") -> Meter:
    return Meter(
        pan=pan,
        holds=holds(sgc),
        ea=EncryptionAlgorithm.MISTY1,
        carrier=TokenCarrierType.NUMERIC,
        key_type=None,
        base_date=None,
        key_expiry_number=None,
    )


def order(**changes: Any) -> CreditOrder:
    base = CreditOrder(meter=meter(), assignment=None, subclass=CreditSubClass.ELECTRICITY, units=256, timing=Timing())
    return replace(base, **changes)


_METHODS = {"CreditOrder": 1, "ManagementOrder": 2, "MeterTestOrder": 3, "KeyChangeOrder": 4}


def submit(
    what: Order | None = None, *, client: str = "alice", request_id: bytes | None = None, **changes: Any
) -> Submission:
    """Make a submission; its fingerprint stands for the order."""
    what = what or order()
    base = Submission(
        client=client,
        request_id=request_id or request_ids.parse(client_ids.new()),
        fingerprint=hashlib.sha256(repr(what).encode()).digest(),
        method=Method(_METHODS[type(what).__name__]),
        order=what,
        compose=compose,
    )
    return replace(base, **changes)


def key_change(**changes: Any) -> KeyChangeOrder:
    base = KeyChangeOrder(meter=meter(), target=holds(ti="02"), set_size=0, issue_time=None, validate_only=False)
    return replace(base, **changes)
