"""The guards that refuse a job before its first call."""

from __future__ import annotations

from collections.abc import Sequence

from bulksend.api.observing import Observer, Observers
from bulksend.api.report import Report
from bulksend.duration import format_duration
from bulksend.errors import GuardError
from bulksend.event import Event, EventName
from bulksend.job.check import Checked
from bulksend.job.spec import Job
from bulksend.model import JobState

__all__ = ["Observer", "check_due", "check_size"]


def check_due(job: Job, now: float, observers: Sequence[Observer] = ()) -> None:
    """Raise GuardError when the run starts later than `due` and `max_lateness` allow; `now` is since the epoch."""
    policy = job.policy
    if policy.due is None or policy.max_lateness_s is None:
        return
    if now > policy.due + policy.max_lateness_s:
        late, allowed = format_duration(now - policy.due), format_duration(policy.max_lateness_s)
        raise _refused(job, f"due: the run starts {late} late, at most {allowed} is allowed", None, observers)


def check_size(job: Job, checked: Checked, observers: Sequence[Observer]) -> None:
    """Raise GuardError when there are more sends than `max_sends`."""
    most = job.policy.max_sends
    if most is not None and checked.sends > most:
        text = f"max_sends: {checked.sends:,} sends, at most {most:,} are allowed"
        raise _refused(job, text, checked, observers)


def _refused(job: Job, text: str, checked: Checked | None, observers: Sequence[Observer]) -> GuardError:
    Observers(observers)(Event(EventName.GUARD_STOPPED, job.name, reason=text))
    refused = GuardError(text)
    rows, sends = (checked.rows, checked.sends) if checked is not None else (0, 0)
    refused.report = Report(job.name, JobState.REFUSED, rows=rows, total=sends, pending=sends)
    return refused
