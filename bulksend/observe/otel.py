"""The instruments for OpenTelemetry: pushed as OTLP over HTTP."""

from __future__ import annotations

import logging
import re
import socket
import time
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from bulksend.errors import JobError, Problem
from bulksend.observe.metrics import Distribution, Instrument, Kind, Labels, Meter, Value

__all__ = ["Otlp"]

PUSH_MOST_S = 1.5
"""How long a push may take, repeats included: less than the end of a run waits for."""
SAID_MOST = 200
_REASON = re.compile(r"Errno -?\d+\] ([\w ]+)|([Tt]imed out)|code: (\d{3})")
_CREDENTIALS = re.compile(r"(?<=//)[^/\s]*@|(?<=\?)[^\s#'\"]+")
"""What an address may hold before its host, and in its query."""
_PATH = "/v1/metrics"
_LOGGER = logging.getLogger("opentelemetry.exporter.otlp.proto.http")
_TOTALS = AggregationTemporality.CUMULATIVE


class Otlp:
    """Pushes a meter's values to a collector: `http://HOST:4318`, or the whole address of its route.

    Headers and certificates come from OpenTelemetry's own environment variables, as does what describes this process
    (OTEL_RESOURCE_ATTRIBUTES). Raises JobError for what is not such an address.
    """

    def __init__(self, url: str, meter: Meter, *, version: str) -> None:
        try:
            parts = urlsplit(url)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port)
        except ValueError:
            valid = False
        if not valid:
            text = f"{_bare(url)!r} is not an address such as http://localhost:4318"
            raise JobError(Problem(text, field="--otlp"))
        if parts.path in ("", "/"):
            url = parts._replace(path=_PATH).geturl()
        self.host = parts.netloc.rpartition("@")[2]
        self._meter = meter
        self._scope = InstrumentationScope("bulksend", version)
        self._resource = _resource(version)
        self._said = _LastSaid()
        _LOGGER.addHandler(self._said)
        self._exporter = OTLPMetricExporter(endpoint=url, timeout=PUSH_MOST_S)

    def push(self) -> None:
        """Push the values of now; raises ConnectionError where nobody took them."""
        if self._exporter.export(self._data()) is not MetricExportResult.SUCCESS:
            raise ConnectionError(f"{self.host} did not take them: {self._said.text or 'no reason was given'}")

    def close(self) -> None:
        """Let go of the connection."""
        _LOGGER.removeHandler(self._said)
        self._exporter.shutdown()

    def _data(self) -> MetricsData:
        now_ns, began_ns = time.time_ns(), int(self._meter.began_at * 1e9)
        metrics = [_metric(instrument, points, began_ns, now_ns) for instrument, points in self._meter.points()]
        return MetricsData([ResourceMetrics(self._resource, [ScopeMetrics(self._scope, metrics, "")], "")])


def _bare(text: str) -> str:
    """Return a text with an address in it without what may be a secret of the collector's."""
    return _CREDENTIALS.sub("…", text)


def _metric(instrument: Instrument, points: list[tuple[Labels, Value]], began_ns: int, now_ns: int) -> Metric:
    numbers, distributions = [], []
    for labels, value in points:
        named = dict(zip(instrument.labels, labels, strict=True))
        if isinstance(value, Distribution):
            count, bounds = sum(value.counts), instrument.bounds
            ends: Any = (None, None)  # the least and the most, which OTLP does not ask for
            distributions.append(
                HistogramDataPoint(named, began_ns, now_ns, count, value.total, value.counts, bounds, *ends)
            )
        else:
            numbers.append(NumberDataPoint(named, began_ns, now_ns, float(value)))
    data: Sum | Gauge | Histogram
    match instrument.kind:
        case Kind.COUNTER:
            data = Sum(numbers, _TOTALS, is_monotonic=True)
        case Kind.GAUGE:
            data = Gauge(numbers)
        case Kind.HISTOGRAM:
            data = Histogram(distributions, _TOTALS)
    return Metric(instrument.name, instrument.text, instrument.unit, data)


def _resource(version: str) -> Resource:
    """Return what describes this process; what the environment says goes before what is known here."""
    given = Resource.create()
    own = {
        "service.name": "bulksend",
        "service.version": version,
        "service.instance.id": str(uuid4()),  # two runs at a time must not write one series
        "host.name": socket.gethostname(),
    }
    kept = {name for name, text in given.attributes.items() if not str(text).startswith("unknown_service")}
    return given.merge(Resource({name: text for name, text in own.items() if name not in kept}))


class _LastSaid(logging.Handler):
    """Keeps what the exporter said of a failure, in place of its lines on standard error."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what tells most: of a last try that failed, the exporter says no more than that it was the last."""
        text = record.getMessage()
        if found := _REASON.search(text):
            self.text = f"HTTP {found[3]}" if found[3] else found[1] or found[2]
        elif not self.text:
            self.text = f"no answer within {PUSH_MOST_S:g} s" if "due to timeout" in text else _bare(text)[:SAID_MOST]
