"""`bulksend loadtest` as a process, against real emulators: numbers, exit codes, safety, and limits that are found."""

from __future__ import annotations

import asyncio
import html
import json
import signal
import stat
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import bulksend
from bulksend.model import Limit
from bulksend.observe.report import MARK
from bulksend.observe.report.load import LOAD_MARK
from bulksend.observe.report.words import ms
from tests.end_to_end.vendor import Done, JobFolder, Vendor, finish
from tests.observe.test_report import Reader


def load(folder: JobFolder, *arguments: str) -> Done:
    return folder.command("loadtest", "job.toml", "--json", *arguments)


def adds_up(data: dict[str, Any]) -> None:
    calls = data["calls"]
    assert calls["planned"] == calls["sent"] + calls["dropped"] + calls["unsent"]
    assert calls["late"] <= calls["sent"] == sum(data["outcomes"].values())
    assert sum(data["statuses"].values()) == calls["sent"] + calls["unsent"]


def test_a_load_test_tells_what_it_did(tmp_path: Path) -> None:
    with Vendor("--limit", "insider.launch=50/60s") as vendor:
        folder = JobFolder(tmp_path, vendor, rows=7)
        before = set(tmp_path.iterdir())
        done = load(
            folder, "--rate", "100/s", "--duration", "1s", "--fail-if", "429 > 0", "--fail-if", "p50 > 20 s",
            "--history", "load.json", "--report", "load.html",
        )  # fmt: skip
        stats = vendor.stats()
    assert done.code == 99, done.err
    data = done.json
    adds_up(data)
    assert (data["state"], data["endpoint"], data["job"]) == ("failed", "insider.launch", "sale")
    assert data["calls"]["planned"] == data["calls"]["sent"] == stats["calls"] == 100
    assert data["outcomes"] == {"accepted": 50, "rejected": 0, "unknown": 0, "throttled": 50}
    assert data["statuses"] == {"200": 50, "429": 50}
    assert [one["failed"] for one in data["thresholds"]] == [True, False]
    assert "failed      429 > 0: 50" in done.err
    assert "passed      p50 > 20 s" in done.err
    # No ledger, nothing but what was asked for.
    assert set(tmp_path.iterdir()) - before == {tmp_path / "load.json", tmp_path / "load.html"}
    record = json.loads((tmp_path / "load.json").read_text("utf-8"))
    assert record["summary"] == data
    line = record["timeline"]
    for name in ("planned", "sent", "late", "dropped"):
        assert sum(line[name]) == data["calls"][name]
    assert sum(line["throttled"]) == 50
    assert line["p99_ms"][0] >= line["p50_ms"][0] > 0
    assert sum(record["history"]["endpoints"]["insider.launch"]["calls"]) == 100
    histogram = pytest.importorskip("hdrh.histogram").HdrHistogram.decode(record["latency_hdr"])
    assert histogram.get_total_count() == 100
    assert data["windows"] == [{"window": "6000/min", "allowed": 6000, "sent": 100, "accepted": 50}]
    assert data["report"] == str(tmp_path / "load.html")
    assert_page(tmp_path / "load.html", data)
    assert vendor.token not in (tmp_path / "load.html").read_text("utf-8")


def assert_page(path: Path, data: dict[str, Any]) -> None:
    """The page has the numbers of the summary, is its owner's only, and holds no secret."""
    text = path.read_text("utf-8")
    read = Reader(text)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "1 of 2 thresholds failed: <b>429 &gt; 0</b> (50)." in text
    assert "Asked for: 6,000/min for 1.0 s. 100 of 100 calls were sent" in text
    assert read.of["thresholds"][1:] == [
        ["429 > 0", "50", "failed"],
        ["p50 > 20 s", data["thresholds"][1]["was"], "met"],
    ]
    assert ["429", "50"] in read.of["outcomes"]
    assert ["6000/min", "6,000", "100", "50"] in read.of["proof"]
    (p99,) = [row for row in read.of["latency"] if row[0] == "p99"]
    assert p99[1] == ms(data["latency_ms"]["p99"])
    assert {row[0] for row in read.of["slowest"][1:]} <= {f"{one:05}" for one in range(1, 8)}
    assert text.count("<svg") == 4
    assert 'token = "env:•••"' in html.unescape(text)
    assert "INSIDER_TOKEN" not in text
    assert list(path.parent.glob(".load*")) == []


def test_the_page_is_looked_to_before_the_first_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor)
        monkeypatch.setenv("INSIDER_TOKEN", vendor.token)
        (tmp_path / "job-report.html").write_text(f"{MARK}\n<html>", "utf-8")
        for name, about in (
            ("job.toml", "not written over"),
            ("stores.csv", "not written over"),
            ("job-report.html", "not written over"),  # a job's report
            (".", "is a directory"),
            ("nowhere/load.html", "no such directory"),
        ):
            path = tmp_path / name
            before = path.read_bytes() if path.is_file() else b""
            with pytest.raises(bulksend.JobError, match=about):
                bulksend.load_test(folder.file, rate="10/s", duration="0.2s", report=path)
            assert (path.read_bytes() if path.is_file() else b"") == before
        done = load(folder, "--rate", "10/s", "--history", "load.html", "--report", "load.html")
        assert (done.code, "different files" in done.err) == (2, True)
        assert vendor.stats()["calls"] == vendor.stats("insider.create")["calls"] == 0


def test_the_page_of_a_search_that_is_not_settled_and_one_in_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Vendor("--limit", "insider.launch=30/60s") as vendor:
        folder = JobFolder(tmp_path, vendor)
        monkeypatch.setenv("INSIDER_TOKEN", vendor.token)
        path = tmp_path / "load.html"
        path.write_text(f"{LOAD_MARK} of an earlier test", "utf-8")
        asked: dict[str, Any] = {"rate": "100/s", "ramp_from": "100/s", "duration": "0.2s", "report": path}
        report = bulksend.load_test(folder.file, find_limit=True, max_429=1, **asked)
        assert (report.state, report.exit_code, report.page) == ("unsettled", 3, path)
        text = path.read_text("utf-8")
        assert "No limit is told: the budget of 1 refused calls is spent." in text
        assert "<h2>The measured limit</h2>" in text
        assert ["429", str(report.outcomes["throttled"])] in Reader(text).of["outcomes"]
        monkeypatch.setattr("bulksend.api.load_page.load_page", broken)
        with pytest.raises(bulksend.RunError, match="cannot be drawn") as wrong:
            bulksend.load_test(folder.file, **asked)
        assert isinstance(wrong.value.report, bulksend.LoadReport), "the numbers are not lost"
        assert path.read_text("utf-8") == text
        assert report.record is not None
        assert report.record.summary["report"] == str(path)


def broken(_: object) -> str:
    raise ValueError("no ink")


def test_a_second_test_of_the_same_job_makes_a_campaign_of_its_own(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor)
        for _ in range(2):
            done = load(folder, "--rate", "20/s", "--duration", "0.5s")
            assert (done.code, done.json["outcomes"]["accepted"]) == (0, 10), done.err
        titles = [one["body"]["title"] for one in vendor.effects("insider.create")]
        assert len(titles) == len(set(titles)) == 2
        assert vendor.stats()["effects"] == 20


def test_the_library_and_an_emulator_of_its_own(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor)
        seen: list[bulksend.Event] = []

        def broken(_: bulksend.Event) -> None:
            raise ValueError("no disk")

        with pytest.warns(RuntimeWarning, match="an observer failed"):
            report = bulksend.load_test(
                folder.file, rate="50/s", duration="1s", ramp_from="10/s", emulate=True, observers=[broken, seen.append]
            )
        assert vendor.stats("insider.create")["calls"] == vendor.stats()["calls"] == 0
    assert isinstance(report, bulksend.LoadReport)
    assert (report.state, report.calls["planned"], report.outcomes["accepted"]) == ("done", 30, 30)
    assert len(seen) == 30
    assert {event.name for event in seen} == {bulksend.EventName.CALL_MADE}


def test_what_makes_no_sense_is_refused_before_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor)
        monkeypatch.setenv("INSIDER_TOKEN", vendor.token)
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"fail_if": ["p99 > 500"]}, "write the unit"),
            ({"fail_if": ["speed > 5"]}, "known here: p50"),
            ({"rate": "fast"}, "not a rate"),
            ({"duration": "0s"}, "above zero"),
            ({"endpoint": "insider.lunch"}, "did you mean insider.launch"),
            ({"max_in_flight": 0}, "--max-in-flight"),
        ]
        for given, about in wrong:
            with pytest.raises(bulksend.JobError, match=about):
                bulksend.load_test(folder.file, **{"rate": "10/s", "duration": "1s", **given})
        done = load(folder, "--rate", "10/s", "--fail-if", "p99 > 500")
        assert (done.code, done.json["state"]) == (2, "refused")
        assert "write the unit" in done.err
        assert vendor.stats()["calls"] == vendor.stats("insider.create")["calls"] == 0


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor)
        script = "import sys; sys.modules['hdrh'] = None; from bulksend.cli import main; main()"
        arguments = ["loadtest", "job.toml", "--rate", "10/s"]
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=tmp_path,
            env=folder.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        assert "pip install 'bulksend[loadtest]'" in done.stderr
        assert vendor.stats("insider.create")["calls"] == 0


def test_only_a_sandbox_that_is_named_may_be_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name resolves to nothing: a call would end as one without a connection, not as a refusal."""
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor)
        monkeypatch.setenv("INSIDER_TOKEN", vendor.token)
        folder.edit(f'base_url = "{vendor.url}"', 'base_url = "https://sandbox.invalid"')
        asked = ("--rate", "10/s", "--duration", "1s")

        def refused(about: str, *hosts: str) -> None:
            with pytest.raises(bulksend.GuardError, match=about):
                bulksend.load_test(folder.file, rate="10/s", duration="1s", confirm_hosts=hosts)

        refused("not marked as a sandbox")
        refused("not marked as a sandbox", "sandbox.invalid")
        folder.edit("[audience]", "sandbox = true\n[audience]")
        refused("--confirm-host sandbox.invalid", "other.invalid")
        done = load(folder, *asked)
        assert (done.code, done.json["state"]) == (4, "refused")
        assert "--confirm-host sandbox.invalid" in done.err
        confirmed = load(folder, *asked, "--confirm-host", "sandbox.invalid")
        assert confirmed.code == 1
        assert "sandbox.invalid is not found" in confirmed.err or "no connection" in confirmed.err
        assert load(folder, *asked, "--emulate").code == 0
        # Nothing but the emulator of its own was called.
        assert vendor.stats()["calls"] == vendor.stats("insider.create")["calls"] == 0


def test_neither_a_redirect_nor_a_proxy_of_the_environment_leads_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Vendor() as vendor, redirecting_server(vendor.url) as url:
        folder = JobFolder(tmp_path, vendor)
        monkeypatch.setenv("INSIDER_TOKEN", vendor.token)
        monkeypatch.setattr("bulksend.loadtest.asking.WAIT_S", 0.01)
        with pytest.raises(bulksend.PrepareError, match="redirects are not followed"):
            bulksend.load_test(folder.file, rate="10/s", duration="0.2s", base_url=url)
        assert vendor.stats()["calls"] == vendor.stats("insider.create")["calls"] == 0
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, url)
        report = bulksend.load_test(folder.file, rate="10/s", duration="0.5s")
        assert (report.outcomes["accepted"], vendor.stats()["calls"]) == (5, 5)


def test_ctrl_c_ends_it_in_good_order_with_the_numbers(tmp_path: Path) -> None:
    with Vendor("--latency", "300ms") as vendor:
        folder = JobFolder(tmp_path, vendor)
        asked = ("--rate", "50/s", "--duration", "1h", "--report", "load.html")
        process = folder.start("loadtest", "job.toml", "--json", *asked)
        vendor.wait_for_launches(20)
        process.send_signal(signal.SIGINT)
        done = finish(process)
        stats = vendor.stats()
    assert done.code == 75
    data = done.json
    adds_up(data)
    assert data["state"] == "stopped"
    assert data["outcomes"]["unknown"] == 0  # those under way were waited for
    assert 20 <= data["calls"]["sent"] == stats["calls"] < 5000
    text = (tmp_path / "load.html").read_text("utf-8")
    assert "Stopped: stopped by SIGINT." in text
    assert f"{data['calls']['sent']} of {data['calls']['planned']} calls were sent" in text


def test_refused_credentials_end_it(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor)
        folder.env["INSIDER_TOKEN"] = "wrong"
        done = load(folder, "--rate", "50/s", "--duration", "1m", "--report", "load.html")
        assert done.code == 1
        assert "credentials" in done.err
        assert vendor.stats()["calls"] == 0
        assert not (tmp_path / "load.html").exists()
        # Without a campaign to be made first, it is a call of the test that is refused: that has numbers, and a page.
        folder.edit('[create]\ntitle = "sale"\nlanguage = "en_GB"\n', "")
        folder.edit("[launch]\n", "[launch]\ncampaign_id = 25696\n")
        done = load(folder, "--rate", "50/s", "--duration", "1m", "--report", "load.html", "--history", "load.json")
        assert (done.code, done.json["state"]) == (1, "incomplete"), done.err
        assert "credentials" in done.err
        text = (tmp_path / "load.html").read_text("utf-8")
        assert "Stopped:" in text
        assert f"{done.json['calls']['sent']} of {done.json['calls']['planned']} calls were sent" in text
        assert json.loads((tmp_path / "load.json").read_text("utf-8"))["summary"]["report"] == done.json["report"]


@contextmanager
def redirecting_server(to: str) -> Iterator[str]:
    """Send every request on to another address, in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(307)
            self.send_header("location", to + self.path)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)


@contextmanager
def stalling_server(stall_s: float, at: int) -> Iterator[str]:
    """Serve one call at a time in a thread of its own; one of them takes long, and the others wait behind it."""
    body = b'{"success":true,"campaign_id":"1"}'
    reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    door, served = asyncio.Lock(), 0
    up: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                async with door:
                    served += 1
                    if served == at:
                        await asyncio.sleep(stall_s)
                writer.write(reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        over = asyncio.Event()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            up.set_result((url, asyncio.get_running_loop(), over))
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    url, loop, over = up.result(timeout=10)
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)


def test_a_vendor_that_stalls_is_seen(tmp_path: Path) -> None:
    with Vendor() as vendor, stalling_server(1.0, at=100) as url:
        folder = JobFolder(tmp_path, vendor)
        done = load(folder, "--rate", "100/s", "--duration", "3s", "--base-url", url, "--fail-if", "p90 < 500ms")
    data = done.json
    adds_up(data)
    assert data["calls"]["sent"] == 300
    # A hundred calls fell due while the vendor stood still: a third of all, half of them by more than 500 ms.
    assert done.code == 0, done.err
    assert data["latency_ms"]["p99"] > 900
    assert data["latency_ms"]["p90"] > 500


QUICK = [
    ("100/1s", "300/s", "60/s"),  # 600/6s, scaled down
    ("30/1s", "100/s", "30/s"),  # 30/min, scaled down
]


def within_two_percent(text: str, limit: str) -> None:
    found, wanted = Limit.parse(text), Limit.parse(limit)
    assert len(found.windows) == len(wanted.windows), text
    for one, other in zip(found.windows, wanted.windows, strict=True):
        assert one.calls == pytest.approx(other.calls, rel=0.02), text
        assert one.period_s == pytest.approx(other.period_s, rel=0.02), text


async def find_limits(folders: list[JobFolder]) -> list[bulksend.LoadReport]:
    searches = [
        bulksend.load_test_async(folder.file, rate=rate, ramp_from=begin, duration="1s", find_limit=True)
        for folder, (_, rate, begin) in zip(folders, QUICK, strict=True)
    ]
    return await asyncio.gather(*searches)


def test_limits_are_found_within_two_percent(tmp_path: Path) -> None:
    """Both at the same time and in this process, since a search mostly waits.

    The long form has the windows as they are, and two at once; tests/loadtest has them all, in simulated time.
    """
    with ExitStack() as stack:
        folders = []
        for number, (limit, _, _) in enumerate(QUICK):
            path = tmp_path / str(number)
            path.mkdir()
            vendor = stack.enter_context(Vendor("--limit", f"insider.launch={limit}"))
            (path / "token").write_text(vendor.token, "utf-8")
            folder = JobFolder(path, vendor, rows=50)
            folder.edit("env:INSIDER_TOKEN", "file:token")
            folders.append(folder)
        for (limit, _, _), folder, report in zip(QUICK, folders, asyncio.run(find_limits(folders)), strict=True):
            assert report.found is not None
            assert (report.state, report.found.ended) == ("done", None)
            within_two_percent(report.limits["insider.launch"], limit)
            adds_up(report.to_dict())
            stats = folder.vendor.stats()
            assert report.found.throttled == stats["throttled"] < 100
            assert stats["max_in_window"][0] == Limit.parse(limit).windows[0].calls
            # A job file takes the table as it is.
            with folder.file.open("a", encoding="utf-8") as file:
                file.write(report.limits_table)
            assert bulksend.plan(folder.file).endpoints["insider.launch"].limit == report.limits["insider.launch"]


FIND = [
    ("600/6s", "400/s", "50/s"),
    ("30/1s", "100/s", "10/s"),
    ("16/2s, 6/0.5s", "60/s", "10/s"),
]


@pytest.mark.long
@pytest.mark.timeout(240)
def test_limits_are_found_by_the_command(tmp_path: Path) -> None:
    """The windows as vendors have them, each search a process of its own."""
    with ExitStack() as stack:
        searches = []
        for number, (limit, rate, begin) in enumerate(FIND):
            vendor = stack.enter_context(Vendor("--limit", f"insider.launch={limit}"))
            path = tmp_path / str(number)
            path.mkdir()
            folder = JobFolder(path, vendor, rows=50)
            arguments = ("--rate", rate, "--ramp-from", begin, "--duration", "5s", "--find-limit", "-o", "limits.toml")
            searches.append((limit, vendor, folder, folder.start("loadtest", "job.toml", "--json", *arguments)))
        for limit, vendor, folder, process in searches:
            out, err = process.communicate(timeout=200)
            done = Done(process.returncode, out, err)
            assert done.code == 0, done.err
            adds_up(done.json)
            table = (folder.path / "limits.toml").read_text("utf-8")
            text = tomllib.loads(table)["limits"]["insider.launch"]
            assert done.json["limits"] == {"insider.launch": text}
            within_two_percent(text, limit)
            stats = vendor.stats()
            assert done.json["search"]["throttled"] == stats["throttled"] < 100
            assert stats["max_in_window"][0] == Limit.parse(limit).windows[0].calls


def test_a_limit_that_is_not_met_is_said_not_to_be(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor)
        asked = ("--rate", "40/s", "--ramp-from", "40/s", "--duration", "0.5s", "--find-limit")
        done = folder.command("loadtest", "job.toml", *asked)
    assert done.code == 0
    assert tomllib.loads(done.out) == {"limits": {}}
    assert "none was met up to 2,400/min" in done.err
