"""Prometheus: the endpoint while a run lasts, and the textfile that stays."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from bulksend.api.metrics import Metrics
from bulksend.errors import JobError
from bulksend.event import Event, EventName
from bulksend.observe.metrics import Meter
from bulksend.observe.prometheus import Serving, Textfile, read_address
from bulksend.observe.repeating import CLOSE_S, Repeating

ACCEPTED = Event(EventName.SEND_ACCEPTED, "job", key="1")


def get(url: str, **headers: str) -> tuple[str, str]:
    with urlopen(Request(url, headers=headers), timeout=5) as reply:
        return reply.read().decode(), reply.headers["Content-Type"]


def until(what: Callable[[], bool], within_s: float = 5.0) -> bool:
    end = time.monotonic() + within_s
    while not what() and time.monotonic() < end:
        time.sleep(0.005)
    return what()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":9464", ("127.0.0.1", 9464)),
        ("9464", ("127.0.0.1", 9464)),
        (":0", ("127.0.0.1", 0)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("metrics.example.com:80", ("metrics.example.com", 80)),
        ("[::1]:9464", ("::1", 9464)),
    ],
)
def test_an_address_is_this_machine_alone_unless_it_names_a_host(text: str, address: tuple[str, int]) -> None:
    assert read_address(text) == address


@pytest.mark.parametrize("text", ["", ":", "localhost", ":65536", ":-1", "http://x:9464", "::1:9464", "a b:1", ":94x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(JobError, match=r"--metrics: .* is not an address such as :9464"):
        read_address(text)


def test_the_endpoint_serves_the_values_of_now_until_it_is_closed() -> None:
    meter = Meter()
    serving = Serving(":0", meter)
    try:
        assert serving.url.startswith("http://127.0.0.1:")
        assert 'bulksend_sends_total{outcome="accepted"} 0.0' in get(serving.url)[0]
        meter(ACCEPTED)
        text, kind = get(serving.url)
        assert 'bulksend_sends_total{outcome="accepted"} 1.0' in text
        assert kind.startswith("text/plain; version=")
        text, kind = get(serving.url, Accept="application/openmetrics-text; version=1.0.0")
        assert text.endswith("# EOF\n")
        assert kind.startswith("application/openmetrics-text")
    finally:
        serving.close()
    with pytest.raises(URLError):
        get(serving.url)


def test_a_reader_may_ask_for_some_series_alone() -> None:
    meter = Meter()
    meter(ACCEPTED)
    serving = Serving(":0", meter)
    try:
        text, _ = get(f"{serving.url}?name[]=bulksend_sends_total")
    finally:
        serving.close()
    assert 'bulksend_sends_total{outcome="accepted"} 1.0' in text
    assert "bulksend_ledger_commits" not in text


def test_one_reader_that_hangs_keeps_neither_another_nor_the_end_waiting(capsys: pytest.CaptureFixture[str]) -> None:
    serving = Serving(":0", Meter())
    port = int(serving.url.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port)) as hanging:
        hanging.sendall(b"GET /metrics HT")
        assert "bulksend_build_info" in get(serving.url)[0]
        began = time.monotonic()
        serving.close()
        assert time.monotonic() - began < 1
    assert capsys.readouterr().err == ""


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(JobError, match=rf"--metrics: cannot listen on :{port}: Address already in use"):
            Serving(f":{port}", Meter())


def test_a_host_that_is_not_this_machine_is_told() -> None:
    with pytest.raises(JobError, match=r"--metrics: cannot listen on nowhere\.invalid:9464: "):
        Serving("nowhere.invalid:9464", Meter())
    with pytest.raises(JobError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign requested address"):
        Serving("192.0.2.1:0", Meter())


@pytest.mark.parametrize("mask", [0, 0o077])
def test_the_file_is_whole_readable_for_everybody_and_alone(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        meter = Meter()
        textfile = Textfile(tmp_path / "sale.prom", meter)
        first = textfile.path.read_text()
        inode = textfile.path.stat().st_ino
        meter(ACCEPTED)
        textfile.write()
    finally:
        os.umask(before)
    assert 'bulksend_sends_total{file="sale.prom",outcome="accepted"} 0.0\n' in first
    assert 'bulksend_sends_total{file="sale.prom",outcome="accepted"} 1.0\n' in textfile.path.read_text()
    assert textfile.path.stat().st_ino != inode, "a reader must never see half a file"
    assert stat.S_IMODE(textfile.path.stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["sale.prom"]


def test_every_series_of_a_file_bears_its_name(tmp_path: Path) -> None:
    """Two jobs on one machine would else give node_exporter the same series twice, which it refuses."""
    Textfile(tmp_path / "sale.prom", Meter())
    lines = [line for line in (tmp_path / "sale.prom").read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert all('file="sale.prom"' in line for line in lines)


def test_a_file_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"nowhere/x\.prom: --metrics-file: cannot be written: No such file"):
        Textfile(tmp_path / "nowhere" / "x.prom", Meter())
    (tmp_path / "folder.prom").mkdir()
    with pytest.raises(JobError, match="cannot be written: Is a directory"):
        Textfile(tmp_path / "folder.prom", Meter())
    with pytest.raises(JobError, match=r"--metrics-file: '.*x\.txt' must end in \.prom"):
        Textfile(tmp_path / "x.txt", Meter())
    assert [path.name for path in tmp_path.iterdir()] == ["folder.prom"]


def test_the_file_is_written_again_while_it_runs_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulksend.api.metrics.WRITE_EVERY_S", 0.02)
    path = tmp_path / "x.prom"
    with Metrics(file=path) as metrics:
        metrics(ACCEPTED)
        assert until(lambda: 'outcome="accepted"} 1.0' in path.read_text())
        monkeypatch.setattr("bulksend.api.metrics.WRITE_EVERY_S", 60)
        metrics(Event(EventName.RUN_FINISHED, "job", exit_code=0))
        metrics(ACCEPTED)
    assert 'outcome="accepted"} 2.0' in path.read_text()
    assert 'bulksend_run_success{file="x.prom"} 1.0' in path.read_text()


def test_a_run_that_told_no_end_has_not_succeeded(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    with Metrics(file=path) as metrics:
        metrics(Event(EventName.GUARD_STOPPED, "job", reason="max_sends"))
        assert "bulksend_run_success" not in path.read_text()
    assert 'bulksend_run_success{file="x.prom"} 0.0' in path.read_text()
    assert "bulksend_run_finished_timestamp_seconds{" in path.read_text()


def test_a_folder_that_goes_away_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulksend.api.metrics.WRITE_EVERY_S", 0.01)
    folder = tmp_path / "folder"
    folder.mkdir()
    warned: list[str] = []
    with Metrics(file=folder / "x.prom", warn=warned.append) as metrics:
        folder.rename(tmp_path / "elsewhere")
        assert until(lambda: bool(warned))
        metrics(ACCEPTED)
        time.sleep(0.05)
    assert len(warned) == 1
    assert warned[0].startswith(f"metrics file {folder / 'x.prom'}: ")
    assert "No such file" in warned[0]


def test_without_a_listener_for_warnings_it_is_a_runtime_warning() -> None:
    from bulksend.api.metrics import _warn

    with pytest.warns(RuntimeWarning) as caught:
        _warn("the disk is full")
    # Where warnings are errors, as in these tests, the thread that warns goes on.
    assert [str(one.message) for one in caught] == ["the disk is full"]
    _warn("the disk is full")


def test_an_address_that_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(JobError):
        Metrics(address=f":{taken.getsockname()[1]}", file=tmp_path / "x.prom", otlp="http://127.0.0.1:1")
    with pytest.raises(JobError):
        Metrics(address=":0", file=tmp_path / "x.txt")
    assert list(tmp_path.iterdir()) == []
    assert not [one for one in threading.enumerate() if one.name == "bulksend-metrics"]


def test_work_that_hangs_costs_the_end_two_seconds_and_is_told() -> None:
    release = threading.Event()
    warned: list[str] = []
    work = Repeating("metrics", lambda: (release.wait(20), None)[1], every_s=60, warn=warned.append)
    began = time.monotonic()
    work.stop()
    work.join()
    assert CLOSE_S <= time.monotonic() - began < CLOSE_S + 0.5
    release.set()
    assert warned == ["metrics: not done within 2 s; the run is not touched by that"]
