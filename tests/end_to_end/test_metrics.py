"""Metrics of real runs: what is scraped, left behind and pushed is what the summary, and the emulator, have counted."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

import bulksend
from tests.end_to_end.segments import ADD, DELETE, DESIRED, QUERY, TARGET, Stream, numbered, segment_job
from tests.end_to_end.vendor import Folder, JobFolder, Vendor, finish
from tests.observe.collector import Receiver

LAUNCH = "insider.launch"
FAST = '[limits]\n"insider.launch" = "200/s"\n"insider.create" = "1000/s"\n'
STATUSES = ("2xx", "3xx", "4xx", "429", "5xx", "none")


@pytest.fixture(autouse=True)
def _no_settings_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def vendor() -> Iterator[Vendor]:
    with Vendor("--limit", "insider.launch=200/s", "--limit", "insider.create=1000/s") as vendor:
        yield vendor


def job(path: Path, vendor: Vendor, *, rows: int, extra: str = "") -> Folder:
    """Return a folder with a job, whose commands run in this process."""
    return JobFolder(path, vendor, job=path.name, rows=rows, extra=FAST + extra)


class Scraped:
    """Samples in Prometheus's text format."""

    def __init__(self, text: str) -> None:
        self.samples = [one for family in text_string_to_metric_families(text) for one in family.samples]

    def get(self, name: str, **labels: str) -> float | None:
        """Return the sum of the samples with these labels; None where there is none."""
        found = [one.value for one in self.samples if one.name == name and labels.items() <= one.labels.items()]
        return sum(found) if found else None

    def calls(self, status: str | None = None) -> float:
        return self.get("bulksend_calls_total", endpoint=LAUNCH, **({"status": status} if status else {})) or 0

    def sends(self) -> dict[str, float | None]:
        return {name: self.get("bulksend_sends_total", outcome=name) for name in ("accepted", "rejected", "unknown")}


def scrape(url: str) -> Scraped:
    with urlopen(url, timeout=5) as reply:
        return Scraped(reply.read().decode())


def events(folder: Folder) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder.path / "events.jsonl").read_text("utf-8").splitlines()]


def started(folder: JobFolder, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """Start a run that serves metrics at a free port, and return the address that it says."""
    process = folder.start(
        "run", "job.toml", "--json", "--metrics", ":0", "--metrics-file", "sale.prom", "--log-file", "events.jsonl",
        *arguments,
    )  # fmt: skip
    assert process.stderr is not None
    said = process.stderr.readline()
    assert said.startswith("metrics: http://127.0.0.1:"), said
    return process, said.removeprefix("metrics: ").strip()


def until(what: Callable[[], Scraped], enough: Callable[[Scraped], bool]) -> Scraped:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = what()
        if enough(found):
            return found
        time.sleep(0.02)
    raise AssertionError("it never came")


def test_a_run_with_faults_is_scraped_while_it_runs_and_its_file_is_the_summary(tmp_path: Path) -> None:
    faults = ("429-retry-after=1:1%", "424:3%", "503:2%", "reset-after:2%")
    flags = [flag for fault in faults for flag in ("--fault", f"{LAUNCH}={fault}")]
    with Vendor("--limit", f"{LAUNCH}=200/s", "--latency", "20ms±10ms", "--seed", "7", *flags) as vendor:
        folder = JobFolder(tmp_path, vendor, rows=400, extra=FAST)
        with (tmp_path / "stores.csv").open("a") as file:
            file.writelines(f"bad{one},{'x' * 200}\n" for one in range(3))
        process, url = started(folder, "--no-precheck")

        under_way = until(
            lambda: scrape(url),
            lambda one: 0 < (one.sends()["accepted"] or 0) < 350 and bool(one.get("bulksend_in_flight_calls")),
        )
        assert under_way.get("bulksend_limit_calls_per_second", endpoint=LAUNCH) == 200
        assert 0 < (under_way.get("bulksend_limit_used_ratio", endpoint=LAUNCH) or 0) < 1.1
        assert (under_way.get("bulksend_waiting_sends") or 0) > 0
        assert (under_way.get("bulksend_ledger_commits_total") or 0) > 0
        assert under_way.get("bulksend_run_started_timestamp_seconds") == pytest.approx(time.time(), abs=20)
        assert under_way.get("bulksend_run_finished_timestamp_seconds") is None
        assert 0 < under_way.calls() <= vendor.stats()["calls"]
        first = Scraped((tmp_path / "sale.prom").read_text())
        assert first.get("bulksend_build_info", file="sale.prom", version=bulksend.__version__) == 1
        assert first.get("bulksend_run_success") is None

        done = finish(process)
        with pytest.raises(URLError):
            scrape(url)
        summary, emulated = done.json, vendor.stats()

    last = Scraped((tmp_path / "sale.prom").read_text())
    assert (tmp_path / "sale.prom").stat().st_mode & 0o777 == 0o644
    assert done.code == 3
    sends = summary["sends"]
    assert sends["rejected"] == 3
    assert sends["unknown"] > 0
    assert last.sends() == {name: sends[name] for name in ("accepted", "rejected", "unknown")}
    assert last.calls() == summary["endpoints"][LAUNCH]["calls"] == emulated["calls"]
    assert {status: last.calls(status) for status in STATUSES} == {
        "2xx": sends["accepted"],
        "3xx": 0,
        "4xx": emulated["faults"]["424"],
        "429": emulated["throttled"] + emulated["faults"]["429-retry-after"],
        "5xx": emulated["faults"]["503"],
        "none": emulated["faults"]["reset-after"],
    }
    assert last.calls("429") == summary["calls"]["throttled"] > 0
    assert last.get("bulksend_retries_total") == summary["calls"]["retried"] > 0
    assert (under_way.sends()["accepted"] or 0) <= sends["accepted"]

    told = Counter(one["event"] for one in events(folder))
    waits = sum(float(str(one["duration_s"])) for one in events(folder) if one["event"] == "limit.paused")
    assert last.get("bulksend_pauses_total", endpoint=LAUNCH) == told["limit.paused"] > 0
    assert last.get("bulksend_paused_seconds_total", endpoint=LAUNCH) == pytest.approx(waits, abs=0.01)

    latency = "bulksend_call_duration_seconds"
    answered = last.calls() - last.calls("none")
    assert last.get(f"{latency}_count", endpoint=LAUNCH) == answered
    assert last.get("bulksend_limiter_wait_seconds_count", endpoint=LAUNCH) == answered
    p50_s = summary["endpoints"][LAUNCH]["p50_ms"] / 1000
    below, above = _around(last, latency, p50_s)
    assert below <= answered / 2 <= above
    assert 0.01 < (last.get(f"{latency}_sum", endpoint=LAUNCH) or 0) / answered < 0.2

    assert last.get("bulksend_in_flight_calls") == last.get("bulksend_waiting_sends") == 0
    assert 0 < (last.get("bulksend_ledger_commits_total") or 0) <= 4 * last.calls()
    assert 0 < (last.get("bulksend_ledger_commit_seconds_total") or 0) < summary["elapsed_s"]
    began, ended = (last.get(f"bulksend_run_{name}_timestamp_seconds") or 0 for name in ("started", "finished"))
    assert ended - began == pytest.approx(summary["elapsed_s"], abs=1)
    assert last.get("bulksend_run_success") == 0
    assert {tuple(sorted(one.labels)) for one in last.samples} <= {
        ("file",), ("endpoint", "file"), ("endpoint", "file", "status"), ("endpoint", "file", "le"),
        ("file", "outcome"), ("file", "side"), ("file", "version"),
    }  # fmt: skip


def _around(scraped: Scraped, name: str, seconds: float) -> tuple[float, float]:
    """Return how many are in the buckets below a time, and how many up to the end of its own, 5 % off at most."""
    ends = {float(one.labels["le"]) for one in scraped.samples if one.name == f"{name}_bucket"}
    low = max((end for end in ends if end < seconds * 0.95), default=0.0)
    high = min(end for end in ends if end >= seconds * 1.05)
    counts = {
        float(one.labels["le"]): one.value
        for one in scraped.samples
        if one.name == f"{name}_bucket" and one.labels["endpoint"] == LAUNCH
    }
    return counts.get(low, 0.0), counts[high]


def test_a_run_that_is_over_at_once_leaves_its_numbers_too(tmp_path: Path, vendor: Vendor) -> None:
    folder = job(tmp_path, vendor, rows=3)
    done = folder.run("--metrics-file", "sale.prom")
    assert done.code == 0, done.err
    left = Scraped((tmp_path / "sale.prom").read_text())
    assert left.sends() == {"accepted": 3, "rejected": 0, "unknown": 0}
    assert left.get("bulksend_run_success") == 1
    assert (left.get("bulksend_ledger_commits_total") or 0) >= 3
    assert left.get("bulksend_limit_calls_per_second", endpoint=LAUNCH) == 200
    # Once more: nothing is left to send, and that is a success.
    assert folder.run("--metrics-file", "sale.prom").code == 0
    again = Scraped((tmp_path / "sale.prom").read_text())
    assert again.sends() == {"accepted": 0, "rejected": 0, "unknown": 0}
    assert again.get("bulksend_run_success") == 1
    assert again.calls() == 0


def test_a_run_that_is_stopped_or_refused_has_not_succeeded(tmp_path: Path, vendor: Vendor) -> None:
    folder = job(tmp_path, vendor, rows=1000, extra='[policy]\ndeadline = "1s"\n')
    before = vendor.stats()["effects"]
    stopped = folder.run("--metrics-file", "sale.prom")
    assert stopped.code == 4
    assert stopped.sends["pending"] > 0
    left = Scraped((tmp_path / "sale.prom").read_text())
    assert left.get("bulksend_run_success") == 0
    assert left.sends()["accepted"] == stopped.sends["accepted"] == vendor.stats()["effects"] - before
    # On a machine that is slow enough, the deadline passes before the first launch.
    assert left.get("bulksend_in_flight_calls") in (None, 0)
    assert left.get("bulksend_waiting_sends") == 0

    folder.edit('deadline = "1s"', "max_sends = 100")
    assert folder.run("--metrics-file", "sale.prom").code == 4
    refused = Scraped((tmp_path / "sale.prom").read_text())
    assert refused.get("bulksend_run_success") == 0
    assert refused.get("bulksend_run_finished_timestamp_seconds") == pytest.approx(time.time(), abs=20)
    assert refused.get("bulksend_run_started_timestamp_seconds") is None


def test_a_collector_receives_what_the_summary_says(tmp_path: Path, vendor: Vendor) -> None:
    folder = job(tmp_path, vendor, rows=40)
    before = vendor.stats()["calls"]
    receiver = Receiver()
    try:
        done = folder.run("--otlp", receiver.url)
    finally:
        receiver.close()
    assert done.code == 0, done.err
    assert "warning" not in done.err
    assert receiver.numbers("bulksend_sends") == {("accepted",): 40, ("rejected",): 0, ("unknown",): 0}
    assert receiver.numbers("bulksend_calls")[LAUNCH, "2xx"] == vendor.stats()["calls"] - before == 40
    assert receiver.numbers("bulksend_run_success") == {(): 1}


@pytest.mark.parametrize("silent", [False, True])
def test_a_collector_that_does_not_answer_costs_a_warning_and_two_seconds(
    tmp_path: Path, vendor: Vendor, *, silent: bool
) -> None:
    folder = job(tmp_path, vendor, rows=20)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not silent:
            server.close()
        done = folder.run("--otlp", f"http://127.0.0.1:{port}", "--log-file", "events.jsonl")
        ended = time.time()
    assert done.code == 0, done.err
    assert done.sends["accepted"] == 20
    (warning,) = [line for line in done.err.splitlines() if "warning: " in line]
    assert warning.startswith(f"warning: metrics: 127.0.0.1:{port} did not take them: ")
    (told,) = [one for one in events(folder) if one["event"] == "run.finished"]
    assert ended - datetime.fromisoformat(str(told["timestamp"])).timestamp() < 3


def test_the_library_has_the_same_numbers(tmp_path: Path, vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSIDER_TOKEN", vendor.token)
    folder = job(tmp_path, vendor, rows=30)
    with bulksend.Metrics(address=":0", file=tmp_path / "sale.prom") as metrics:
        report = bulksend.run(folder.file, observers=[metrics])
        assert metrics.url is not None
        served = scrape(metrics.url)
    assert served.sends()["accepted"] == report.accepted == 30
    assert Scraped((tmp_path / "sale.prom").read_text()).get("bulksend_run_success") == 1


def test_a_file_that_cannot_be_written_any_more_costs_no_send(
    tmp_path: Path, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSIDER_TOKEN", vendor.token)
    monkeypatch.setattr("bulksend.api.metrics.WRITE_EVERY_S", 0.02)
    folder = job(tmp_path, vendor, rows=60)
    (tmp_path / "out").mkdir()
    warned: list[str] = []

    def disturb(event: bulksend.Event) -> None:
        if event.name is bulksend.EventName.SEND_ACCEPTED and (tmp_path / "out").exists():
            (tmp_path / "out").rename(tmp_path / "gone")

    with bulksend.Metrics(file=tmp_path / "out" / "sale.prom", warn=warned.append) as metrics:
        report = bulksend.run(folder.file, observers=[metrics, disturb])
    assert (report.accepted, report.state) == (60, bulksend.JobState.DONE)
    (text,) = warned
    assert text.startswith(f"metrics file {tmp_path / 'out' / 'sale.prom'}: ")


def test_a_segment_is_counted_in_pages_and_ids(tmp_path: Path) -> None:
    with Stream() as vendor:
        vendor.put(numbered(range(300)))
        before = {name: vendor.calls(name) for name in (QUERY, ADD, DELETE)}
        folder = segment_job(tmp_path, vendor, numbered(range(250, 600)), text=TARGET + DESIRED)
        done = folder.run("--metrics-file", "segment.prom")
        made = {name: vendor.calls(name) - number for name, number in before.items()}
    assert done.code == 0, done.err
    left = Scraped((tmp_path / "segment.prom").read_text())
    segment = done.json["segment"]
    assert (segment["added"], segment["removed"]) == (300, 250)
    assert left.get("bulksend_segment_ids_total", side="added") == 300
    assert left.get("bulksend_segment_ids_total", side="removed") == 250
    # The segment as it was, and as it is.
    assert left.get("bulksend_segment_ids_total", side="read") == 300 + 350
    assert left.get("bulksend_segment_pages_total") == made[QUERY]
    assert {name: left.get("bulksend_calls_total", endpoint=name, status="2xx") for name in made} == made
    assert left.get("bulksend_run_success") == 1
