"""From a row of the audience to a send: the tables of the job file filled in, read and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from bulksend.errors import JobError, Problem
from bulksend.fields import Fault, did_you_mean
from bulksend.job.accounts import Accounts
from bulksend.job.spec import Job
from bulksend.job.table import Table, written
from bulksend.job.template import Template, is_blank
from bulksend.model import Account, Send, Step
from bulksend.providers import Flow, SendName

__all__ = ["Renderer", "chunk_key", "is_fit_key"]

KEY_MOST = 512
_UNFIT = f"the key is longer than {KEY_MOST} characters or holds control characters"
WHOLE_JOB_KEY = "all"
"""The key of the one send of a job without an audience."""


def chunk_key(keys: Sequence[str]) -> str:
    """Return a chunk's key: a hash of its members' keys, in order."""
    return "chunk-" + hashlib.blake2b(json.dumps(keys).encode(), digest_size=10).hexdigest()


def is_fit_key(key: str) -> bool:
    """Say whether a key can stand in the ledger and in a log line."""
    return 0 < len(key) <= KEY_MOST and key.isprintable() and not key.isspace()


class Renderer:
    """Makes the sends of a job. `columns` is what it needs of each row, the key first.

    `now`, in seconds since the epoch, is what times to come are held against as rows are looked at; rows from code move
    it on. That a time has not passed when its call leaves is the sender's business.
    """

    def __init__(self, job: Job, flow: Flow, accounts: Accounts, *, now: float) -> None:
        self.job = job
        self.flow = flow
        self.now = now
        self.accounts = accounts
        self._label = "the audience"
        chunked = job.audience is not None and job.audience.chunk is not None
        columns: dict[str, None] = {job.audience.key: None} if job.audience is not None else {}
        columns |= dict.fromkeys(accounts.columns)
        faults: list[Fault] = []
        self.steps: list[Table] = []
        """The tables of a send's steps, in order."""
        for name, endpoint in flow.steps:
            try:
                table = Table(job, name, endpoint, list(columns), chunked=chunked)
            except ValueError as wrong:
                faults += _misplaced(job, name, wrong, chunked=chunked)
                continue
            for column in table.template.columns:
                columns.setdefault(column)
            self.steps.append(table)
        self._prepare: list[Table] = []
        for name, endpoint in flow.prepare:
            try:
                table = Table(job, name, endpoint, (), chunked=False)
            except ValueError as wrong:
                faults += _misplaced(job, name, wrong, chunked=False)
                continue
            if table.template.columns:
                for column in table.template.columns:
                    where = _where_used(job, column)
                    faults.append(Fault(where, f"[{name}] is made once for the job: ${{{column}}} cannot stand in it"))
            self._prepare.append(table)
        faults = list(dict.fromkeys(faults))  # a table may be made into more than one step
        if job.audience is None and columns:
            faults.append(Fault("audience", f"is missing: ${{{next(iter(columns))}}} needs a table of rows"))
        if faults:
            raise JobError([job.problem(fault) for fault in faults])
        self.columns = tuple(columns)
        order = {name: index for index, name in enumerate(self.columns)}
        self.account_at = [order[name] for name in accounts.columns]
        """Where in a row the columns stand that decide the account."""

    def static_problems(self) -> list[Problem]:
        """Return what time has made wrong in the job file itself."""
        tables = [*self._prepare, *self.steps]
        return [
            self.job.problem(fault) for fault in dict.fromkeys(f for one in tables for f in one.static_faults(self.now))
        ]

    def check_columns(self, available: Sequence[str], label: str) -> None:
        """Raise JobError for every `${column}` that the audience does not have."""
        self._label = label
        problems = []
        for column in self.columns:
            if column not in available:
                path = _where_used(self.job, column)
                text = f"{label} has no column {column!r}{did_you_mean(column, available)}"
                problems.append(self.job.problem(Fault(path, text)))
        if problems:
            raise JobError(problems)

    def account_of(self, row: Sequence[object], *, with_secrets: bool = True) -> Account:
        """Return the account that a row (not a chunk) belongs to; raises JobError."""
        return self.accounts.of([row[index] for index in self.account_at], with_secrets=with_secrets)

    def account_name(self, row: Sequence[object], *, with_secrets: bool = True) -> str:
        """Return the name of a row's account; empty where it names none, which is told as the row is rendered."""
        try:
            return self.account_of(row, with_secrets=with_secrets).name
        except JobError:
            return ""

    def send(
        self, number: int, row: Sequence[object], *, with_secrets: bool = True
    ) -> tuple[Send | None, list[Problem]]:
        """Return the send of a row, or what is wrong with it."""
        key = row[0] if self.columns else WHOLE_JOB_KEY
        if is_blank(key):
            return None, [Problem("the key is blank", file=self._label, row=number)]
        return self._send(number, str(key), row, row, 1, with_secrets=with_secrets)

    def chunk(
        self, key: str, number: int, rows: Sequence[Sequence[object]], *, with_secrets: bool = True
    ) -> tuple[Send | None, list[Problem]]:
        """Return the send of a chunk of rows, or what is wrong with it."""
        for offset, row in enumerate(rows):
            if not is_fit_key(str(row[0])):
                return None, [Problem(_UNFIT, file=self._label, row=number + offset)]
        names = set()
        for offset, row in enumerate(rows if self.account_at else ()):
            try:
                names.add(self.account_of(row, with_secrets=with_secrets).name)
            except JobError as wrong:
                where, its_key = number + offset, str(row[0])
                return None, [
                    Problem(one.text, file=self._label, row=where, key=its_key, field=one.field)
                    for one in wrong.problems
                ]
        if len(names) > 1:
            return None, [Problem("its rows belong to several accounts now", file=self._label, row=number, key=key)]
        columns = [list(cells) for cells in zip(*rows, strict=True)]
        return self._send(number, key, rows[0], columns, len(rows), with_secrets=with_secrets)

    def _send(
        self, number: int, key: str, row: Sequence[object], values: Sequence[object], rows: int, *, with_secrets: bool
    ) -> tuple[Send | None, list[Problem]]:
        def problem(text: str, field: str | None = None, *, late: bool = False) -> Problem:
            if not self.columns:
                return self.job.problem(Fault(field or "launch", text, late))
            return Problem(text, file=self._label, row=number, key=key, field=field, late=late)

        if not is_fit_key(key):
            key = key[:20].encode("unicode_escape").decode() + "…"
            return None, [problem(_UNFIT)]
        try:
            account = self.account_of(row, with_secrets=with_secrets)
        except JobError as wrong:
            return None, [problem(one.text, one.field) for one in wrong.problems]
        steps: list[Step] = []
        faults: list[Fault] = []
        name = SendName(self.job.name, key)
        for table in self.steps:
            step, wrong_here = table.step(values, account, name, self.now)
            if step is not None:
                steps.append(step)
            faults += wrong_here
        # A table that is made into two steps tells its faults twice.
        problems = [problem(fault.text, fault.path, late=fault.late) for fault in dict.fromkeys(faults)]
        if not all(fault.late for fault in faults):
            return None, problems
        return Send(key, number, account, tuple(steps), _fingerprint(steps), rows), problems

    def prepare(self, account: Account) -> list[Send]:
        """Return the calls that are made once for an account; the key is what the vendor knows the account by."""
        sends = []
        for table in self._prepare:
            key = f"{account.identity}/{table.endpoint.name}"
            step, faults = table.step((), account, SendName(self.job.name, key), self.now)
            if step is None:
                raise JobError([self.job.problem(fault) for fault in faults])
            if step.ref is not None:
                key = f"{key}/{step.ref}"
            sends.append(Send(key, 0, account, (step,), _fingerprint([step])))
        return sends


def _fingerprint(steps: Sequence[Step]) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for step in steps:
        digest.update(step.body)
        digest.update((step.ref or "").encode())
        digest.update((step.path or "").encode())
    return int.from_bytes(digest.digest(), "big", signed=True)


def _where_used(job: Job, column: str) -> str:
    for name, table in job.tables.items():
        for where, text in written(table, name):
            if isinstance(text, str) and (f"${{{column}}}" in text or f"${{{column}[]}}" in text):
                return where
    if job.audience is not None and job.audience.key == column:
        return "audience.key"
    return "audience.account" if job.audience is not None and job.audience.account is not None else "account"


def _misplaced(job: Job, name: str, wrong: ValueError, *, chunked: bool) -> list[Fault]:
    """Say for each text of a table what is wrong with its placeholders."""
    faults: dict[Fault, None] = {}
    for where, text in written(job.tables[name], name):
        try:
            Template({"field": text}, chunked=chunked)
        except ValueError as again:
            faults.setdefault(Fault(where, str(again)))
    return list(faults) or [Fault(name, str(wrong))]
