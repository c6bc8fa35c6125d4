"""`bulksend init`, `schema` and `demo`: the first steps."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bulksend.cli.printing import exit_codes, say, say_report
from bulksend.cli.scheduler import Scheduler, next_words, render
from bulksend.errors import JobError, RunError
from bulksend.fields import did_you_mean

if TYPE_CHECKING:
    from bulksend.api.report import Report

__all__ = ["demo", "init", "schema"]

STARTERS = {
    "insider": ("insider.toml", "insider-stores.csv"),
    "usercom": ("usercom.toml", "usercom-segments.csv"),
    "stream": ("stream.toml", "stream-teams.csv"),
    "batch": ("batch.toml", "batch-cities.csv"),
}
DEMO_JOB = """
job = "demo"
[account]
provider = "insider"
partner_id = "{partner_id}"
token = "file:token"
base_url = "{url}"
[audience]
from = "stores.csv"
key = "store_id"
[create]
title = "Spring sale"
language = "en_GB"
[launch]
title = "Spring Sale is live in ${{city}}"
description = "Up to 50% off selected items"
image = "https://example.com/icon-192.png"
link = "https://example.com/sale?store=${{store_id}}"
ttl = "1 day"
target = {{ attribute = "c_store_id", values = ["${{store_id}}"] }}
"""
CITIES = ("Oslo", "Bergen", "Trondheim", "Stavanger", "Tromsø", "Bodø", "Ålesund", "Kristiansand")


def init(
    provider: Annotated[
        str,
        typer.Argument(
            metavar="PROVIDER", help=f"One of: {', '.join(STARTERS)}.", autocompletion=lambda: list(STARTERS)
        ),
    ],
    *,
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where to write it.")] = Path(),
    scheduler: Annotated[
        Scheduler | None,
        typer.Option(
            "--scheduler", help="Write what runs the job every day, too: a DAG, a CronJob or a line of a crontab."
        ),
    ] = None,
) -> None:
    """Write a commented starter job and a small audience, which `plan` accepts as they stand.

    Example: bulksend init insider --scheduler cron
    """
    with exit_codes("init", as_json=False):
        if provider not in STARTERS:
            raise JobError(f"there is no starter for {provider!r}{did_you_mean(provider, STARTERS)}")
        if not directory.is_dir():
            raise JobError(f"there is no directory {directory}")
        room = resources.files("bulksend.cli").joinpath("starters")
        job_file, audience_file = STARTERS[provider]
        texts = {name: room.joinpath(name).read_text("utf-8") for name in STARTERS[provider]}
        if scheduler is not None:
            texts |= render(scheduler, provider, job_file=job_file, audience_file=audience_file, directory=directory)
        _write_new({directory / name: text for name, text in texts.items()})
        *most, last = (str(directory / name) for name in texts)
        say(f"wrote {', '.join(most)} and {last}; now: bulksend plan {directory / job_file} --var day=today")
        if scheduler is not None:
            for line in next_words(scheduler, provider, job_file=job_file, directory=directory):
                say(line)


def _write_new(texts: Mapping[Path, str]) -> None:
    """Write all files, or none where one is there already; what is to hold a secret is for its owner alone."""
    for path in texts:
        if path.exists() or path.is_symlink():
            raise JobError(f"{path} is there already; nothing was written")
    try:
        for path, text in texts.items():
            path.touch(0o600 if path.suffix == ".env" else 0o666, exist_ok=False)
            path.write_text(text, "utf-8")
    except OSError as wrong:
        raise RunError(f"{wrong.filename} cannot be written: {wrong.strerror}") from None


def schema() -> None:
    """Print the JSON Schema of the job file, for editors that complete and check as you type.

    Example: bulksend schema > bulksend.schema.json
    """
    from bulksend import job_schema

    typer.echo(json.dumps(job_schema(), indent=2))


def demo(
    *,
    sends: Annotated[int, typer.Option("--sends", min=1, max=100_000, help="How many launches.")] = 500,
) -> None:
    """See it work: an emulator of Insider, a job, and what the emulator's own log says. Nothing to configure.

    Example: bulksend demo
    """
    import asyncio

    from bulksend.api.blocking import loop_factory

    with exit_codes("demo", as_json=False), asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_demo(sends))


async def _demo(sends: int) -> None:
    import os
    import sys

    from bulksend.api.emulation import emulator
    from bulksend.api.run import run_async
    from bulksend.observe.live import Live
    from bulksend.providers import PROVIDERS

    insider = PROVIDERS["insider"]
    flags = ("--latency", "20ms±10ms", "--fault", "429-retry-after=1:0.5%", "--seed", "3")
    with tempfile.TemporaryDirectory(prefix="bulksend-demo-") as scratch:
        async with emulator(insider, accounts=1, limits={}, flags=flags) as accounts:
            account = accounts[0]
            folder = Path(scratch)
            (folder / "job.toml").write_text(DEMO_JOB.format(**account.ids, url=account.base_url), "utf-8")
            (folder / "token").write_text(account.secrets["token"].reveal(), "utf-8")
            with (folder / "stores.csv").open("w", newline="", encoding="utf-8") as file:
                rows = ((f"{number:05}", CITIES[number % len(CITIES)]) for number in range(1, sends + 1))
                csv.writer(file).writerows([("store_id", "city"), *rows])
            say(f"An emulator of {insider.title} listens on {account.base_url}: 20 ms away, 6000 launches a minute,")
            say(f"strictly counted, and now and then it says 429. A job launches to {sends:,} stores:")
            bar = Live(sys.stderr) if sys.stderr.isatty() else None
            ledger = f"sqlite://{folder / 'bulksend.db'}"
            observers = [bar] if bar is not None else []
            report = await run_async(folder / "job.toml", ledger=ledger, observers=observers, handle_signals=True)
            say_report(report, as_json=False)
            again = await run_async(folder / "job.toml", ledger=ledger)
            say(f"The same job once more: {again.calls} calls, since nothing is left to send.")
            _say_verdict(await _effects(account.base_url), report)
    say(f"Next: bulksend init insider, then bulksend plan insider.toml --var day=today{os.linesep}".rstrip())


def _say_verdict(effects: list[dict[str, object]], report: Report) -> None:
    """Judge by the emulator's own log, not by ours."""
    keys = []
    for effect in effects:
        body = effect["body"]
        if effect["endpoint"] == "insider.launch" and isinstance(body, dict):
            keys.append(body["target"]["values"][0])
    doubled = len(keys) - len(set(keys))
    lost = report.accepted - len(set(keys))
    say(f"The emulator's own log: {len(keys):,} launches took effect, {doubled} twice, {lost} lost.")
    if doubled or lost:
        raise RunError("the emulator's log and the report differ: please file an issue")


async def _effects(url: str) -> list[dict[str, object]]:
    import asyncio
    from urllib.request import urlopen

    def fetch() -> list[dict[str, object]]:
        with urlopen(f"{url}/_emulator/effects", timeout=10) as reply:  # noqa: S310  # our own loopback child
            effects: list[dict[str, object]] = json.load(reply)["effects"]
            return effects

    return await asyncio.to_thread(fetch)
