"""Logs: a closed list of events, one line each, in the form that the reader can use."""

from __future__ import annotations

import io
import json
import os
import stat
import typing
from pathlib import Path
from typing import Any

import pytest

from bulksend.errors import JobError
from bulksend.event import Event, EventName
from bulksend.observe.logs import LogFormat, Logs

FULL = {
    "endpoint": "insider.launch",
    "account": "default",
    "key": "0007",
    "row": 7,
    "attempt": 2,
    "status": 429,
    "reason": "HTTP 429: told to wait",
    "ref": "25696",
    "duration_s": 0.1234567,
    "wait_s": 7.0,
    "count": 10,
    "settled": 3,
    "rejected": 1,
    "unknown": 1,
    "progress": 0.5,
    "added": 4,
    "removed": 5,
    "drift": 1,
    "hash": "0123456789abcdef",
    "in_flight": 8,
    "waiting": 2,
    "utilization": 0.75,
    "limit_per_s": 100.0,
    "exit_code": 3,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_list_of_names_is_closed() -> None:
    """A name that is added here is part of what users build on: dashboards, alerts."""
    assert {name.value for name in EventName} == {
        "run.started",
        "run.stopping",
        "run.stopped",
        "run.finished",
        "run.failed",
        "audience.checked",
        "ledger.recovered",
        "prepare.accepted",
        "prepare.reused",
        "canary.passed",
        "guard.stopped",
        "call.made",
        "send.accepted",
        "send.rejected",
        "send.unknown",
        "send.retried",
        "send.returned",
        "send.changed",
        "send.watched",
        "limit.paused",
        "limit.changed",
        "segment.kept",
        "segment.reading",
        "segment.page",
        "segment.unordered",
        "segment.compared",
        "segment.changing",
        "segment.changed",
        "segment.verified",
        "run.sampled",
        "run.progress",
        "endpoint.sampled",
        "endpoint.down",
        "endpoint.up",
    }


def test_an_event_has_no_place_for_a_payload_a_header_or_a_secret() -> None:
    hints = typing.get_type_hints(Event)
    assert set(hints) == {"name", "job", *FULL}
    assert set(hints.values()) <= {EventName, str, str | None, int | None, float | None}


@pytest.mark.parametrize("name", list(EventName))
def test_every_event_is_one_line_of_json_in_the_file(name: EventName, tmp_path: Path) -> None:
    stream = io.StringIO()
    logs = Logs(None, tmp_path / "log", stream=stream)
    logs(Event(name, "job", reason='two\nlines, "quoted" and 春\u2028'))
    logs.close()
    (line,) = [json.loads(line) for line in (tmp_path / "log").read_text("utf-8").split("\n") if line]
    assert (line["event"], line["job"], line["reason"]) == (name.value, "job", 'two\nlines, "quoted" and 春\u2028')
    assert set(line) == {"event", "job", "reason", "level", "timestamp"}
    # What is routine for each send is in the file only.
    assert (stream.getvalue() == "") == (line["level"] == "debug")


LEVELS = {
    "debug": {
        "call.made",
        "send.accepted",
        "send.returned",
        "run.sampled",
        "endpoint.sampled",
        "segment.page",
        "segment.changed",
    },
    "info": {
        "run.started",
        "run.finished",
        "audience.checked",
        "prepare.accepted",
        "prepare.reused",
        "canary.passed",
        "limit.changed",
        "send.watched",
        "segment.reading",
        "segment.compared",
        "segment.changing",
        "segment.verified",
        "run.progress",
    },
    "warning": {
        "run.stopping",
        "run.stopped",
        "ledger.recovered",
        "send.rejected",
        "send.unknown",
        "send.retried",
        "send.changed",
        "limit.paused",
        "endpoint.down",
        "endpoint.up",
        "segment.kept",
        "segment.unordered",
    },
    "error": {"run.failed", "guard.stopped"},
}


def test_levels(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs = Logs(LogFormat.JSON, tmp_path / "log", stream=stream)
    for name in EventName:
        logs(Event(name, "job"))
    logs.close()
    found: dict[str, set[str]] = {level: set() for level in LEVELS}
    for line in lines((tmp_path / "log").read_text()):
        found[line["level"]].add(line["event"])
    assert found == LEVELS
    assert {line["event"] for line in lines(stream.getvalue())} == {name.value for name in EventName} - LEVELS["debug"]


def test_every_field_is_bound_and_those_not_set_are_left_out() -> None:
    stream = io.StringIO()
    logs = Logs(None, None, stream=stream)
    logs(Event(EventName.SEND_RETRIED, "job", **FULL))
    logs(Event(EventName.SEND_RETRIED, "job", row=0, count=0))
    full, few = lines(stream.getvalue())
    assert {name: full[name] for name in FULL} == {**FULL, "duration_s": 0.123457}
    assert set(few) == {"event", "job", "row", "count", "level", "timestamp"}


def test_json_on_a_pipe_and_readable_lines_on_a_terminal() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    for stream in (pipe, terminal):
        Logs(None, None, stream=stream)(Event(EventName.SEND_REJECTED, "job", key="0007", reason="HTTP 400"))
    assert lines(pipe.getvalue())[0]["key"] == "0007"
    said = terminal.getvalue()
    assert not said.startswith("{")
    assert "send.rejected" in said
    assert "0007" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_the_form_can_be_chosen(stream: type[io.StringIO]) -> None:
    as_json, as_text = stream(), stream()
    Logs(LogFormat.JSON, None, stream=as_json)(Event(EventName.RUN_STARTED, "job"))
    Logs(LogFormat.CONSOLE, None, stream=as_text)(Event(EventName.RUN_STARTED, "job"))
    assert lines(as_json.getvalue())[0]["event"] == "run.started"
    assert not as_text.getvalue().startswith("{")
    assert ("\x1b[" in as_text.getvalue()) == (stream is Terminal)


def test_standard_error_is_looked_up_at_each_write(capsys: pytest.CaptureFixture[str]) -> None:
    logs = Logs(LogFormat.JSON, None)
    logs(Event(EventName.RUN_STARTED, "job"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert lines(captured.err)[0]["event"] == "run.started"


def test_the_file_is_for_its_user_alone_and_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "log"
    before = os.umask(0)
    try:
        for _ in range(2):
            logs = Logs(None, path, stream=io.StringIO())
            logs(Event(EventName.CALL_MADE, "job"))
            logs.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(lines(path.read_text())) == 2


def test_a_file_that_cannot_be_written_is_a_problem_of_the_arguments(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"nowhere/log: --log-file: cannot be written: No such file"):
        Logs(None, tmp_path / "nowhere" / "log", stream=io.StringIO())
    with pytest.raises(JobError, match="Is a directory"):
        Logs(None, tmp_path, stream=io.StringIO())


def test_what_was_told_is_in_the_file_at_once(tmp_path: Path) -> None:
    """A process that is killed has its log."""
    logs = Logs(None, tmp_path / "log", stream=io.StringIO())
    logs(Event(EventName.RUN_STARTED, "job"))
    assert len(lines((tmp_path / "log").read_text())) == 1
    logs.close()


class Broken(io.StringIO):
    """Standard error whose reader has gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_the_file_goes_on_where_nobody_reads_standard_error_any_more(tmp_path: Path) -> None:
    logs = Logs(LogFormat.JSON, tmp_path / "log", stream=Broken())
    logs(Event(EventName.RUN_STARTED, "job", count=2))
    logs(Event(EventName.CALL_MADE, "job"))
    logs(Event(EventName.SEND_REJECTED, "job", key="a"))
    logs.close()
    told = [line["event"] for line in lines((tmp_path / "log").read_text())]
    assert told == ["run.started", "call.made", "send.rejected"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_with_a_full_disk_and_no_reader_nothing_is_raised() -> None:
    logs = Logs(LogFormat.JSON, Path("/dev/full"), stream=Broken())
    logs(Event(EventName.RUN_STARTED, "job", count=2))
    logs.close()
