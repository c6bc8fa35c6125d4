"""The file that has every event of a run as a line of JSON, at a cost that a send does not feel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bulksend.errors import JobError, Problem
from bulksend.event import Event, EventName

__all__ = ["LogFile"]

_NAMES = {name: name.value for name in EventName}
_Line: Any = msgspec.defstruct(
    "_Line",
    [(name, Any, None) for name in (*Event.__struct_fields__[1:], "event", "level", "timestamp")],
    omit_defaults=True,
    gc=False,
)
"""What structlog makes of an event: its fields but for the name, that as `event`, the level, the time."""
_encoder = msgspec.json.Encoder()


class LogFile:
    """Appends to a file that only its user may read. What is added within a turn of the event loop is written at once.

    A process that is killed thus loses the lines of that turn at most. Where no loop runs, each line is written as it
    is added. When the file cannot be written any more, that is told to `say`, and lines are dropped from then on.
    Raises JobError when it cannot be opened.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        try:
            self._file: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as wrong:
            raise JobError(
                Problem(f"cannot be written: {wrong.strerror}", file=str(path), field="--log-file")
            ) from None
        self._say = say
        self._lines: list[Any] = []

    def add(self, event: Event, level: str = "debug") -> None:
        """Add a line; floats are rounded for reading."""
        one, other = event.duration_s, event.wait_s
        line = _Line(
            event.job,
            event.endpoint,
            event.account,
            event.key,
            event.row,
            event.attempt,
            event.status,
            event.reason,
            event.ref,
            None if one is None else round(one, 6),
            None if other is None else round(other, 6),
            event.count,
            event.settled,
            event.rejected,
            event.unknown,
            event.added,
            event.removed,
            event.drift,
            event.hash,
            event.in_flight,
            event.waiting,
            None if event.utilization is None else round(event.utilization, 6),
            None if event.limit_per_s is None else round(event.limit_per_s, 6),
            None if event.progress is None else round(event.progress, 6),
            event.exit_code,
            _NAMES[event.name],
            level,
            datetime.now(UTC),
        )
        lines = self._lines
        lines.append(line)
        if len(lines) == 1:
            self._flush_soon()

    def flush(self) -> None:
        """Write what was added."""
        lines, self._lines = self._lines, []
        if self._file is None or not lines:
            return
        try:
            text = memoryview(_encoded(lines))
            while text:
                text = text[os.write(self._file, text) :]
        except OSError as wrong:
            self._give_up(wrong)

    def close(self) -> None:
        """Write what was added, and close the file; what is added afterwards is dropped."""
        self.flush()
        file, self._file = self._file, None
        if file is not None:
            try:
                os.close(file)
            except OSError as wrong:
                self._give_up(wrong)

    def _flush_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
        else:
            loop.call_soon(self.flush)

    def _give_up(self, wrong: OSError) -> None:
        """A full disk under the log is said once; the run goes on, since the ledger is what counts."""
        self._say(f"the log file cannot be written any more: {wrong.strerror}")
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                os.close(file)


def _encoded(lines: list[Any]) -> bytes:
    try:
        return _encoder.encode_lines(lines)
    except UnicodeEncodeError:  # half a character: JSON can write it, UTF-8 cannot
        return "".join(json.dumps(msgspec.to_builtins(line), separators=(",", ":")) + "\n" for line in lines).encode()
