"""`bulksend plan`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bulksend.cli.options import BaseUrl, DiffOut, JobFile, Json, LedgerUrl, Limit, Vars, variables
from bulksend.cli.printing import colour, endpoint_line, exit_codes, print_json, say, segment_lines
from bulksend.duration import format_duration

if TYPE_CHECKING:
    from bulksend.api.plan import Plan
    from bulksend.observe.live import Live

__all__ = ["plan"]


def plan(
    job: JobFile,
    *,
    var: Vars = [],
    ledger: LedgerUrl = None,
    base_url: BaseUrl = None,
    emulate: Annotated[
        bool, typer.Option("--emulate", help="Plan a run with --emulate: no secrets, a fresh ledger.")
    ] = False,
    limit: Limit = None,
    diff_out: DiffOut = None,
    as_json: Json = False,
) -> None:
    """Show what a run would do, without a change.

    Calls per endpoint, the limit that decides how long it takes, the first payloads, and every input error. No call is
    made, but where a [segment] is to hold a [desired] list: it is read.

    Example: bulksend plan spring-sale.toml --var day=2026-04-01
    """
    from bulksend.api.blocking import plan as plan_job

    with exit_codes(job.name, as_json=as_json):
        bar = _bar() if sys.stderr.isatty() else None
        try:
            planned = plan_job(
                job,
                vars=variables(var),
                ledger=ledger,
                base_url=base_url,
                limit=limit,
                emulate=emulate,
                diff_out=diff_out,
                observers=[] if bar is None else [bar],
            )
        finally:
            if bar is not None:
                bar.close()
        if as_json:
            print_json(planned.to_dict())
        else:
            _print(planned)
        for warning in planned.warnings:
            say(f"{colour('warning:', 'yellow', stream_is_tty=sys.stderr.isatty())} {warning}")
        for problem in planned.problems:
            say(f"{colour('error:', 'red', stream_is_tty=sys.stderr.isatty())} {problem}")
        if planned.more_problems:
            say(f"… and {planned.more_problems:,} more problems of the audience")
        raise typer.Exit(2 if planned.problems else 0)


def _bar() -> Live:
    from bulksend.observe.live import Live

    return Live(sys.stderr)


def _print(planned: Plan) -> None:
    pending = max(0, planned.sends - planned.settled)
    rows = f" ({planned.rows:,} rows)" if planned.rows != planned.sends and planned.rows else ""
    typer.echo(f'job "{planned.job}" for {planned.provider}')
    settled = f", {planned.settled:,} settled by earlier runs" if planned.settled else ""
    if planned.segment is not None:
        for line in segment_lines(planned.segment, is_tty=sys.stdout.isatty()):
            typer.echo(line)
    if planned.sends or planned.segment is None:
        typer.echo(f"  sends       {planned.sends:,}{rows}: {pending:,} to make{settled}")
    for name, one in planned.endpoints.items():
        mark = "  <- bottleneck" if name == planned.bottleneck else ""
        typer.echo(endpoint_line(name, one, has_eta=planned.eta_s is not None) + mark)
    if not any(one.calls for one in planned.endpoints.values()):
        typer.echo("  nothing is left to send")
    elif planned.segment is not None and planned.segment.is_right and not planned.sends:
        typer.echo("  the segment is right: nothing is left to change")
    elif planned.eta_s is not None:
        typer.echo(f"  ETA         {format_duration(planned.eta_s)}")
    for sample in planned.samples:
        of = f" for key {sample.key} (row {sample.row})" if sample.key else ""
        typer.echo(f"  {sample.endpoint}{of}:")
        typer.echo("    " + json.dumps(sample.body, ensure_ascii=False, indent=2).replace("\n", "\n    "))
