"""Opening what a job needs: its ledger by URL, its audience, its renderer."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bulksend.errors import BulksendError, JobError, Problem
from bulksend.job.accounts import Accounts
from bulksend.job.check import check_rows
from bulksend.job.file import load_job
from bulksend.job.render import Renderer
from bulksend.job.spec import Job
from bulksend.ledger.base import Ledger
from bulksend.providers import Flow

if TYPE_CHECKING:
    from bulksend.job.audience import Audience, KeyCheck

__all__ = [
    "LEDGER_ENV",
    "Opened",
    "at_table",
    "key_problems",
    "ledger_path",
    "load_whole",
    "naming",
    "open_job",
    "open_ledger",
    "secret_problems",
]

LEDGER_ENV = "BULKSEND_LEDGER"
LEDGER_NAME = "bulksend.db"


def ledger_path(url: str | None, base_dir: Path) -> Path:
    """Return the file of a ledger URL; without one, of $BULKSEND_LEDGER, else `bulksend.db` beside the job file."""
    url = url or os.environ.get(LEDGER_ENV) or None
    if url is None:
        return base_dir / LEDGER_NAME
    if url.startswith(("postgresql:", "postgres:")):
        raise JobError(Problem("a PostgreSQL ledger is not part of this version; use sqlite:///PATH", field="--ledger"))
    found = re.fullmatch(r"sqlite:(?://)?(.+)", url)
    if found is None:
        # Not repeated here: whatever stands in it may hold a password.
        text = "this is not a ledger: write sqlite:///absolute/path or sqlite:relative/path"
        raise JobError(Problem(text, field="--ledger"))
    return Path(found[1]).absolute()


def open_ledger(url: str | None, base_dir: Path, *, executor: Executor | None = None) -> Ledger:
    """Return the ledger that a URL names; it is not opened yet."""
    from bulksend.ledger.sqlite import SqliteLedger

    return SqliteLedger(ledger_path(url, base_dir), executor=executor)


@contextmanager
def naming(job: Job) -> Iterator[None]:
    """Say in every error whose it is."""
    try:
        yield
    except BulksendError as wrong:
        wrong.job = job.name
        raise


@dataclass(frozen=True, slots=True)
class Opened:
    """A checked job with everything that reads it; the audience is None for a job without one, or rows from code."""

    job: Job
    flow: Flow
    accounts: Accounts
    renderer: Renderer
    audience: Audience | None
    scratch_dir: Path


@contextmanager
def open_job(job: Job, *, rows_from_code: bool = False) -> Iterator[Opened]:
    """Open the audience and compile the tables; raises JobError for an unknown column, a missing file, bad SQL."""
    chooser = job.audience.account if job.audience is not None else None
    try:
        accounts = Accounts(job.accounts, chooser=chooser, provider=job.provider, base_dir=job.base_dir)
    except ValueError as wrong:
        raise JobError(Problem(str(wrong), file=job.path.name, field="account")) from None
    flow = job.provider.flow(job.tables)
    renderer = Renderer(job, flow, accounts, now=time.time())
    with tempfile.TemporaryDirectory(prefix="bulksend-") as scratch:
        scratch_dir = Path(scratch)
        if job.audience is None or rows_from_code:
            yield Opened(job, flow, accounts, renderer, None, scratch_dir)
            return
        from bulksend.job.audience import Audience

        spec = job.audience
        try:
            audience = Audience(
                base_dir=job.base_dir, source=spec.source, sql=spec.sql, key=spec.key, scratch_dir=scratch_dir
            )
        except JobError as wrong:
            field = "audience.from" if spec.sql is None else "audience.sql"
            raise JobError([at_table(job, field, problem) for problem in wrong.problems]) from None
        try:
            renderer.check_columns(audience.columns, audience.label)
            yield Opened(job, flow, accounts, renderer, audience, scratch_dir)
        finally:
            audience.close()


def load_whole(
    source: str | os.PathLike[str] | Mapping[str, object],
    *,
    variables: Mapping[str, str] | None,
    base_url: str | None,
    with_secrets: bool,
) -> Job:
    """Load a job file; one with faults is looked at further, so that its audience's and secrets' are told with them."""
    try:
        return load_job(source, variables=variables, base_url=base_url)
    except JobError as wrong:
        if not isinstance(wrong.partial, Job):
            raise
        told = {problem.field or "" for problem in wrong.problems}
        further = []
        if not any(field.startswith("audience") for field in told):
            further = _further_problems(wrong.partial, with_secrets=with_secrets)
        # What follows from a fault that is told already is not told beside it.
        fields = {_table_field(field) for field in told}
        raise JobError([*wrong.problems, *(one for one in further if _table_field(one.field) not in fields)]) from None


def _table_field(path: str | None) -> str | None:
    """Return the field of a table that a dotted path leads into: `launch.target` for `launch.target.values`."""
    return None if path is None else ".".join(path.split(".")[:2])


def _further_problems(job: Job, *, with_secrets: bool) -> list[Problem]:
    """Return what can be told of a job whose file has faults: unset secrets, unknown columns, bad keys and rows."""
    problems: list[Problem] = []
    try:
        with open_job(job) as opened:
            problems += secret_problems(opened, run_commands=False) if with_secrets else []
            if opened.audience is not None:
                problems += key_problems(opened.audience.check_keys(), opened.audience.label)
                batches = opened.audience.rows(opened.renderer.columns)
                problems += check_rows(opened.renderer, batches, with_secrets=False, stopping=lambda: False).problems
    except JobError as also:
        problems += also.problems
    except (BulksendError, ValueError, TypeError, KeyError, AssertionError):
        pass  # the faults that were told before stand in the way
    return problems


def key_problems(keys: KeyCheck, label: str) -> list[Problem]:
    """Say which keys are blank or stand twice."""
    problems = [Problem("the key is blank", file=label, row=row) for row in keys.blank_rows]
    problems += [
        Problem(f"row {one.first_row} has the same key", file=label, row=one.second_row, key=one.key)
        for one in keys.duplicates
    ]
    return sorted(problems, key=lambda problem: problem.row or 0)


def at_table(job: Job, field: str, problem: Problem) -> Problem:
    """Point to the job file where a problem is of a table as a whole, not of a line or row in it."""
    if problem.line is not None or problem.row is not None:
        return problem
    if problem.field is not None:
        field = problem.field
    of = f"{problem.file}: " if problem.file not in (None, "sql") else ""
    return job.problem_at(field, f"{of}{problem.text}")


def secret_problems(opened: Opened, *, run_commands: bool = True) -> list[Problem]:
    """Return each secret of the job file, other than those that a row picks, that is not there.

    Blocks while a command that prints one runs; without `run_commands` none does.
    """
    problems = []
    for account, field, reason in opened.accounts.absent_secrets(run_commands=run_commands):
        path = f"account.{field}" if account == "default" else f"account.{account}.{field}"
        line = opened.job.lines.get(path) or opened.job.lines.get(f"account.{field}")
        problems.append(Problem(reason, file=opened.job.path.name, line=line, field=path))
    return problems
