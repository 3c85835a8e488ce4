"""Metrics and status of a running system: calls, tokens, signals, limits and what will end; nothing that is secret."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import httpx
import pytest
from keywatt.mandate.v1 import mandate_pb2
from keywatt.vending.v1 import vending_pb2

from appliance.client.client import ClientError, KeywattClient
from tests.faults.test_policy import request
from tests.policy.governed import client_name, govern
from tests.policy.texts import client, limit
from tests.support.meters import pan
from tests.support.system import System, free_port, running

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    port = free_port()
    with running() as found:
        path = found.state / "appliance" / "appliance.toml"
        path.write_text(path.read_text() + f'\n[metrics]\nlisten = "127.0.0.1:{port}"\n')
        found.metrics = f"http://127.0.0.1:{port}/metrics"  # type: ignore[attr-defined]  # for these tests
        signal = '[[signal]]\nkind = "velocity"\nmost = 1\nminutes = 60\n'
        refusing = '[[signal]]\nkind = "round-amounts"\nmost = 0\nminutes = 60\nmultiple = "500"\nrefuse = true\n'
        govern(found, client(client_name(found)), limit("daily", "client", count=12), signal, refusing)
        yield found


def scrape(system: System) -> dict[str, float]:
    text = httpx.get(system.metrics, timeout=10).text  # type: ignore[attr-defined]  # see there
    return {match[1]: float(match[2]) for match in re.finditer(r"^([a-z_]+(?:\{[^\n]*\})?) (\S+)$", text, re.MULTILINE)}


def refused(asked: KeywattClient, message: vending_pb2.IssueCreditTokenRequest) -> str:
    with pytest.raises(ClientError) as error:
        asked.call(asked.vending.IssueCreditToken, message)
    return error.value.reason


def test_what_goes_on_is_counted(system: System) -> None:
    before = scrape(system)
    assert before["keywatt_serving"] == 1
    with KeywattClient(system.profile) as asked:
        sale = request(1)

        def sell(message: vending_pb2.IssueCreditTokenRequest) -> str:
            return asked.issue(asked.vending.IssueCreditToken, message).token.digits

        # The first twice: it is one sale.
        tokens = [sell(one) for one in (sale, sale, request(2), request(2), request(3))]
        assert refused(asked, request(4, "500")) == "SIGNAL_REFUSED"
        tokens += [sell(request(number)) for number in range(10, 18)]
        assert refused(asked, request(50)) == "LIMIT_EXCEEDED"
    found = scrape(system)
    issue = "/keywatt.vending.v1.VendingService/IssueCreditToken"
    assert found[f'keywatt_calls_total{{method="{issue}",reason="OK"}}'] == 13
    assert found[f'keywatt_calls_total{{method="{issue}",reason="LIMIT_EXCEEDED"}}'] == 1
    assert found['keywatt_tokens_total{class="0",subclass="0"}'] == 12
    assert found['keywatt_signals_total{refused="false",signal="velocity"}'] == 1
    assert found['keywatt_signals_total{refused="true",signal="round-amounts"}'] == 1
    assert found["keywatt_commits_total"] - before["keywatt_commits_total"] == 12
    assert found["keywatt_waiting"] == 0
    text = str(found)
    assert not any(token in text for token in tokens)
    assert not any(pan(number) in text for number in (1, 2, 3))
    assert client_name(system) not in text


def test_the_limit_that_is_full_is_told(system: System) -> None:
    # Looked at once a minute; at a start at once.
    system.kill_appliance()
    system.start_appliance()
    end = time.monotonic() + 30
    while True:
        try:
            if scrape(system).get('keywatt_limit_used_ratio{limit="daily"}') == 1:
                break
        except httpx.HTTPError:
            pass
        assert time.monotonic() < end
        time.sleep(0.2)
    with KeywattClient(system.profile) as asked:
        found = asked.call(asked.mandate.GetMandate, mandate_pb2.GetMandateRequest())
    assert found.policy.number == 1
    (full,) = [one for one in found.horizons if one.kind == "limit"]
    assert (full.subject, full.used, full.urgency) == ("daily", 1, mandate_pb2.URGENCY_OVER)
    while '"subject": "daily", "urgency": "over"' not in system.log("appliance"):
        assert time.monotonic() < end
        time.sleep(0.1)
    kinds = {one.kind for one in found.horizons}
    assert {"server-certificate", "client-ca", "base-date", "limit"} <= kinds


def test_every_horizon_is_a_metric(system: System) -> None:
    with KeywattClient(system.profile) as asked:
        found = asked.call(asked.mandate.GetMandate, mandate_pb2.GetMandateRequest()).horizons
    shown = scrape(system)
    for one in found:
        label = f'kind="{one.kind}",subject="{one.subject}"'
        assert shown[f"keywatt_horizon_urgency{{{label}}}"] == one.urgency
        if one.HasField("time"):
            is_over = one.urgency == mandate_pb2.URGENCY_OVER
            assert (shown[f"keywatt_horizon_seconds{{{label}}}"] <= 0) == is_over


def test_a_port_that_is_taken_is_told(system: System) -> None:
    import socket

    system.kill_appliance()
    port = int(system.metrics.rpartition(":")[2].split("/")[0])  # type: ignore[attr-defined]  # see above
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        system.start_appliance()
        assert system.servers._processes[1].wait(30) == 2
    assert "metrics.listen: cannot bind" in system.log("appliance")
    system.start_appliance()
