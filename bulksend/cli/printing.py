"""What the shell says: words to stderr, data to stdout, errors without a traceback."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING

import typer

from bulksend.duration import format_duration
from bulksend.errors import BulksendError, JobError, JobLockedError

if TYPE_CHECKING:
    from bulksend.api.forecast import EndpointPlan
    from bulksend.api.report import Report, SegmentReport

__all__ = [
    "at_local",
    "colour",
    "endpoint_line",
    "exit_codes",
    "plain",
    "print_json",
    "say",
    "say_report",
    "segment_lines",
]


def say(text: str = "") -> None:
    """Say something to the person: on stderr. That nobody is there any more fails nothing, and no exit code."""
    with suppress(OSError):
        typer.echo(text, err=True)


def print_json(data: Mapping[str, object]) -> None:
    """Print data: one JSON object on stdout."""
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


def colour(text: str, name: str, *, stream_is_tty: bool) -> str:
    """Colour a text for a terminal that wants colours."""
    return typer.style(text, fg=name) if stream_is_tty and "NO_COLOR" not in os.environ else text


def plain(text: str | None) -> str:
    """Return other people's text so that it can neither move a terminal's cursor nor begin another line."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text or "")


def at_local(epoch_s: float) -> str:
    """Write a time for a person: local, to the second, with the offset."""
    return datetime.fromtimestamp(epoch_s).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


@contextmanager
def exit_codes(job: str, *, as_json: bool) -> Iterator[None]:
    """Turn the library's errors into one line each and the exit code of the README."""
    try:
        yield
    except BulksendError as wrong:
        lines = wrong.lines() if isinstance(wrong, JobError) else [str(wrong)]
        report = wrong.report
        if report is not None:
            say_report(report, as_json=as_json, error=lines)  # type: ignore[arg-type]
        elif as_json:
            say_report(_nothing_done(wrong, wrong.job or job), as_json=True, to_stdout=True, error=lines)
        mark = colour("error:", "red", stream_is_tty=sys.stderr.isatty())
        for line in lines:
            say(f"{mark} " + "\n".join(map(plain, line.split("\n"))))
        raise typer.Exit(wrong.exit_code) from None
    except BrokenPipeError:
        # Whoever read our output has gone; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(1) from None


def _nothing_done(wrong: BulksendError, job: str) -> Report:
    """Return the summary of a run that did not begin."""
    from bulksend.api.report import Report
    from bulksend.model import JobState

    state = JobState.REFUSED if wrong.exit_code in (2, 4) else JobState.INCOMPLETE
    return Report(job, JobState.RUNNING if isinstance(wrong, JobLockedError) else state)


def say_report(report: Report, *, as_json: bool, to_stdout: bool = False, error: Sequence[str] = ()) -> None:
    """Tell a report: as JSON on stdout, or in words; with `error`, JSON says what went wrong too."""
    if as_json:
        print_json({**report.to_dict(), **({"error": error[0], "problems": list(error)} if error else {})})
    if as_json and to_stdout:
        return
    for line in _lines(report, is_tty=(sys.stdout if to_stdout else sys.stderr).isatty()):
        if to_stdout:
            typer.echo(line)
        else:
            say(line)


def _lines(report: Report, *, is_tty: bool) -> Iterator[str]:
    yield f'job "{report.job}": {report.state}'
    if report.holder is not None:
        yield f"  run by      {report.holder}"
    if report.segment is not None:
        yield from segment_lines(report.segment, is_tty=is_tty)
    if report.segment is not None and not report.total:
        yield from _made(report)
        return
    figures = [f"{report.accepted:,} accepted"]
    for number, name, tint in (
        (report.rejected, "rejected", "red"),
        (report.unknown, "unknown", "yellow"),
        (report.pending, "pending", "cyan"),
    ):
        text = f"{number:,} {name}"
        figures.append(colour(text, tint, stream_is_tty=is_tty) if number else text)
    rows = f" ({report.rows:,} rows)" if report.rows != report.total and report.rows else ""
    yield f"  sends       {report.total:,}{rows}: {', '.join(figures)}"
    if report.changed:
        yield f"  changed     {report.changed:,} settled earlier with another payload; not sent again"
    if report.state == "refused" and not report.calls:
        return
    yield from _made(report)
    if report.campaigns:
        told = (f"{number:,} {name.replace('_', ' ')}" for name, number in report.campaigns.items())
        yield f"  campaigns   {', '.join(told)}"
    for failure in list(report.failures)[:5]:
        row = f" (row {failure.row})" if failure.row else ""
        yield f"  {failure.state:<11} {plain(failure.key)}{row}: {plain(failure.reason)}"
    if report.rejected + report.unknown > min(5, len(report.failures)) and report.failures:
        yield f"  … and {report.rejected + report.unknown - min(5, len(report.failures)):,} more"
    if report.unknown:
        yield "  An unknown send may have arrived. Where the vendor can tell, the next run asks it; else, on your word:"
        yield "  bulksend resolve JOB --accept|--resend KEY..."


def _made(report: Report) -> Iterator[str]:
    """Tell the calls, and how long they took."""
    if report.state != "running":
        waits = f", {report.retried:,} repeated, {report.throttled:,} times told to wait" if report.calls else ""
        yield f"  calls       {report.calls:,}{waits}"
    rate = f", {report.rate_per_min:,.0f} sends/min" if report.rate_per_min else ""
    yield f"  time        {format_duration(report.elapsed_s)}{rate}"
    for name, stats in report.endpoints.items():
        yield f"  {name}: {_endpoint(stats)}"


def segment_lines(segment: SegmentReport, *, is_tty: bool) -> Iterator[str]:
    """Tell how a segment stands; the first ids of each side where this run has seen them."""
    verbs = ("added", "removed") if segment.applied else ("to add", "to remove")
    yield f"  segment     {segment.id}: {segment.remote:,} targets, {segment.desired:,} desired"
    for verb, number, samples in zip(
        verbs, (segment.added, segment.removed), (segment.add_samples, segment.remove_samples), strict=True
    ):
        yield f"  {verb:<11} {number:,}{_first(samples, number)}"
    if segment.unnamed:
        yield f"  unnamed     {segment.unnamed:,} targets lack the field that is compared"
    if segment.drift:
        yield f"  drift       {segment.drift:,} targets were changed by others meanwhile"
    if segment.left:
        text = f"{segment.left:,} ids still differ after they were written; run again to look at them"
        yield f"  left        {colour(text, 'red', stream_is_tty=is_tty)}"
    yield f"  difference  {segment.hash}"


def endpoint_line(name: str, planned: EndpointPlan, *, has_eta: bool = True) -> str:
    """Tell the calls to an endpoint that are to be made, and how long they take."""
    note = "" if planned.documented else " (not published: a careful start)"
    calls = f"{planned.calls:,} {'call' if planned.calls == 1 else 'calls'}"
    takes = f", {format_duration(planned.duration_s)}" if has_eta else ""
    return f"  {name}: {calls} at {planned.limit}{note}{takes}"


def _first(samples: Sequence[str], number: int) -> str:
    if not samples:
        return ""
    more = ", …" if number > len(samples) else ""
    return f": {', '.join(map(_printable, samples))}{more}"


def _printable(text: str) -> str:
    """Write an id so that it cannot move a terminal's cursor."""
    return text if text.isprintable() and text == text.strip() else json.dumps(text)


def _endpoint(stats: Mapping[str, object]) -> str:
    calls = f"{stats['calls']:,} {'call' if stats['calls'] == 1 else 'calls'}"
    parts = [calls, f"at most {stats['max_in_window']:,} in a window of {stats['limit']}"]
    if stats.get("utilization") is not None:
        parts.append(f"{stats['utilization']:.1%} of the limit")
    if stats.get("p50_ms") is not None:
        parts.append(f"p50 {stats['p50_ms']:g} ms, p99 {stats['p99_ms']:g} ms")
    return ", ".join(parts)
