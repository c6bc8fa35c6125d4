"""`bulksend loadtest`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bulksend.cli.options import BaseUrl, JobFile, Json, Limit, Vars, variables
from bulksend.cli.printing import colour, exit_codes, print_json, say
from bulksend.errors import BulksendError, JobError, Problem, RunError

if TYPE_CHECKING:
    from bulksend.api.load_report import LoadReport

__all__ = ["loadtest"]


def loadtest(
    job: JobFile,
    *,
    rate: Annotated[
        str,
        typer.Option(
            "--rate", metavar="RATE", help='Calls, such as "6000/min"; with --find-limit, the most that is tried.'
        ),
    ],
    duration: Annotated[
        str,
        typer.Option(
            "--duration", metavar="TIME", help="How long; with --find-limit, how long longer windows are looked for."
        ),
    ] = "1m",
    ramp_from: Annotated[
        str | None,
        typer.Option("--ramp-from", metavar="RATE", help="Begin here and move evenly to --rate.", show_default=False),
    ] = None,
    find_limit: Annotated[
        bool, typer.Option("--find-limit", help="Measure the limit; prints a [limits] table.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write the [limits] table to FILE.", show_default=False),
    ] = None,
    max_429: Annotated[
        int, typer.Option("--max-429", metavar="N", min=1, help="With --find-limit, 429s at most.")
    ] = 100,
    fail_if: Annotated[
        list[str],
        typer.Option(
            "--fail-if", metavar="EXPR", help='Exit 99 where it is true: "p99 > 500ms", "429 > 0", "late>1%".'
        ),
    ] = [],
    max_in_flight: Annotated[
        int,
        typer.Option("--max-in-flight", metavar="N", min=1, help="With so many under way, a call is dropped."),
    ] = 1000,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint", metavar="NAME", help="Which call of a send; default: the slowest.", show_default=False
        ),
    ] = None,
    confirm_host: Annotated[
        list[str],
        typer.Option("--confirm-host", metavar="HOST", help="The host of an account with sandbox = true: call it."),
    ] = [],
    emulate: Annotated[bool, typer.Option("--emulate", help="Call an emulator of the vendor.")] = False,
    var: Vars = [],
    base_url: BaseUrl = None,
    limit: Limit = None,
    history: Annotated[
        Path | None,
        typer.Option("--history", metavar="FILE", help="Write the test over time to FILE (JSON).", show_default=False),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="Write one HTML page about the test to FILE, also where it fails.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a job's calls at a rate, each when it is due, whatever the replies do.

    Latency counts from when a call was due. Nothing is retried, and the job's ledger is not touched. Only this machine
    is called, or an account that is marked with sandbox = true and named with --confirm-host. Exit code 99: a
    threshold failed; 3: no limit was settled. --find-limit takes the vendor to count in sliding windows; of one that
    turns out to count otherwise (in fixed windows, say), no limit is told. --report needs bulksend[report].

    Example: bulksend loadtest spring-sale.toml --rate 6000/min --duration 2m --emulate --fail-if "p99 > 500ms"
    """
    import asyncio

    from bulksend.api.blocking import load_test

    with exit_codes(job.name, as_json=False), _told_as_json(job.name, as_json=as_json):
        _check_files(out, history, report)
        try:
            done = load_test(
                job,
                rate=rate,
                duration=duration,
                ramp_from=ramp_from,
                find_limit=find_limit,
                fail_if=fail_if,
                max_in_flight=max_in_flight,
                max_429=max_429,
                endpoint=endpoint,
                confirm_hosts=confirm_host,
                vars=variables(var),
                base_url=base_url,
                emulate=emulate,
                limit=limit,
                report=report,
                handle_signals=True,
            )
        except BulksendError as wrong:
            _write_what_there_is(wrong.report, out, history)
            raise
        except (asyncio.CancelledError, KeyboardInterrupt):
            say("error: stopped at once")
            sys.stdout.flush()
            os._exit(75)
        _write(done, out, history)
        for line in _lines(done):
            say(line)
        if as_json:
            print_json(done.to_dict())
        elif find_limit and out is None:
            typer.echo(done.limits_table, nl=False)
        raise typer.Exit(done.exit_code)


def _check_files(*files: Path | None) -> None:
    named = [one.absolute() for one in files if one is not None]
    if len(set(named)) < len(named):
        raise JobError(Problem("--out, --history and --report must name different files"))


def _write_what_there_is(report: object, out: Path | None, history: Path | None) -> None:
    """Write the files of a test that ended in an error; that one cannot be written either is not what is told."""
    from bulksend.api.load_report import LoadReport

    if isinstance(report, LoadReport):
        with suppress(RunError):
            _write(report, out, history)


@contextmanager
def _told_as_json(job: str, *, as_json: bool) -> Iterator[None]:
    """Say in JSON too what went wrong, with the numbers where there are some."""
    try:
        yield
    except BulksendError as wrong:
        from bulksend.api.load_report import LoadReport

        lines = wrong.lines() if isinstance(wrong, JobError) else [str(wrong)]
        report, wrong.report = wrong.report, None
        numbers: dict[str, object] = {"job": wrong.job or job}
        numbers["state"] = "refused" if wrong.exit_code in (2, 4) else "incomplete"
        if isinstance(report, LoadReport):
            numbers = {**report.to_dict(), "state": "incomplete"}
            for line in _lines(report):
                say(line)
        if as_json:
            print_json({**numbers, "error": lines[0], "problems": lines})
        raise


def _write(report: LoadReport, out: Path | None, history: Path | None) -> None:
    import msgspec

    try:
        if out is not None and report.found is not None:
            out.write_text(report.limits_table, "utf-8")
        if history is not None and report.record is not None:
            history.write_bytes(msgspec.json.encode(report.record))
    except OSError as wrong:
        failed = RunError(f"{wrong.filename} cannot be written: {wrong.strerror}")
        failed.report = report
        raise failed from None


def _lines(report: LoadReport) -> Iterator[str]:
    calls, outcomes = report.calls, report.outcomes
    yield f'load test of job "{report.job}", {report.endpoint}: {report.state}'
    yield f"  planned     {calls['planned']:,} at {report.profile['rate_per_min']:,.6g}/min"
    left = f"{calls['sent']:,}, {calls['late']:,} of them late (by more than 10 ms); {calls['dropped']:,} dropped"
    yield f"  sent        {left}, {calls['unsent']:,} without a connection; {report.rate_per_min:,.0f}/min"
    told = ", ".join(f"{number:,} {'told 429' if name == 'throttled' else name}" for name, number in outcomes.items())
    yield f"  outcomes    {told}"
    for name, title in (("latency_ms", "since due"), ("wire_ms", "since left")):
        figures = getattr(report, name)
        if figures["p50"] is not None:
            yield f"  {title:<12}" + ", ".join(f"{one} {value:g} ms" for one, value in figures.items())
    for reason, number in list(report.reasons.items())[:5]:
        yield f"  {number:>10,} {reason}"
    if report.found is not None:
        yield from _search_lines(report)
    if report.page is not None:
        yield f"  report      {report.page}"
    for verdict in report.thresholds:
        word = colour("failed", "red", stream_is_tty=sys.stderr.isatty()) if verdict.failed else "passed"
        yield f"  {word}      {verdict.text}: {verdict.said}"


def _search_lines(report: LoadReport) -> Iterator[str]:
    found = report.found
    assert found is not None
    if found.limit is None and found.ended is None:
        yield f"  limit       none was met up to {report.profile['rate_per_min']:,.6g}/min"
    elif found.limit is not None:
        widest = max(one.tolerance for one in found.windows)
        yield f"  limit       {found.limit} (periods within {widest:.1%}), with {found.throttled:,} times told 429"
    if found.held_per_s is not None:
        yield f"  held        {found.held_per_s * 60:,.1f}/min for {found.held_s:.0f} s without a 429"
    if found.ended is not None:
        yield f"  unsettled   {found.ended}"
