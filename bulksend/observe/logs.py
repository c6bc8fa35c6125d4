"""Events as structured logs: JSON on a pipe, readable lines on a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, cast

import orjson

from bulksend.errors import JobError, Problem
from bulksend.event import Event, EventName

__all__ = ["LogFormat", "Logs"]


class LogFormat(StrEnum):
    """How lines look on stderr."""

    JSON = "json"
    CONSOLE = "console"


_LEVEL = {
    EventName.CALL_MADE: "debug",
    EventName.RUN_SAMPLED: "debug",
    EventName.ENDPOINT_SAMPLED: "debug",
    EventName.SEGMENT_PAGE: "debug",
    EventName.SEGMENT_CHANGED: "debug",
    EventName.SEGMENT_KEPT: "warning",
    EventName.SEGMENT_UNORDERED: "warning",
    EventName.SEND_ACCEPTED: "debug",
    EventName.SEND_RETURNED: "debug",
    EventName.SEND_RETRIED: "warning",
    EventName.SEND_REJECTED: "warning",
    EventName.SEND_UNKNOWN: "warning",
    EventName.SEND_CHANGED: "warning",
    EventName.LIMIT_PAUSED: "warning",
    EventName.ENDPOINT_DOWN: "warning",
    EventName.ENDPOINT_UP: "warning",
    EventName.LEDGER_RECOVERED: "warning",
    EventName.RUN_STOPPING: "warning",
    EventName.RUN_STOPPED: "warning",
    EventName.GUARD_STOPPED: "error",
    EventName.RUN_FAILED: "error",
}
"""Everything else is info. The routine of every single send is debug: a log file has it, the terminal does not."""


class Logs:
    """An observer of events: lines on stderr from info up, and every event as JSON in `file`, made with mode 0600.

    Raises JobError when the file cannot be written.
    """

    def __init__(self, style: LogFormat | None, file: Path | None, *, stream: IO[str] | None = None) -> None:
        self._stream = stream or cast("IO[str]", _Stderr())
        style = style or (LogFormat.CONSOLE if self._stream.isatty() else LogFormat.JSON)
        self._lines: Any = _structured(self._stream, style)
        self._file: Any = None
        self._to_file: Any = None
        if file is not None:
            try:
                self._file = os.fdopen(
                    os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8"
                )
            except OSError as wrong:
                raise JobError(
                    Problem(f"cannot be written: {wrong.strerror}", file=str(file), field="--log-file")
                ) from None
            self._to_file = _structured(self._file, LogFormat.JSON)

    def __call__(self, event: Event) -> None:
        """Write the event."""
        level = _LEVEL.get(event.name, "info")
        if level == "debug" and self._to_file is None:
            return
        fields = _fields(event)
        if level != "debug" and self._lines is not None:
            try:
                getattr(self._lines, level)(event.name.value, **fields)
            except (OSError, ValueError):
                self._lines = None  # nobody reads it any more, or it is closed: the file goes on
        if self._to_file is not None:
            try:
                getattr(self._to_file, level)(event.name.value, **fields)
            except OSError as wrong:
                self._give_up(wrong)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as wrong:
                self._give_up(wrong)

    def _give_up(self, wrong: OSError) -> None:
        """A full disk under the log is said once; the run goes on, since the ledger is what counts."""
        file, self._file, self._to_file = self._file, None, None
        with contextlib.suppress(OSError):
            file.close()
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"warning: the log file cannot be written any more: {wrong.strerror}\n")


class _Stderr:
    """Standard error as it is at each write: a live display puts itself between, so that lines stand above it."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


def _fields(event: Event) -> dict[str, object]:
    """Return what the event says, numbers rounded for reading."""
    fields: dict[str, object] = {}
    for name in event.__struct_fields__[1:]:
        value = getattr(event, name)
        if value is not None:
            fields[name] = round(value, 6) if isinstance(value, float) else value
    return fields


def _structured(stream: IO[str], style: LogFormat) -> Any:
    import structlog

    processors: list[Any] = [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    if style is LogFormat.JSON:
        processors.append(
            structlog.processors.JSONRenderer(serializer=lambda record, **_: orjson.dumps(record).decode())
        )
    else:
        processors[1] = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        processors.append(structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=18))
    logger = structlog.wrap_logger(structlog.WriteLogger(cast("Any", stream)), processors=processors)
    return logger.bind()
