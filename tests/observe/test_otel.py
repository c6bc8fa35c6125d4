"""OpenTelemetry: what a collector receives, decoded from the wire, and what happens where none is."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from uuid import UUID

import pytest
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.sdk.metrics.export import MetricExportResult

from bulksend.api.metrics import Metrics
from bulksend.errors import JobError
from bulksend.event import Event, EventName
from bulksend.observe.metrics import INSTRUMENTS, LATENCY, Meter
from bulksend.observe.otel import Otlp
from bulksend.observe.repeating import CLOSE_S
from tests.observe.collector import Receiver
from tests.observe.test_metrics import called

ACCEPTED = Event(EventName.SEND_ACCEPTED, "job", key="1")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_the_collector_has_every_value(receiver: Receiver) -> None:
    began_ns = time.time_ns()
    with Metrics(otlp=receiver.url) as metrics:
        for one in (called(200, 0.004, 0.02), called(429, 0.2, 0.02), called(None)):
            metrics(one)
        metrics(Event(EventName.LIMIT_PAUSED, "job", "insider.launch", "a", duration_s=2.5))
        metrics(Event(EventName.ENDPOINT_SAMPLED, "job", "insider.launch", utilization=0.5, limit_per_s=100.0))
        metrics(ACCEPTED)
        metrics(Event(EventName.RUN_FINISHED, "job", exit_code=0))
    assert receiver.paths == ["/v1/metrics"]
    assert receiver.numbers("bulksend_calls") == {
        ("insider.launch", "2xx"): 1,
        ("insider.launch", "3xx"): 0,
        ("insider.launch", "4xx"): 0,
        ("insider.launch", "429"): 1,
        ("insider.launch", "5xx"): 0,
        ("insider.launch", "none"): 1,
    }
    assert receiver.numbers("bulksend_sends") == {("accepted",): 1, ("rejected",): 0, ("unknown",): 0}
    assert receiver.numbers("bulksend_paused_seconds") == {("insider.launch",): 2.5}
    assert receiver.numbers("bulksend_limit_calls_per_second") == {("insider.launch",): 100.0}
    assert receiver.numbers("bulksend_run_success") == {(): 1}

    calls = receiver.metrics["bulksend_calls"]
    assert calls.sum.is_monotonic
    assert calls.sum.aggregation_temporality == metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
    assert {one.key for one in calls.sum.data_points[0].attributes} == {"endpoint", "status"}
    first = calls.sum.data_points[0]
    assert began_ns - 10**9 < first.start_time_unix_nano <= first.time_unix_nano <= time.time_ns()

    latency = receiver.metrics["bulksend_call_duration_seconds"]
    assert (latency.unit, latency.description) == ("s", LATENCY.text)
    (point,) = latency.histogram.data_points
    assert (point.count, point.sum) == (2, pytest.approx(0.204))
    assert tuple(point.explicit_bounds) == LATENCY.bounds
    assert list(point.bucket_counts) == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert not point.HasField("min")
    known = {one.name: one for one in INSTRUMENTS}
    assert set(receiver.metrics) <= set(known)
    assert all(one.unit == known[name].unit for name, one in receiver.metrics.items())


def test_it_is_pushed_while_it_runs(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulksend.api.metrics.PUSH_EVERY_S", 0.02)
    with Metrics(otlp=receiver.url) as metrics:
        metrics(ACCEPTED)
        end = time.monotonic() + 5
        while time.monotonic() < end and len(receiver.requests) < 2:
            time.sleep(0.005)
        assert len(receiver.requests) >= 2
        assert receiver.numbers("bulksend_sends")["accepted",] == 1


def test_the_process_is_described_and_the_environment_goes_before(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    Metrics(otlp=receiver.url).close()
    first = receiver.resource
    assert first["service.name"] == "bulksend"
    assert first["host.name"] == socket.gethostname()
    assert UUID(first["service.instance.id"])
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=cron-7,team=growth")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "push")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20xyz")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    Metrics(otlp=f"{receiver.url}/mine").close()
    described = {"service.instance.id": "cron-7", "team": "growth", "service.name": "push"}
    assert described.items() <= receiver.resource.items()
    assert receiver.headers[-1]["authorization"] == "Bearer xyz"
    assert receiver.headers[-1]["content-encoding"] == "gzip"
    assert receiver.paths[-1] == "/mine"


@pytest.mark.parametrize("url", ["", "localhost:4318", "ftp://localhost", "http://", "http://x:y", "grpc://x:4317"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(JobError, match=r"--otlp: .* is not an address such as http://localhost:4318"):
        Metrics(otlp=url)


def warnings_of(url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], float]:
    """Push many times, and return what was warned of, and how long the end took."""
    monkeypatch.setattr("bulksend.api.metrics.PUSH_EVERY_S", 0.01)
    warned: list[str] = []
    with Metrics(otlp=url, warn=warned.append) as metrics:
        end = time.monotonic() + 5
        while time.monotonic() < end and not warned:
            metrics(ACCEPTED)
            time.sleep(0.005)
        began = time.monotonic()
    return warned, time.monotonic() - began


def test_a_collector_that_is_down_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    warned, took_s = warnings_of(f"http://127.0.0.1:{port}", monkeypatch)
    assert warned == [
        f"metrics: 127.0.0.1:{port} did not take them: Connection refused; the run is not touched by that"
    ]
    assert took_s < CLOSE_S + 0.5
    assert capsys.readouterr().err == ""


def test_a_collector_that_refuses_is_told_once_without_a_password(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.status = 403
    warned, took_s = warnings_of(receiver.url.replace("127", "me:hunter2@127"), monkeypatch)
    host = receiver.url.removeprefix("http://")
    assert warned == [f"metrics: {host} did not take them: HTTP 403; the run is not touched by that"]
    assert took_s < 1


def test_a_collector_that_never_answers_keeps_the_end_no_longer_than_two_seconds() -> None:
    warned: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        metrics = Metrics(otlp=f"http://127.0.0.1:{silent.getsockname()[1]}", warn=warned.append)
        began = time.monotonic()
        metrics.close()
        assert time.monotonic() - began < CLOSE_S + 0.5
    assert len(warned) == 1
    assert re.search("no answer within 1.5 s|[Tt]imed out|not done within 2 s", warned[0])


def test_what_was_pushed_in_vain_is_in_the_next_push(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver.status = 400
    monkeypatch.setattr("bulksend.api.metrics.PUSH_EVERY_S", 0.02)
    warned: list[str] = []
    with Metrics(otlp=receiver.url, warn=warned.append) as metrics:
        metrics(ACCEPTED)
        end = time.monotonic() + 5
        while time.monotonic() < end and not warned:
            time.sleep(0.005)
        receiver.status = 200
        metrics(ACCEPTED)
    assert receiver.numbers("bulksend_sends")["accepted",] == 2
    assert len(warned) == 1


def test_nothing_of_it_is_imported_unless_it_is_asked_for() -> None:
    script = (
        "import sys, bulksend.api.metrics as m, bulksend.cli.app\n"
        "m.Metrics().close()\n"
        "print(*sorted({one.partition('.')[0] for one in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert not {"opentelemetry", "requests", "prometheus_client", "wsgiref"} & set(done.stdout.split())


def test_credentials_of_a_collector_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JobError) as wrong:
        Otlp("http://user:s3cret@collector:99999?key=s3cret", Meter(), version="1")
    assert "s3cret" not in str(wrong.value)
    assert "collector:99999" in str(wrong.value)
    otlp = Otlp("http://127.0.0.1:9/v1/metrics?key=s3cret", Meter(), version="1")
    said = "Max retries exceeded with url: /v1/metrics?key=s3cret (Caused by SSLError)"

    def fails(_data: object) -> MetricExportResult:
        logging.getLogger("opentelemetry.exporter.otlp.proto.http.metric_exporter").error(said)
        return MetricExportResult.FAILURE

    monkeypatch.setattr(otlp._exporter, "export", fails)
    try:
        with pytest.raises(ConnectionError, match="Caused by SSLError") as failed:
            otlp.push()
    finally:
        otlp.close()
    assert "s3cret" not in str(failed.value)
