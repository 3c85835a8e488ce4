"""Load on a running system: threads that sell, and remember every answer and every error."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from keywatt.type.v1 import meter_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client.client import ClientError
from sts import luhn
from sts.identifiers import MeterPAN
from tests.support.system import System


@dataclass
class Sale:
    pan: str
    sgc: str
    ea: int
    digits: str


@dataclass
class Load:
    """Sells one token each to random meters until stopped."""

    system: System
    groups: list[tuple[str, int]]
    threads: int = 4
    sales: list[Sale] = field(default_factory=list)
    errors: list[ClientError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._workers = [threading.Thread(target=self._sell, args=(seed,)) for seed in range(self.threads)]

    def __enter__(self) -> Self:
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for worker in self._workers:
            worker.join()

    def _sell(self, seed: int) -> None:
        source = random.Random(seed)
        with self.system.client() as client:
            while not self._stop.is_set():
                payload = "".join(source.choices("0123456789", k=10))
                pan = MeterPAN.parse(payload + luhn.check_digit(payload)).digits
                sgc, ea = source.choice(self.groups)
                request = vending_pb2.IssueCreditTokenRequest(
                    meter=meter_pb2.MeterConfiguration(
                        meter_pan=pan,
                        supply_group_code=sgc,
                        key_revision_number=1,
                        tariff_index="01",
                        encryption_algorithm=meter_pb2.EncryptionAlgorithm.ValueType(ea),
                    ),
                    credit_type=vending_pb2.CREDIT_TYPE_ELECTRICITY,
                    amount="25.6",
                )
                try:
                    response = client.call(client.vending.IssueCreditToken, request)
                except ClientError as error:
                    self.errors.append(error)
                    self._stop.wait(0.02)
                else:
                    self.sales.append(Sale(pan=pan, sgc=sgc, ea=ea, digits=response.token.digits))

    def reasons(self) -> Counter[tuple[str, Any]]:
        return Counter((error.reason, error.code) for error in self.errors)


def is_transient(error: ClientError) -> bool:
    """What a client may see while the module restarts: UNAVAILABLE, and that a retry helps."""
    return error.code is grpc.StatusCode.UNAVAILABLE and error.retryable and error.reason.startswith("MODULE_")
