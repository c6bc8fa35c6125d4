"""The log's file: its lines are those that structlog would write, and a turn of the event loop writes them at once."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.api.observing import Observers
from bulksend.event import Event, EventName
from bulksend.observe import log_file
from bulksend.observe.chronicle import Chronicle
from bulksend.observe.log_file import LogFile
from bulksend.observe.logs import _LEVEL, LogFormat, Logs, _fields, _structured
from bulksend.observe.metrics import Meter

STAMP = re.compile(rb'(?<="timestamp":")[^"]*(?="})')
TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBER = st.none() | st.integers(-(2**53), 2**53)
FLOAT = st.none() | st.floats(-1e9, 1e9) | st.floats(0, 1e-4) | st.sampled_from([1e-7, 5e-7, 0.1234565, 2.5, 1e15])
"""From 1e16 on, one of the two writes 1e16 and the other 1e+16."""
FORM = {"str": TEXT, "int": NUMBER, "float": FLOAT}
EVENTS = st.builds(
    Event,
    st.sampled_from(EventName),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    **{
        field.name: FORM[next(name for name in FORM if name in str(field.type))]
        for field in msgspec.structs.fields(Event)[2:]
    },
)


def called(key: str = "1") -> Event:
    return Event(EventName.CALL_MADE, "job", "insider.launch", "default", key, 1, 1, 200, None, duration_s=0.02)


def accepted(key: str = "1") -> Event:
    return Event(EventName.SEND_ACCEPTED, "job", "insider.launch", "default", key, 1, 1, 200, None, "ref")


@contextmanager
def logs_in(folder: Path) -> Iterator[tuple[Logs, Path]]:
    logs = Logs(LogFormat.JSON, folder / "log", stream=io.StringIO())
    try:
        yield logs, folder / "log"
    finally:
        logs.close()


def keys(path: Path) -> list[str]:
    return [json.loads(line)["key"] for line in path.read_text().splitlines()]


@given(events=st.lists(EVENTS, min_size=1, max_size=5))
def test_a_line_is_what_structlog_writes(events: list[Event]) -> None:
    stream = io.StringIO()
    structlog = _structured(stream, LogFormat.JSON)
    for event in events:
        getattr(structlog, _LEVEL.get(event.name, "info"))(event.name.value, **_fields(event))
    with TemporaryDirectory() as folder:
        with logs_in(Path(folder)) as (logs, path):
            for event in events:
                logs(event)
        found = path.read_bytes()
    assert len(STAMP.findall(found)) == len(events)
    assert STAMP.sub(b"", found) == STAMP.sub(b"", stream.getvalue().encode())


@given(moment=st.datetimes(timezones=st.just(UTC)) | st.just(datetime(2026, 4, 1, 9, 30, tzinfo=UTC)))
def test_a_moment_is_written_as_structlog_writes_it(moment: datetime) -> None:
    """Its processor calls isoformat, which leaves out the fraction of a whole second."""
    assert json.loads(msgspec.json.encode(moment)) == moment.isoformat().replace("+00:00", "Z")


def test_lines_tell_the_time(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    with logs_in(tmp_path) as (logs, path):
        logs(called())
    found = STAMP.search(path.read_bytes())
    assert found is not None
    assert before <= datetime.fromisoformat(found[0].decode()) <= datetime.now(UTC)


def test_half_a_character_costs_no_line(tmp_path: Path) -> None:
    async def turn(logs: Logs) -> None:
        for key in ("a", "\ud800", "春"):
            logs(called(key))

    with logs_in(tmp_path) as (logs, path):
        asyncio.run(turn(logs))
    assert keys(path) == ["a", "\ud800", "春"]
    assert len({tuple(json.loads(line)) for line in path.read_text().splitlines()}) == 1, "the same keys in one order"


def test_the_lines_of_a_turn_are_written_together_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []
    write = os.write
    monkeypatch.setattr(log_file.os, "write", lambda file, text: writes.append(file) or write(file, text))

    async def turns(logs: Logs, path: Path) -> None:
        for turn in range(3):
            for _ in range(10):
                logs(called())
                logs(accepted())
            assert len(keys(path)) == turn * 20
            await asyncio.sleep(0)
            assert len(keys(path)) == (turn + 1) * 20
        await asyncio.sleep(0)

    with logs_in(tmp_path) as (logs, path):
        asyncio.run(turns(logs, path))
    assert len(writes) == 3


def test_what_is_no_routine_is_written_at_once_and_all_before_it(tmp_path: Path) -> None:
    async def turn(logs: Logs, path: Path) -> None:
        logs(called("a"))
        logs(Event(EventName.SEND_RETRIED, "job", key="b", row=1))
        assert keys(path) == ["a", "b"]
        logs(called("c"))
        await asyncio.sleep(0)
        assert keys(path) == ["a", "b", "c"]

    with logs_in(tmp_path) as (logs, path):
        asyncio.run(turn(logs, path))


def test_without_a_loop_a_line_is_written_as_it_is_told(tmp_path: Path) -> None:
    with logs_in(tmp_path) as (logs, path):
        logs(called("a"))
        assert keys(path) == ["a"]


def test_lines_outlive_the_loop_that_was_to_write_them(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    with logs_in(tmp_path) as (logs, path):

        async def turn() -> None:
            logs(called("a"))
            loop.stop()

        task = loop.create_task(turn())
        loop.run_forever()
        assert task.done()
        loop.close()
        logs(called("b"))
        logs.close()
        assert keys(path) == ["a", "b"]
        logs(called("c"))  # dropped, and no one is harmed
    assert keys(path) == ["a", "b"]


def test_a_file_that_takes_a_few_bytes_at_a_time_gets_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(log_file.os, "write", lambda file, text: write(file, text[:7]))
    with logs_in(tmp_path) as (logs, path):
        logs(called("a"))
        logs(called("b"))
    assert keys(path) == ["a", "b"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_once_whenever_it_is_found(tmp_path: Path) -> None:
    said: list[str] = []

    async def turns(file: LogFile) -> None:
        for _ in range(3):
            file.add(called())
            file.add(accepted())
            assert len(said) <= 1
            await asyncio.sleep(0)

    file = LogFile(Path("/dev/full"), said.append)
    asyncio.run(turns(file))
    file.flush()
    file.close()
    assert said == ["the log file cannot be written any more: No space left on device"]


KILLED = """
import asyncio, io, os, signal, sys
from pathlib import Path
from bulksend.event import Event, EventName
from bulksend.observe.logs import Logs

async def main():
    logs = Logs(None, Path(sys.argv[1]), stream=io.StringIO())
    for turn in range(5):
        for number in range(4):
            logs(Event(EventName.CALL_MADE, "job", key=f"{turn}"))
        if turn == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0)

asyncio.run(main())
"""


def test_a_process_that_is_killed_loses_the_lines_of_its_last_turn_at_most(tmp_path: Path) -> None:
    path = tmp_path / "log"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=60)
    assert done.returncode == -9
    assert keys(path)[:16] == [f"{turn}" for turn in range(4) for _ in range(4)]


def test_what_is_told_of_a_send_costs_next_to_nothing(tmp_path: Path) -> None:
    """A call and its outcome, to all who look on: 4 µs on a machine of 2024; loose here, for one that is busy."""
    sends = [(called(str(number)), accepted(str(number))) for number in range(500)]

    async def best(tell: Observers) -> float:
        took_s = []
        for _ in range(20):
            began = time.perf_counter()
            for number in range(0, len(sends), 20):
                for call, outcome in sends[number : number + 20]:
                    tell(call)
                    tell(outcome)
                await asyncio.sleep(0)
            took_s.append(time.perf_counter() - began)
        return min(took_s) / len(sends)

    with logs_in(tmp_path) as (logs, _):
        assert asyncio.run(best(Observers([Chronicle(), Meter(), logs]))) < 20e-6
