"""Counters and horizons for Prometheus: what went on, and what will end. No digits, no meters, no names of clients.

Served by a thread of the library, over plain HTTP: on this machine, or behind what asks for a name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance import __version__
from appliance.errors import ConfigurationInvalid
from appliance.horizons import Horizons


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What is counted elsewhere, and read when it is asked for.

    Args:
        calls: by method and reason; ``OK`` for those that succeeded.
        tokens: by class and subclass, made durable.
        signals: by kind, and whether the request was refused.
        batches, requests, commits, waiting: of the pipeline and the ledger.
    """

    calls: Mapping[tuple[str, str], int]
    tokens: Mapping[tuple[int, int], int]
    signals: Callable[[], Mapping[tuple[str, bool], int]]
    batches: Callable[[], int]
    requests: Callable[[], int]
    commits: Callable[[], int]
    waiting: Callable[[], int]


class ApplianceCollector(Collector):
    """Makes samples at each scrape.

    Args:
        counts: what is counted.
        horizons: what will end.
        serves: whether tokens can be had.
    """

    def __init__(self, counts: Counts, horizons: Horizons, serves: Callable[[], bool]) -> None:
        self._counts = counts
        self._horizons = horizons
        self._serves = serves
        self._started = time.time()

    def collect(self) -> Iterable[Metric]:
        """Return every sample."""
        counts = self._counts
        up = GaugeMetricFamily("keywatt_serving", "1 while module, ledger, clock and lease allow tokens.")
        up.add_metric([], float(self._serves()))
        yield up
        info = GaugeMetricFamily("keywatt_start_seconds", "When this process started, by version.", labels=["version"])
        info.add_metric([__version__], self._started)
        yield info
        calls = CounterMetricFamily("keywatt_calls", "Calls, by method and reason code.", labels=["method", "reason"])
        # The loop's thread adds to these meanwhile; a copy is made in one step.
        for (method, reason), count in list(counts.calls.items()):
            calls.add_metric([method, reason], count)
        yield calls
        tokens = CounterMetricFamily("keywatt_tokens", "Tokens issued and durable.", labels=["class", "subclass"])
        for (token_class, subclass), count in list(counts.tokens.items()):
            tokens.add_metric([str(token_class), str(subclass)], count)
        yield tokens
        signals = CounterMetricFamily("keywatt_signals", "Signals of misuse.", labels=["signal", "refused"])
        for (kind, refused), count in list(counts.signals().items()):
            signals.add_metric([kind, str(refused).lower()], count)
        yield signals
        for name, text, read in (
            ("keywatt_batches", "Batches begun.", counts.batches),
            ("keywatt_requests", "Requests in them.", counts.requests),
            ("keywatt_commits", "Batches made durable.", counts.commits),
        ):
            yield CounterMetricFamily(name, text, value=read())
        yield GaugeMetricFamily("keywatt_waiting", "Requests that wait or are under way.", value=counts.waiting())
        yield from self._horizon_metrics()

    def _horizon_metrics(self) -> Iterable[Metric]:
        now = datetime.now(UTC)
        labels = ["kind", "subject"]
        left = GaugeMetricFamily("keywatt_horizon_seconds", "How long until something ends.", labels=labels)
        used = GaugeMetricFamily("keywatt_limit_used_ratio", "How much of a limit is used.", labels=["limit"])
        urgency = GaugeMetricFamily("keywatt_horizon_urgency", "1 far, 2 soon, 3 now, 4 over.", labels=labels)
        for horizon in self._horizons.all(now):
            urgency.add_metric([horizon.kind, horizon.subject], int(horizon.urgency))
            if horizon.moment is None:
                used.add_metric([horizon.subject], horizon.used)
            else:
                left.add_metric([horizon.kind, horizon.subject], (horizon.moment - now).total_seconds())
        yield left
        yield used
        yield urgency


def serve(listen: str, place: int, collector: Collector) -> Callable[[], None]:
    """Serve metrics; return what ends it.

    Args:
        listen: address and port.
        place: number of this process among those of one appliance, from 0; added to the port.
        collector: makes the samples.

    Raises:
        ConfigurationInvalid: the port is taken.
    """
    host, _, port = listen.rpartition(":")
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(int(port) + place, addr=host.strip("[]"), registry=registry)
    except OSError as error:
        raise ConfigurationInvalid(f"metrics.listen: cannot bind {listen}: {error.strerror}") from None

    def end() -> None:
        server.shutdown()
        thread.join()

    return end
