"""Vending platforms that never lose a sale: they repeat a request until it is answered, and enter every token."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

from keywatt.type.v1 import meter_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client import request_ids
from appliance.client.client import ClientError, KeywattClient
from sts import luhn
from sts.credit import CreditSubClass
from sts.identifiers import KeyExpiryNumber, KeyRevisionNumber, KeyType, MeterPAN, SupplyGroupCode, TariffIndex
from sts.meter import MeterKey, Result, VirtualMeter
from tests.support import oracle
from tests.support.system import System

SGC, EA = "600001", 11
_SALES_PER_METER = 12
_UNITS = (1, 10, 256)


@dataclass
class Sold:
    """One sale: what was asked, and every answer that ever came."""

    request: vending_pb2.IssueCreditTokenRequest
    answers: set[bytes] = field(default_factory=set)


class Customer:
    """A virtual meter, and what was sold to it."""

    def __init__(self, source: random.Random) -> None:
        payload = "".join(source.choices("0123456789", k=10))
        pan = MeterPAN.parse(payload + luhn.check_digit(payload))
        key = MeterKey(
            decoder_key=oracle.decoder_key(pan.digits, SGC, EA),
            key_type=KeyType.UNIQUE,
            key_revision_number=KeyRevisionNumber(number=1),
            key_expiry_number=KeyExpiryNumber(number=255),
            tariff_index=TariffIndex(digits="01"),
            supply_group_code=SupplyGroupCode(digits=SGC),
        )
        self.meter = VirtualMeter(pan=pan, key=key)
        self.units = 0

    def order(self, source: random.Random) -> tuple[vending_pb2.IssueCreditTokenRequest, int]:
        units = source.choice(_UNITS)
        configuration = meter_pb2.MeterConfiguration(
            meter_pan=self.meter.pan.digits,
            supply_group_code=SGC,
            key_revision_number=1,
            tariff_index="01",
            encryption_algorithm=meter_pb2.ENCRYPTION_ALGORITHM_EA11,
        )
        request = vending_pb2.IssueCreditTokenRequest(
            meter=configuration,
            credit_type=vending_pb2.CREDIT_TYPE_ELECTRICITY,
            amount=f"{units / 10:.1f}",
            request_id=request_ids.new(),
        )
        return request, units

    def enter(self, digits: str, units: int) -> None:
        """Enter a token; it must be accepted, as every identifier is new to the meter."""
        assert self.meter.enter(digits) is Result.ACCEPT
        self.units += units

    def check(self) -> None:
        assert self.meter.registers.credit(CreditSubClass.ELECTRICITY) == self.units


class Shop:
    """Threads that sell until told to stop, then finish what they have begun.

    Args:
        systems: the appliances; every attempt goes to any of them.
        threads: how many sell at once.
        meters: whether tokens are entered; not if the vending key is none of the tests' own.
        repeat: share of answered requests that are asked again at once, at any appliance.
    """

    def __init__(
        self, systems: list[System], *, threads: int = 6, repeat: float = 0.3, seed: int = 0, meters: bool = True
    ) -> None:
        self.systems = systems
        self.sold: list[Sold] = []
        self.customers: list[Customer] = []
        self.errors: Counter[str] = Counter()
        self.failures: list[BaseException] = []
        self._repeat = repeat
        self._meters = meters
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(f"{seed}/{n}",)) for n in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    def _run(self, seed: str) -> None:
        source = random.Random(seed)
        clients = [KeywattClient(system.profile) for system in self.systems]
        try:
            while not self._stop.is_set():
                customer = Customer(source)
                with self._lock:
                    self.customers.append(customer)
                for _ in range(_SALES_PER_METER):
                    self._sell(customer, clients, source)
                    if self._stop.is_set():
                        break
        except BaseException as failure:  # noqa: BLE001 - the test's thread raises it
            self.failures.append(failure)
        finally:
            for client in clients:
                client.close()

    def _sell(self, customer: Customer, clients: list[KeywattClient], source: random.Random) -> None:
        request, units = customer.order(source)
        sold = Sold(request)
        with self._lock:
            self.sold.append(sold)
        answer = self._ask(sold, clients, source)
        if self._meters:
            customer.enter(answer.token.digits, units)
        if source.random() < self._repeat:
            self._ask(sold, clients, source)

    def _ask(
        self, sold: Sold, clients: list[KeywattClient], source: random.Random
    ) -> vending_pb2.IssueCreditTokenResponse:
        for _ in range(2000):
            client = source.choice(clients)
            try:
                answer = client.call(client.vending.IssueCreditToken, sold.request)
            except ClientError as error:
                self.errors[error.reason or error.code.name] += 1
                if not error.retryable and error.reason:
                    raise
                self._pause(source)
            else:
                sold.answers.add(answer.SerializeToString(deterministic=True))
                return answer
        raise AssertionError(f"no answer after 2,000 attempts: {self.errors}")

    @staticmethod
    def _pause(source: random.Random) -> None:
        threading.Event().wait(source.uniform(0.005, 0.1))

    def audit(self) -> dict[str, Any]:
        """Ask for everything again and look at every meter; returns figures for a person."""
        with self.systems[0].client() as client:
            for sold in self.sold:
                answer = client.issue(client.vending.IssueCreditToken, sold.request)
                sold.answers.add(answer.SerializeToString(deterministic=True))
        assert all(len(sold.answers) == 1 for sold in self.sold)
        for customer in self.customers:
            customer.check()
        parsed = [vending_pb2.IssueCreditTokenResponse.FromString(next(iter(sold.answers))) for sold in self.sold]
        assert len({answer.token.digits for answer in parsed}) == len(parsed)
        identifiers = {
            (sold.request.meter.meter_pan, answer.provenance.key.base_date, answer.token.token_identifier)
            for sold, answer in zip(self.sold, parsed, strict=True)
        }
        assert len(identifiers) == len(parsed)
        return {"sales": len(parsed), "meters": len(self.customers), "errors": dict(self.errors)}
