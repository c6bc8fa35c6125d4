"""Events as structured logs: JSON on a pipe, readable lines on a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, cast

import orjson

from bulksend.event import Event, EventName
from bulksend.observe.by_name import ByName
from bulksend.observe.log_file import LogFile

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


class Logs(ByName):
    """An observer of events: lines on stderr from info up, and every event as JSON in `file`, made with mode 0600.

    The file gets the routine of a turn of the event loop at the turn's end, and everything else at once.
    Raises JobError when the file cannot be written.
    """

    def __init__(self, style: LogFormat | None, file: Path | None, *, stream: IO[str] | None = None) -> None:
        self._stream = stream or cast("IO[str]", _Stderr())
        style = style or (LogFormat.CONSOLE if self._stream.isatty() else LogFormat.JSON)
        self._lines: Any = _structured(self._stream, style)
        self._file = None if file is None else LogFile(file, self._say)
        methods: dict[EventName, Callable[[Event], None]] = {}
        for name in EventName:
            if _LEVEL.get(name) != "debug":
                methods[name] = self._told
            elif self._file is not None:
                methods[name] = self._file.add
        super().__init__(methods)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _told(self, event: Event) -> None:
        level = _LEVEL.get(event.name, "info")
        if self._lines is not None:
            try:
                getattr(self._lines, level)(event.name.value, **_fields(event))
            except (OSError, ValueError):
                self._lines = None  # nobody reads it any more, or it is closed: the file goes on
        if self._file is not None:
            self._file.add(event, level)
            self._file.flush()

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"warning: {text}\n")


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
