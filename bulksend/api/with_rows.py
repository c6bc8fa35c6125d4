"""A job for what needs its rows after a run, which those made in code cannot be had for."""

from __future__ import annotations

from collections.abc import Mapping

from bulksend.api.run import JobSource
from bulksend.errors import JobError
from bulksend.job.file import load_job
from bulksend.job.spec import Job

__all__ = ["load_with_rows"]


def load_with_rows(source: JobSource, variables: Mapping[str, str] | None, base_url: str | None = None) -> Job | None:
    """Load a job whose rows can be read; None where they are made in code. Raises JobError as `load_job` does."""
    try:
        return load_job(source, variables=variables, base_url=base_url)
    except JobError as wrong:
        if {problem.field for problem in wrong.problems} == {"audience.from"} and not wrong.more:
            return None
        raise
