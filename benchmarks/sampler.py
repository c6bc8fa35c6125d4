"""Runs bulksend's shell in this process and records where its CPU goes, function by function and line by line.

python -m benchmarks.sampler FILE ARGUMENT … runs `bulksend ARGUMENT …` and writes a `Profile` to FILE as JSON.

A profiler that is called for every function makes small functions look dear. This one is called by a timer of the
process's CPU (SIGPROF). At each tick, every thread's CPU since the last one is charged to where that thread is: what is
charged is what the kernel has counted, and only its place is a sample. Python runs a signal's handler between two
bytecodes, so that the time of C code falls to the line that called it. The event loop is C that no line calls: its time
falls to itself where it calls a function next, and to the line after an `await` where it goes on with one.
"""

from __future__ import annotations

import dis
import linecache
import signal
import sys
import sysconfig
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

import msgspec

__all__ = ["Function", "Profile"]

_EVERY_S = 0.001
_RESUME = dis.opmap["RESUME"]
_LOOP = ("asyncio/runners.py", "run")
"""The last function in Python before an event loop in C."""
_IN_LOOP = "event loop in C (sockets, callbacks)"
_IMPORTS = "imports, with all that modules do then"
_ELSEWHERE = "threads without Python (DuckDB)"


class Function(msgspec.Struct, frozen=True):
    """A function, and the CPU that it took itself, and with all that it called."""

    name: str
    """As `file:function`."""
    self_s: float
    inclusive_s: float
    lines: dict[str, float]
    """By number and text, the CPU of each line itself."""


class Profile(msgspec.Struct, frozen=True):
    """Where the CPU of a run went."""

    cpu_s: float
    samples: int
    functions: list[Function]


class _Sampler:
    def __init__(self) -> None:
        self.samples = 0
        self._own: dict[tuple[CodeType | str, int], float] = defaultdict(float)
        self._inclusive: dict[str, float] = defaultdict(float)
        self._clocks: dict[int, float] = {}
        self._process_s = time.process_time()

    def start(self) -> None:
        self._clocks = {thread: _cpu_s(thread) for thread in sys._current_frames()}  # noqa: SLF001  # documented
        signal.signal(signal.SIGPROF, self._tick)
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _tick(self, _number: int, interrupted: FrameType | None) -> None:
        if interrupted is not None and interrupted.f_code.co_filename == __file__:
            return  # a tick within a tick, whose time is left out by the outer one
        self.samples += 1
        main = threading.get_ident()
        frames = sys._current_frames()  # noqa: SLF001  # documented
        by_threads_s = 0.0
        for thread, frame in frames.items():
            now_s = _cpu_s(thread)
            spent_s = now_s - self._clocks.get(thread, 0.0)
            self._clocks[thread] = now_s
            by_threads_s += spent_s
            if spent_s > 0:
                self._charge(interrupted if thread == main else frame, spent_s)
        self._clocks = {thread: self._clocks[thread] for thread in frames}
        process_s = time.process_time()
        elsewhere_s = process_s - self._process_s - by_threads_s
        self._process_s = process_s
        if elsewhere_s > 0:
            self._own[_ELSEWHERE, 0] += elsewhere_s
        self._clocks[main] = _cpu_s(main)  # the sampler's own work is nobody's
        self._process_s = time.process_time()

    def _charge(self, at: FrameType | None, spent_s: float) -> None:
        if at is not None and _begins(at):
            at = at.f_back
        names: set[str] = set()
        frame = at
        while frame is not None:
            names.add(_name(frame.f_code))
            frame = frame.f_back
        for name in names:
            self._inclusive[name] += spent_s
        if at is None or _is_loop(at):
            self._own[_IN_LOOP, 0] += spent_s
        elif _IMPORTS in names:
            self._own[_IMPORTS, 0] += spent_s
        else:
            self._own[at.f_code, at.f_lineno or at.f_code.co_firstlineno] += spent_s

    def profile(self) -> Profile:
        """Add up what was charged."""
        own: dict[str, dict[str, float]] = {}
        for (code, number), spent_s in self._own.items():
            lines = own.setdefault(_name(code), {})
            line = _line(code, number)
            lines[line] = lines.get(line, 0.0) + spent_s
        functions = [
            Function(name, sum(lines.values()), self._inclusive.get(name, sum(lines.values())), lines)
            for name, lines in own.items()
        ]
        functions.sort(key=lambda function: -function.self_s)
        return Profile(sum(function.self_s for function in functions), self.samples, functions)


def _cpu_s(thread: int) -> float:
    return time.clock_gettime(time.pthread_getcpuclockid(thread))


def _begins(frame: FrameType) -> bool:
    """Say whether a function has not done anything yet: the signal came before, while its caller was at work."""
    return frame.f_lasti < 0 or frame.f_code.co_code[frame.f_lasti] == _RESUME


def _is_loop(frame: FrameType) -> bool:
    return frame.f_code.co_name == _LOOP[1] and frame.f_code.co_filename.endswith(_LOOP[0])


@cache
def _name(code: CodeType | str) -> str:
    if isinstance(code, str):
        return code
    path = code.co_filename
    if path.startswith("<frozen importlib"):
        return _IMPORTS
    for folder in _FOLDERS:
        if path.startswith(folder):
            path = path[len(folder) + 1 :]
            break
    return f"{path}:{code.co_qualname}"


_PATHS: Mapping[str, str] = sysconfig.get_paths()
# The longest first: site-packages is within the standard library's folder, or the checkout's.
_FOLDERS = sorted({_PATHS["purelib"], _PATHS["platlib"], _PATHS["stdlib"], str(Path(__file__).parents[1])}, key=len)[
    ::-1
]


def _line(code: CodeType | str, number: int) -> str:
    return "" if isinstance(code, str) else f"{number}: {linecache.getline(code.co_filename, number).strip()}"


def main() -> None:
    """Run the shell under the sampler; its exit code is kept."""
    file = Path(sys.argv[1])
    sys.argv = ["bulksend", *sys.argv[2:]]
    from bulksend.cli import main as shell

    sampler = _Sampler()
    sampler.start()
    try:
        shell()
    finally:
        sampler.stop()
        file.write_bytes(msgspec.json.encode(sampler.profile()))


if __name__ == "__main__":
    main()
