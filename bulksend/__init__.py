"""Mass push launches through vendor APIs: once each, at the vendor's own limit, with proof.

report = bulksend.run("spring-sale.toml", vars={"day": "2026-04-01"})
report.raise_for_failures()
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bulksend.api.blocking import (
        audit,
        dead_letters,
        load_test,
        plan,
        report,
        resolve,
        run,
        sends,
        status,
        stop,
    )
    from bulksend.api.client import Answer, Client
    from bulksend.api.dead_letters import DeadLetters, dead_letters_async
    from bulksend.api.listing import AuditEntry, SendStatus, audit_async, sends_async
    from bulksend.api.load_report import LoadReport
    from bulksend.api.loadtest import load_test_async
    from bulksend.api.metrics import Metrics
    from bulksend.api.plan import Plan, plan_async
    from bulksend.api.report import Failure, Report
    from bulksend.api.reporting import ReportFile, report_async
    from bulksend.api.resolving import Resolved, resolve_async
    from bulksend.api.run import run_async
    from bulksend.api.sender import Sender
    from bulksend.api.state import status_async, stop_async
    from bulksend.errors import (
        BulksendError,
        CallFailedError,
        DeniedError,
        EmulatorError,
        GuardError,
        InterruptedRunError,
        JobError,
        JobLockedError,
        LedgerError,
        LedgerVersionError,
        NetworkError,
        PrepareError,
        Problem,
        RunError,
        SendsFailedError,
        WebhookError,
    )
    from bulksend.event import Event, EventName
    from bulksend.job.schema import job_schema
    from bulksend.model import JobState, State
    from bulksend.providers.stream.webhook import CampaignEvent, read_webhook

__all__ = [
    "Answer",
    "AuditEntry",
    "BulksendError",
    "CallFailedError",
    "CampaignEvent",
    "Client",
    "DeadLetters",
    "DeniedError",
    "EmulatorError",
    "Event",
    "EventName",
    "Failure",
    "GuardError",
    "InterruptedRunError",
    "JobError",
    "JobLockedError",
    "JobState",
    "LedgerError",
    "LedgerVersionError",
    "LoadReport",
    "Metrics",
    "NetworkError",
    "Plan",
    "PrepareError",
    "Problem",
    "Report",
    "ReportFile",
    "Resolved",
    "RunError",
    "SendStatus",
    "Sender",
    "SendsFailedError",
    "State",
    "WebhookError",
    "audit",
    "audit_async",
    "dead_letters",
    "dead_letters_async",
    "job_schema",
    "load_test",
    "load_test_async",
    "plan",
    "plan_async",
    "read_webhook",
    "report",
    "report_async",
    "resolve",
    "resolve_async",
    "run",
    "run_async",
    "sends",
    "sends_async",
    "status",
    "status_async",
    "stop",
    "stop_async",
]

_ROOMS = {
    "Answer": "api.client",
    "AuditEntry": "api.listing",
    "CampaignEvent": "providers.stream.webhook",
    "Client": "api.client",
    "DeadLetters": "api.dead_letters",
    "Event": "event",
    "EventName": "event",
    "Failure": "api.report",
    "JobState": "model",
    "LoadReport": "api.load_report",
    "Metrics": "api.metrics",
    "Plan": "api.plan",
    "Report": "api.report",
    "ReportFile": "api.reporting",
    "Resolved": "api.resolving",
    "SendStatus": "api.listing",
    "Sender": "api.sender",
    "State": "model",
    "audit": "api.blocking",
    "audit_async": "api.listing",
    "dead_letters": "api.blocking",
    "dead_letters_async": "api.dead_letters",
    "job_schema": "job.schema",
    "load_test": "api.blocking",
    "load_test_async": "api.loadtest",
    "plan": "api.blocking",
    "plan_async": "api.plan",
    "read_webhook": "providers.stream.webhook",
    "report": "api.blocking",
    "report_async": "api.reporting",
    "resolve": "api.blocking",
    "resolve_async": "api.resolving",
    "run": "api.blocking",
    "run_async": "api.run",
    "sends": "api.blocking",
    "sends_async": "api.listing",
    "status": "api.blocking",
    "status_async": "api.state",
    "stop": "api.blocking",
    "stop_async": "api.state",
}


def __getattr__(name: str) -> object:
    """Import what is asked for: `import bulksend` alone loads nothing heavy."""
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version

        return version("bulksend")
    if name not in __all__:
        raise AttributeError(f"module 'bulksend' has no attribute {name!r}")
    return getattr(import_module(f"bulksend.{_ROOMS.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
