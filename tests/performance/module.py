"""The module process alone: the appliance's own client, batches of 1,000, two of them under way.

python -m tests.performance.module SOCKET SECONDS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop

from hsm.client import ModuleClient
from hsm.reasons import Reason
from hsm.requests import IssueItem
from sts import luhn
from sts.identifiers import MeterPAN
from tests.support.lab import EPOCH, reference


async def measure(path: Path, seconds: float) -> None:
    identifier = int((time.time() - EPOCH.timestamp()) // 60) - 16071 * 1440
    numbers = [f"{number:010d}" for number in range(1000)]
    items = [
        IssueItem(
            token_class=0,
            subclass=0,
            value=256,
            ea=11,
            tct=2,
            random_number=5,
            tariff_index="01",
            pan=MeterPAN.parse(number + luhn.check_digit(number)).digits,
            token_identifier=identifier,
        )
        for number in numbers
    ]
    client = ModuleClient(path)
    tokens = 0
    start = time.monotonic()

    async def work() -> None:
        nonlocal tokens
        while time.monotonic() < start + seconds:
            answers = await client.issue(reference("201457"), items)
            assert all(answer.reason is Reason.OK for answer in answers)
            tokens += len(answers)

    await asyncio.gather(work(), work())
    print(json.dumps({"tokens": tokens, "rate": tokens / (time.monotonic() - start)}))
    await client.close()


if __name__ == "__main__":
    uvloop.run(measure(Path(sys.argv[1]), float(sys.argv[2])))
