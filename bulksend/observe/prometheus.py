"""The instruments for Prometheus: as an HTTP endpoint while a run lasts, and as a file for node_exporter."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from bulksend.errors import JobError, Problem
from bulksend.observe.metrics import INSTRUMENTS, Distribution, Instrument, Kind, Labels, Meter, Value

__all__ = ["FILE_LABEL", "FromMeter", "Serving", "Textfile", "read_address"]

FILE_LABEL = "file"
"""Tells the textfiles of a machine apart: node_exporter refuses two of them with the same series."""
LOOPBACK = "127.0.0.1"
_ADDRESS = re.compile(r"(?:(\[[0-9A-Fa-f:.]+\]|[\w.-]+)?:)?(\d{1,5})", re.ASCII)


class FromMeter(Collector):
    """Gives a registry a meter's values, as they are when they are asked for; `more` labels stand at every one."""

    def __init__(self, meter: Meter, more: Mapping[str, str] | None = None) -> None:
        self._meter = meter
        self._more = dict(more or {})

    def describe(self) -> Iterable[Metric]:
        """Yield what there can be: by it a registry knows whom to ask for `name[]`, and who says what another does."""
        for instrument in INSTRUMENTS:
            yield _family(instrument, [], self._more)

    def collect(self) -> Iterable[Metric]:
        """Yield a family for each instrument."""
        for instrument, points in self._meter.points():
            yield _family(instrument, points, self._more)

    def text(self) -> bytes:
        """Return the values in Prometheus's text format."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)


def _family(instrument: Instrument, points: list[tuple[Labels, Value]], more: Mapping[str, str]) -> Metric:
    names, texts = [*more, *instrument.labels], tuple(more.values())
    if instrument.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(instrument.name, instrument.text, labels=names)
        ends = [*map(str, instrument.bounds), "+Inf"]
        for labels, value in points:
            assert isinstance(value, Distribution)
            buckets = list(zip(ends, accumulate(value.counts), strict=True))
            histogram.add_metric([*texts, *labels], buckets, value.total)
        return histogram
    family: CounterMetricFamily | GaugeMetricFamily
    if instrument.kind is Kind.COUNTER:
        family = CounterMetricFamily(instrument.name, instrument.text, labels=names)
    else:
        family = GaugeMetricFamily(instrument.name, instrument.text, labels=names)
    for labels, value in points:
        assert not isinstance(value, Distribution)
        family.add_metric([*texts, *labels], value)
    return family


def read_address(text: str) -> tuple[str, int]:
    """Read `:9464`, `9464`, `HOST:9464` or `[IPV6]:9464`; without a host, it is this machine alone."""
    found = _ADDRESS.fullmatch(text.strip())
    if found is None or int(found[2]) > 65535:
        raise JobError(Problem(f"{text!r} is not an address such as :9464 or 0.0.0.0:9464", field="--metrics"))
    return (found[1] or LOOPBACK).strip("[]"), int(found[2])


class Serving:
    """Serves a meter's values at an address until it is closed. Raises JobError where it cannot listen there."""

    def __init__(self, address: str, meter: Meter) -> None:
        host, port = read_address(address)
        registry = CollectorRegistry()
        registry.register(FromMeter(meter))
        try:
            family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self._server = _Server(family, (host, port))
        except OSError as wrong:
            text = f"cannot listen on {address}: {wrong.strerror or wrong}"
            raise JobError(Problem(text, field="--metrics")) from None
        self._server.set_app(make_wsgi_app(registry))
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/metrics"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="bulksend-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Listen no more; an answer that is under way keeps nobody waiting."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(WSGIRequestHandler):
    timeout = 10.0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its own name for it
        """Say nothing: standard error is for the run."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_port = False  # a port that is taken is to be told, not shared

    def __init__(self, family: int, address: tuple[str, int]) -> None:
        self.address_family = family
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind; without the look for this machine's own name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a reader that went away."""


class Textfile:
    """Writes a meter's values to a file, whole or not at all, readable for everybody as node_exporter needs it.

    Raises JobError where the first cannot be written.
    """

    def __init__(self, path: Path, meter: Meter) -> None:
        if path.suffix != ".prom":
            text = f"{str(path)!r} must end in .prom: node_exporter reads no other file"
            raise JobError(Problem(text, field="--metrics-file"))
        self.path = path
        self._collector = FromMeter(meter, {FILE_LABEL: path.name})
        try:
            self.write()
        except OSError as wrong:
            raise JobError(
                Problem(f"cannot be written: {wrong.strerror}", file=str(path), field="--metrics-file")
            ) from None

    def write(self) -> None:
        """Put the values of now in place of those before."""
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}")  # node_exporter reads *.prom alone
        try:
            with scratch.open("wb") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(self._collector.text())
            scratch.replace(self.path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
