"""`bulksend status`, `resolve` and `stop`: a job as its ledger has it."""

from __future__ import annotations

import math
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated

import typer

from bulksend.cli.options import JobFile, Json, LedgerUrl, Vars, variables
from bulksend.cli.printing import at_local, exit_codes, print_json, say, say_report
from bulksend.errors import JobError

__all__ = ["resolve", "status", "stop"]

LINE_EVERY_S = 5.0
"""Where there is no terminal to draw on."""


def status(
    job: JobFile,
    *,
    var: Vars = [],
    ledger: LedgerUrl = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on showing it until no process runs the job any more.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how far a job is, running or not; always exits with 0 when there is one.

    With --watch a job that runs elsewhere on the same ledger is shown as its own terminal would show it; with --json
    too, as one object a second. Ctrl-C ends the watching and not the job.

    Example: bulksend status spring-sale.toml --var day=2026-04-01 --watch
    """
    from bulksend.api.blocking import status as status_of

    with exit_codes(job.name, as_json=as_json):
        if watch:
            _watch(job, variables(var), ledger, as_json=as_json)
            if as_json:
                return
        report = status_of(job, vars=variables(var), ledger=ledger)
        say_report(report, as_json=as_json, to_stdout=True)
        if report.started_at is None:
            say(f'job "{report.job}" was never run with this ledger')
        if not as_json and report.started_at is not None:
            typer.echo(f"  started     {at_local(report.started_at)}")
        if not as_json and report.finished_at is not None:
            typer.echo(f"  finished    {at_local(report.finished_at)}")


def _watch(job: Path, given: dict[str, str], ledger: str | None, *, as_json: bool) -> None:
    """Show the job until it has ended, or Ctrl-C."""
    import asyncio

    from bulksend.api.watching import watch_async

    async def show() -> None:
        from rich.console import Console
        from rich.live import Live

        from bulksend.observe.view import line_of, panel_of

        is_terminal = sys.stderr.isatty() and not as_json
        with (
            Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            if is_terminal
            else nullcontext() as live
        ):
            told_s = -math.inf
            async for report, view in watch_async(job, vars=given, ledger=ledger):
                if as_json:
                    print_json(report.to_dict())
                elif live is not None:
                    live.update(panel_of(view), refresh=True)
                elif time.monotonic() - told_s >= LINE_EVERY_S:
                    told_s = time.monotonic()
                    say(line_of(view))

    with suppress(KeyboardInterrupt):
        asyncio.run(show())


def stop(job: JobFile, *, var: Vars = [], ledger: LedgerUrl = None, as_json: Json = False) -> None:
    """Ask the process that runs the job to stop: no new call within a second, those under way finish.

    Example: bulksend stop spring-sale.toml --var day=2026-04-01
    """
    from bulksend.api.blocking import stop as stop_job

    with exit_codes(job.name, as_json=as_json):
        stopping = stop_job(job, vars=variables(var), ledger=ledger)
        if as_json:
            print_json({"job": _name(job, var), "stopping": stopping})
        say("the run was asked to stop" if stopping else "nobody runs this job: there is nothing to stop")


def resolve(
    job: JobFile,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="The sends to settle.", show_default=False)
    ] = None,
    *,
    accept: Annotated[bool, typer.Option("--accept", help="They arrived.")] = False,
    resend: Annotated[bool, typer.Option("--resend", help="They did not: the next run sends them again.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every unknown send of the job, in place of keys.")] = False,
    var: Vars = [],
    ledger: LedgerUrl = None,
    as_json: Json = False,
) -> None:
    """Settle sends whose fate is unknown, on your word; lists them when neither --accept nor --resend is given.

    What a vendor can be asked for, the next run looks up by itself; nobody can be asked whether a launch of Insider
    arrived, so look in its panel, then say so here.

    Example: bulksend resolve spring-sale.toml --accept 0007 0012
    """
    from bulksend.api.blocking import resolve as resolve_job

    with exit_codes(job.name, as_json=as_json):
        named = keys or []
        if accept and resend:
            raise JobError("--accept and --resend exclude each other: settle one group, then the other")
        if (named or everything) and not (accept or resend):
            raise JobError("say what became of them: --accept or --resend")
        if (accept or resend) and bool(named) == everything:
            raise JobError("name the keys to settle, or give --all in their place")
        accepted, pending, left = resolve_job(
            job,
            accept=named if accept else (),
            resend=named if resend else (),
            accept_all=accept and everything,
            resend_all=resend and everything,
            vars=variables(var),
            ledger=ledger,
        )
        if as_json:
            unknown = [{"key": one.key, "row": one.row, "reason": one.reason} for one in left]
            print_json({"job": _name(job, var), "accepted": accepted, "pending": pending, "unknown": unknown})
        elif accept or resend:
            say(f"{accepted:,} accepted, {pending:,} pending again: the next run sends them")
        elif not left:
            say("no send of this job is unknown")
        if not as_json:
            for one in left:
                typer.echo(f"unknown  {one.key}  row {one.row}  {one.reason}")


def _name(job: Path, var: list[str]) -> str:
    from bulksend.job.file import load_job

    return load_job(job, variables=variables(var), rows_from_code=True).name
