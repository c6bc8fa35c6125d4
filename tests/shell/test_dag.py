"""The DAG that `init --scheduler airflow` writes, with a stub of Airflow (tests/airflow has the real one)."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import bulksend
from bulksend import errors
from bulksend.api.report import Report
from bulksend.model import JobState
from tests.shell.conftest import Shell

STUB = """
SEEN = []

class AirflowException(Exception): ...
class AirflowFailException(AirflowException): ...

class CronTriggerTimetable:
    def __init__(self, cron, *, timezone):
        self.cron, self.timezone = cron, timezone

def dag(**options):
    def decorate(function):
        def make():
            SEEN.append(("dag", options))
            function()
        return make
    return decorate

def task(**options):
    def decorate(function):
        return lambda: SEEN.append(("task", options, function))
    return decorate
"""
LAYOUTS = {
    "airflow 2": {"decorators": "dag, task", "exceptions": "AirflowException, AirflowFailException"},
    "airflow 3.0": {"sdk/__init__": "dag, task", "exceptions": "AirflowException, AirflowFailException"},
    "airflow 3.3": {
        "sdk/__init__": "CronTriggerTimetable, dag, task",
        "sdk/exceptions": "AirflowException, AirflowFailException",
    },
}
TRIGGER = {"timetables/__init__": "SEEN", "timetables/trigger": "CronTriggerTimetable"}
PROVIDERS = ("insider", "usercom", "stream", "batch")


class Dag:
    """A DAG file that was run with the stub; its one task can be tried as Airflow tries it."""

    def __init__(self, path: Path, stub: ModuleType) -> None:
        space = {"__name__": "unusual_prefix_dag", "__file__": str(path)}
        exec(compile(path.read_text("utf-8"), str(path), "exec"), space)
        (_, self.options), (_, self.task, self.function) = stub.SEEN
        self.fails: type[Exception] = stub.AirflowFailException
        self.retries: type[Exception] = stub.AirflowException

    def run(self, **context: Any) -> tuple[str, int]:
        """Return the state of the task and how often it was tried."""
        names = inspect.signature(self.function).parameters
        given = {name: context[name] for name in names if name in context}
        for tried in range(1, self.task["retries"] + 2):
            try:
                self.function(**given)
            except self.fails:
                return "failed", tried
            except self.retries:  # Airflow 2 looks only then whether a person has marked the task meanwhile
                continue
            return "success", tried
        return "failed", self.task["retries"] + 1


@pytest.fixture
def load(shell: Shell, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Write a provider's DAG and load it with the stub of an Airflow."""

    def load(provider: str = "insider", layout: str = "airflow 3.3") -> Dag:
        assert shell.call("init", provider, "--scheduler", "airflow").code == 0
        root = tmp_path_factory.mktemp("airflow")
        package = root / "airflow"
        for name in ("sdk", "timetables"):
            (package / name).mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "_stub.py").write_text(STUB, "utf-8")
        for name, words in {**TRIGGER, **LAYOUTS[layout]}.items():
            (package / f"{name}.py").write_text(f"from airflow._stub import {words}\n", "utf-8")
        if "sdk/__init__" not in LAYOUTS[layout]:
            (package / "sdk").rmdir()
        forget()
        monkeypatch.syspath_prepend(str(root))
        import airflow._stub as stub  # type: ignore[import-not-found,unused-ignore]

        return Dag(shell.folder / f"{provider}_dag.py", stub)

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "airflow"]:
            del sys.modules[name]

    monkeypatch.setenv("BULKSEND_LEDGER", f"sqlite://{shell.folder / 'ledger.db'}")
    yield load
    forget()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Put something in the place of `bulksend.run`: each call raises or returns the next of what is given."""

    def put(*ends: Report | Exception) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def run(job: Path, **named: Any) -> Report:
            end = ends[min(len(calls), len(ends) - 1)]
            calls.append({"job": job, **named})
            if isinstance(end, Exception):
                raise end
            return end

        monkeypatch.setattr(bulksend, "run", run)
        return calls

    return put


DONE = Report("sale", JobState.DONE, total=3, accepted=3)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_dag_in_every_airflow(load: Any, shell: Shell, runs: Any, provider: str, layout: str) -> None:
    dag = load(provider, layout)
    assert dag.options["dag_id"] == f"bulksend_{provider}"
    assert (dag.options["max_active_runs"], dag.options["catchup"]) == (1, False)
    assert (dag.options["schedule"].cron, dag.options["schedule"].timezone) == ("0 6 * * *", "UTC")
    assert dag.options["start_date"].tzinfo is not None
    assert dag.task["retries"] >= 3
    assert dag.task["retry_delay"] > timedelta(0)
    assert "execution_timeout" not in dag.task  # it would cut calls off on their way
    calls = runs(DONE)
    assert dag.run(ds="2026-04-01") == ("success", 1)
    job = shell.folder / f"{provider}.toml"
    assert calls == [{"job": job, "vars": {"day": "2026-04-01"}, "handle_signals": True}]
    assert job.is_file()


def test_nothing_heavy_is_imported_when_the_file_is_parsed(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bulksend", None)  # any import of it fails
    source = inspect.getsource(load().function)
    assert "import bulksend" in source


def test_the_name_of_the_secret_is_told(load: Any, shell: Shell) -> None:
    load("stream")
    assert "STREAM_SECRET" in (shell.folder / "stream_dag.py").read_text("utf-8")


def test_a_run_by_hand_without_a_logical_date_has_the_day_of_the_run(load: Any, runs: Any) -> None:
    calls = runs(DONE)
    run = SimpleNamespace(run_after=datetime.fromisoformat("2026-04-01T23:59:00+00:00"))
    assert load().run(dag_run=run) == ("success", 1)
    assert calls[0]["vars"] == {"day": "2026-04-01"}


FINAL = (errors.JobError, errors.GuardError, errors.SendsFailedError)


def leaves(error: type[errors.BulksendError]) -> Iterator[type[errors.BulksendError]]:
    yield error
    for inner in error.__subclasses__():
        yield from leaves(inner)


@pytest.mark.parametrize("error", list(leaves(errors.BulksendError)))
def test_what_may_pass_is_tried_again_and_what_would_not_change_is_not(
    load: Any, runs: Any, error: type[errors.BulksendError]
) -> None:
    calls = runs(error("so it is"), DONE)
    expected = ("failed", 1) if issubclass(error, FINAL) else ("success", 2)
    assert load().run(ds="2026-04-01") == expected
    assert [call["vars"]["day"] for call in calls] == ["2026-04-01"] * expected[1]


@pytest.mark.parametrize("numbers", [{"rejected": 1}, {"unknown": 1}, {"pending": 1}])
def test_sends_that_were_not_accepted_fail_the_task_at_once(load: Any, runs: Any, numbers: dict[str, int]) -> None:
    calls = runs(Report("sale", JobState.DONE, total=3, accepted=2, **numbers))
    assert load().run(ds="2026-04-01") == ("failed", 1)
    assert len(calls) == 1


def test_without_a_ledger_that_outlives_the_task_nothing_is_sent(
    load: Any, runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's own disk would be forgotten by a retry on another worker, and everything be sent again."""
    calls = runs(DONE)
    dag = load()
    monkeypatch.delenv("BULKSEND_LEDGER")
    assert dag.run(ds="2026-04-01") == ("failed", 1)
    assert calls == []


@pytest.mark.parametrize("provider", ["insider", "batch"])
def test_it_sends(load: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], provider: str) -> None:
    """The library itself, with an emulator in the vendor's place."""
    real = bulksend.run
    monkeypatch.setattr(bulksend, "run", lambda *given, **named: real(*given, **named, emulate=True))
    dag = load(provider)
    capfd.readouterr()
    assert dag.run(ds="2026-04-01") == ("success", 1)
    assert '"state": "done"' in capfd.readouterr().out
    assert "BULKSEND_LEDGER" in os.environ
