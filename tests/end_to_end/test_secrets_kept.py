"""A canary in the place of each secret, every command and every failure: it is found nowhere but at the vendor."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

import bulksend
from bulksend.errors import BulksendError
from bulksend.model import Account, Secret
from bulksend.providers import PROVIDERS
from tests.end_to_end import jobs
from tests.end_to_end.echoing import STATUSES, assert_nowhere, echoing
from tests.end_to_end.vendor import BULKSEND, Done, Folder, Vendor, finish

CANARY = "cAnArY/7f+3kQ9=zz-0123456789-Zx"
IDS = {"partner_id": "100000001", "app": "shop", "api_key": "key-of-the-app"}
TEXTS = {
    "insider": jobs.INSIDER[jobs.INSIDER.index("[launch]") :].replace("[launch]\n", "[launch]\ncampaign_id = 25696\n"),
    "usercom": jobs.USERCOM,
    "batch": jobs.BATCH,
    "stream": jobs.STREAM,
}
SOURCES = {"insider": "env:SECRET", "usercom": "file:../vault/token", "batch": "cmd:cat", "stream": "cmd:cat"}
"""The secret stands outside of the job's folder, all of which is searched."""


SAID = {"stream": (400, 424, 404, 422), "usercom": (200, 400, 424, 404)}
"""Where other answers are tried, or looked up, again and again, since that does no harm."""


def at_the_vendor(provider: str) -> list[str]:
    """Return the secret, and what is made of it for the wire: Stream's token, and its signature."""
    made = PROVIDERS[provider]
    account = Account("default", provider, "", IDS, {jobs.SECRETS[provider]: Secret(CANARY)})
    headers = made.headers(account)
    word = next(headers[name] for name in ("Authorization", "X-Authorization") if name in headers).split()[-1]
    return [CANARY, word, word.rpartition(".")[2]]


def job_for(path: Path, provider: str, url: str, *, rows: int = 10, source: str | None = None) -> Folder:
    vault = path / "vault"
    vault.mkdir(exist_ok=True)
    (vault / "token").write_text(f"{CANARY}\n")
    (path / "job").mkdir(exist_ok=True)
    source = source or SOURCES[provider]
    if source == "cmd:cat":
        source = f"cmd:cat {shlex.quote(str(vault / 'token'))}"
    account = jobs.ACCOUNTS[provider].format(**IDS).replace("env:SECRET", source)
    text = jobs.HEAD.format(provider=provider, url=url, account=account) + jobs.AUDIENCE + TEXTS[provider]
    endpoints = [one.name for one in PROVIDERS[provider].endpoints.values() if one.name != "insider.statistics"]
    folder = Folder(path / "job", text + jobs.limits("100/s", *endpoints), SECRET=CANARY)
    folder.csv("rows.csv", "key,segment", ((f"k{one:04}", one) for one in range(1, rows + 1)))
    return folder


def said(done: Done) -> list[str]:
    return [done.out, done.err]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_vendor_that_says_it_back_and_every_command_after_that(provider: str, tmp_path: Path) -> None:
    statuses = SAID.get(provider, STATUSES)
    with echoing(*statuses) as vendor:
        folder = job_for(tmp_path, provider, vendor.url, rows=len(statuses))
        planned = [folder.command("plan", "job.toml"), folder.command("plan", "job.toml", "--json")]
        assert not vendor.heard
        words = ["--log-file", "events.jsonl", "--metrics-file", "sale.prom", "--log", "json"]
        ran = folder.run(*words)
        assert vendor.heard
        assert all(at_the_vendor(provider)[1] in one for one in vendor.heard), "the canary was not sent"
        told = [
            folder.command(*command, "job.toml", *more)
            for command, more in (
                (["run"], ["--log", "console"]),
                (["status"], []),
                (["status"], ["--json"]),
                (["report"], []),
                (["stop"], []),
                (["status"], ["--unknown"]),
                (["status"], ["--rejected", "--json"]),
                (["status"], ["--rejected", "--out", "rejected.csv"]),
                (["status"], ["--unknown", "--out", "unknown.csv"]),
                (["resolve"], ["--json"]),
                (["resolve"], ["--accept", "--all"]),
                (["status"], ["--audit"]),
                (["status"], ["--watch"]),
            )
        ]
        if provider == "batch":
            load = ["loadtest", "job.toml", "--rate", "20/s", "--duration", "500ms", "--log", "json"]
            told.append(folder.command(*load))
    assert ran.code in (1, 3), ran.err
    assert (folder.path / "job-report.html").exists()
    assert (folder.path / "sale.prom").exists()
    assert (folder.path / "rejected.csv").exists()
    outputs = [text for done in (*planned, ran, *told) for text in said(done)]
    assert_nowhere(at_the_vendor(provider), outputs, folder.path)


def test_refused_credentials(tmp_path: Path) -> None:
    outputs = []
    with echoing(401) as vendor:
        for provider in PROVIDERS:
            (tmp_path / provider).mkdir()
            folder = job_for(tmp_path / provider, provider, vendor.url, rows=2)
            done = folder.run("--log", "json")
            assert done.code == 1, done.err
            outputs += said(done)
            assert_nowhere(at_the_vendor(provider), outputs, folder.path)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--ledger", "sqlite:///nowhere/x.db"], 1),
        (["--ledger", "sqlite:rows.csv"], 1),
        (["--log-file", "/nowhere/events.jsonl"], 2),
        (["--metrics-file", "/nowhere/sale.prom"], 2),
        (["--limit", "many"], 2),
        (["--limit", "0"], 2),
        (["--base-url", f"https://me:{CANARY}@api.example.com"], 2),
    ],
)
def test_runs_that_end_before_a_call(arguments: list[str], code: int, tmp_path: Path) -> None:
    with echoing() as vendor:
        folder = job_for(tmp_path, "insider", vendor.url)
        done = folder.run(*arguments)
        assert done.code == code, done.err
        assert not vendor.heard
    assert_nowhere([CANARY], said(done), folder.path)


@pytest.mark.parametrize("full", ["--log-file", "--ledger"])
def test_a_disk_that_is_full(full: str, tmp_path: Path) -> None:
    with echoing() as vendor:
        folder = job_for(tmp_path, "insider", vendor.url, rows=2)
        value = "/dev/full" if full == "--log-file" else "sqlite:////dev/full"
        done = folder.run(full, value)
        assert done.code in (1, 3), done.err
    assert_nowhere([CANARY], said(done), folder.path)


LINES = {
    "literal": f'token = "{CANARY}"',
    "not closed": f'token = "{CANARY}',
    "bare": f"token = {CANARY}",
    "twice": f'token = "env:SECRET"\ntoken = "{CANARY}"',
    "misspelt": f'tokn = "{CANARY}"',
    "a list": f'token = ["{CANARY}"]',
    "a table": f'token = {{ value = "{CANARY}" }}',
    "in a URL": f'token = "env:SECRET"\nbase_url = "https://me:{CANARY}@api.example.com"',
    "user alone": f'token = "env:SECRET"\nbase_url = "https://:{CANARY}@api.example.com"',
    "by a variable": 'token = "${var.t}"',
    "command fails": f"token = \"cmd:sh -c 'echo {CANARY}; echo {CANARY} >&2; exit 3'\"",
    "command with it": f'token = "cmd:no-such-program --token {CANARY}"',
    "command not closed": f'token = "cmd:echo \'{CANARY}"',
    "empty file": 'token = "file:rows.csv"',
}


@pytest.mark.parametrize("line", LINES)
def test_a_job_file_with_a_fault_in_the_secrets_line(line: str, tmp_path: Path) -> None:
    folder = job_for(tmp_path, "insider", "https://api.example.com")
    text = folder.file.read_text().replace('base_url = "https://api.example.com"\n', "")
    folder.file.write_text(text.replace('token = "env:SECRET"', LINES[line]))
    more = ["--var", f"t={CANARY}"] if line == "by a variable" else []
    dones = [
        folder.run(*more, "--yes"),
        folder.command("plan", "job.toml", *more),
        folder.command("status", "job.toml"),
    ]
    assert dones[0].code == 2, dones[0].err
    outputs = [text for done in dones[:2] for text in said(done)]
    assert "token" in outputs[1] or "line" in outputs[1] or "base_url" in outputs[1] or "job.toml" in outputs[1]
    # `status` needs no account, and tells of the file what it can.
    assert_nowhere([CANARY], [*outputs, *said(dones[2])], folder.path, but=["job.toml"])


def test_the_report_shows_a_command_no_more_than_a_secret(tmp_path: Path) -> None:
    with echoing(200) as vendor:
        source = f"cmd:sh -c 'echo \\\"$1\\\"' sh {CANARY}"
        folder = job_for(tmp_path, "insider", vendor.url, rows=1, source=source)
        outputs = said(folder.run())
        assert CANARY in vendor.heard[0]
    outputs += said(folder.command("report", "job.toml"))
    assert_nowhere([CANARY], outputs, folder.path, but=["job.toml"])


def test_a_bug_and_the_traceback_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(type(PROVIDERS["insider"]), "read", broken)
    out, err = io.StringIO(), io.StringIO()
    with echoing(200) as vendor:
        folder = job_for(tmp_path, "insider", vendor.url)
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(RuntimeError, match="a bug") as caught,
        ):
            folder.run("--log", "json")
    told = str(caught.getrepr(style="native"))
    assert "a bug" in told
    assert_nowhere([CANARY], [out.getvalue(), err.getvalue(), told, repr(caught.value)], folder.path)


def test_values_of_the_run_do_not_show_it() -> None:
    account = Account("a", "insider", "https://x", {"partner_id": "1"}, {"token": Secret(CANARY)})
    provider = PROVIDERS["insider"]
    step = provider.request(provider.endpoints["insider.launch"], {}, account, ref=None)
    call = provider.call(step, account, provider.headers(account), repeats=0)
    for value in (account, account.secrets, call, step, Secret(CANARY), [Secret(CANARY)]):
        assert CANARY not in f"{value!r}{value!s}"


def test_metrics_and_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setenv("SECRET", CANARY)
    with echoing() as vendor, bulksend.Metrics(address="127.0.0.1:0") as metrics:
        folder = job_for(tmp_path, "insider", vendor.url)
        try:
            report = bulksend.run(folder.file, observers=[metrics, lambda event: seen.append(repr(event))])
            seen.append(repr(report))
        except BulksendError as wrong:
            seen.append(f"{wrong!r} {wrong.report!r}")
        assert metrics.url is not None
        seen.append(urlopen(metrics.url, timeout=10).read().decode())
    assert "bulksend_" in seen[-1]
    assert any("SERVICE" in one or "424" in one for one in seen)
    assert_nowhere([CANARY], seen, folder.path)


def test_single_calls_of_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET", CANARY)
    (tmp_path / "x").write_text("")

    async def main(url: str) -> str:
        account = {"provider": "batch", "api_key": "key", "rest_key": "env:SECRET", "base_url": url}
        async with bulksend.Client(account, limits={"batch.list": "100/s"}) as client:
            return "".join([repr(await client.call("batch.list", {})) for _ in range(3)])

    with echoing(200, 400, 404) as vendor:
        text = asyncio.run(main(vendor.url))
    assert "***" in text
    assert_nowhere([CANARY], [text], tmp_path)


def test_a_process_and_what_its_death_leaves(tmp_path: Path) -> None:
    with echoing(200, hangs=True) as vendor:
        folder = job_for(tmp_path, "stream", vendor.url)
        process = subprocess.Popen(
            [*BULKSEND, "run", "job.toml", "--json", "--log", "json", "--log-file", "events.jsonl"],
            cwd=folder.path,
            env={**folder.env, "PYTHONFAULTHANDLER": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            while not vendor.heard:
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            arguments = _arguments_of(process.pid)
            watching = folder.start("status", "job.toml", "--watch", "--json")
            assert watching.stdout is not None
            shown = watching.stdout.readline()
            wal = (folder.path / "bulksend.db-wal").read_bytes()
        finally:
            process.send_signal(signal.SIGABRT)
            out, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGABRT
    assert '"running"' in shown
    arguments += [shown, *said(finish(watching))]
    assert any("run" in one for one in arguments)
    assert wal
    (folder.path / "wal").write_bytes(wal)
    assert "Fatal Python error" in err
    assert_nowhere(at_the_vendor("stream"), [out, err, *arguments], folder.path)


def test_an_emulators_process_is_not_told(tmp_path: Path) -> None:
    """Nor is a command run for a secret that nobody is sent."""
    source = f"cmd:touch {shlex.quote(str(tmp_path / 'was-run'))}"
    folder = job_for(tmp_path, "insider", "https://api.example.com", rows=1, source=source)
    seen: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            seen.update(_arguments_of(os.getpid()))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        done = folder.command("run", "job.toml", "--json", "--emulate")
    finally:
        ended.set()
        looking.join()
    assert done.code == 0, done.err
    assert any("emulate" in one and "until-stdin-closes" in one for one in seen), seen
    assert not (tmp_path / "was-run").exists()
    assert_nowhere([CANARY], [*said(done), *seen], folder.path)


def _arguments_of(pid: int) -> list[str]:
    """Return the command line of a process and of all below it."""
    found = []
    with contextlib.suppress(OSError):
        found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _arguments_of(int(child))
    return found


def test_the_commands_that_know_no_job(tmp_path: Path) -> None:
    folder = Folder(tmp_path, SECRET=CANARY, INSIDER_TOKEN=CANARY, STREAM_SECRET=CANARY)
    dones = [
        folder.command(*command) for command in (["init", "insider", "--scheduler", "cron"], ["schema"], ["dashboard"])
    ]
    dones += [folder.command("init", "stream", "--scheduler", "kubernetes")]
    assert [done.code for done in dones] == [0, 0, 0, 0]
    assert_nowhere([CANARY], [text for done in dones for text in said(done)], tmp_path)


def test_the_emulator_says_only_its_own(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    os.environ["INSIDER_TOKEN"] = CANARY
    try:
        with Vendor() as vendor:
            text = repr(vendor.given) + repr(vendor._get("effects")) + repr(vendor._get("stats"))
    finally:
        del os.environ["INSIDER_TOKEN"]
    assert_nowhere([CANARY], [text], tmp_path)
