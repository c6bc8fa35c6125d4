"""`bulksend resolve`: what became of sends whose fate is unknown, by the vendor's word or a person's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bulksend.cli.options import BaseUrl, JobFile, Json, LedgerUrl, Vars, variables
from bulksend.cli.printing import exit_codes, plain, print_json, say
from bulksend.errors import JobError

__all__ = ["resolve"]


def resolve(
    job: JobFile,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="The sends to settle.", show_default=False)
    ] = None,
    *,
    accept: Annotated[bool, typer.Option("--accept", help="They arrived.")] = False,
    resend: Annotated[bool, typer.Option("--resend", help="They did not: the next run sends them again.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every unknown send of the job, in place of keys.")] = False,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="The sends whose keys stand in FILE, in place of keys: .csv, .jsonl or .parquet with the audience's "
            "key column, or a text with one key per line.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="NAME",
            help="Who says so, for the audit; default: you, by this machine.",
            show_default=False,
        ),
    ] = None,
    var: Vars = [],
    ledger: LedgerUrl = None,
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Settle sends whose fate is unknown; sends nothing. Without --accept or --resend, the vendor is asked.

    What the vendor has is accepted, what it never got is pending for the next run, and what nobody can tell is listed:
    no route of Insider tells whether a launch arrived, so look in its panel, then say so here. `status --audit` lists
    who settled what.

    Example: bulksend resolve spring-sale.toml

    Example: bulksend resolve spring-sale.toml --accept 0007 0012

    Example: bulksend resolve spring-sale.toml --resend --file not-arrived.csv
    """
    from bulksend.api.blocking import resolve as resolve_job
    from bulksend.api.blocking import status

    with exit_codes(job.name, as_json=as_json):
        named = keys or []
        if accept and resend:
            raise JobError("--accept and --resend exclude each other: settle one group, then the other")
        if (named or everything or file is not None) and not (accept or resend):
            raise JobError("say what became of them: --accept or --resend")
        if (accept or resend) and bool(named) + everything + (file is not None) != 1:
            raise JobError("name the keys to settle, or give --file FILE or --all in their place")
        given = variables(var)
        accepted, pending, left = resolve_job(
            job,
            accept=named if accept else (),
            resend=named if resend else (),
            accept_all=accept and everything,
            resend_all=resend and everything,
            accept_file=file if accept else None,
            resend_file=file if resend else None,
            by=by,
            vars=given,
            ledger=ledger,
            base_url=base_url,
            handle_signals=True,
        )
        report = status(job, vars=given, ledger=ledger)
        if as_json:
            unknown = [{"key": one.key, "row": one.row, "reason": one.reason} for one in left]
            counts = {"accepted": accepted, "pending": pending, "left": report.unknown}
            print_json({"job": report.job, **counts, "unknown": unknown})
            return
        if accept or resend or accepted or pending:
            say(f"{accepted:,} accepted, {pending:,} pending again: the next run sends them")
        if left:
            say(f"{report.unknown:,} are still unknown: --accept or --resend them, by key, --file or --all")
        elif not accepted and not pending:
            say("no send of this job is unknown")
        for one in left:
            typer.echo(plain(f"unknown  {one.key}  row {one.row}  {one.reason}"))
        if report.unknown > len(left):
            say(f"… and {report.unknown - len(left):,} more: bulksend status JOB --unknown")
