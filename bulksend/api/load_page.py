"""A load test's page: looked to before the first call, and written once the test is over, however it ended."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace

import msgspec

from bulksend.api.load_report import LoadReport
from bulksend.api.page_file import job_text, need_pictures, page_path, page_versions, write_page
from bulksend.api.run import JobSource
from bulksend.errors import JobError, Problem, RunError
from bulksend.job.spec import Job
from bulksend.loadtest.safety import host_of
from bulksend.model import Account
from bulksend.observe.report.load import LOAD_MARK, LoadFacts, load_page, read_load

__all__ = ["LoadPage"]


class LoadPage:
    """The page of one load test; raises JobError where it could not be written, so that no call is made in vain."""

    def __init__(self, source: JobSource, job: Job, output: str | os.PathLike[str]) -> None:
        need_pictures()
        self._job = job
        self._path = page_path(output, LOAD_MARK)
        if not os.access(self._path.parent, os.W_OK):
            raise JobError(Problem("nothing can be written here", file=str(self._path.parent)))
        self._text = job_text(source)

    def written(self, report: LoadReport, accounts: Iterable[Account], why: str | None) -> LoadReport:
        """Write the page and return the report that names it; RunError, with the numbers, where that fails."""
        try:
            text = load_page(self._facts(report, accounts, why))
        except Exception as wrong:
            # Not even a bug in the drawing may cost the numbers of a long test.
            failed = RunError(f"the report {self._path} cannot be drawn: {wrong!r}")
            failed.report = report
            raise failed from wrong
        try:
            write_page(self._path, text)
        except RunError as wrong:
            wrong.report = report
            raise
        report = replace(report, page=self._path)
        assert report.record is not None
        return replace(report, record=msgspec.structs.replace(report.record, summary=report.to_dict()))

    def _facts(self, report: LoadReport, accounts: Iterable[Account], why: str | None) -> LoadFacts:
        record = report.record
        assert record is not None
        return LoadFacts(
            figures=read_load(record.summary),
            provider=self._job.provider.title,
            hosts=sorted({host_of(account.base_url) for account in accounts}),
            why=why,
            began_at=record.began_at,
            timeline=record.timeline,
            since_due_ms=record.since_due_ms,
            since_left_ms=record.since_left_ms,
            slowest=record.history.slowest,
            limits_table=report.limits_table,
            job_file=self._job.path.name,
            job_text=self._text,
            versions=page_versions(),
            made_at=time.time(),
        )
