"""Real processes of the `bulksend` command that start in a tenth of the time: forked from one that has its imports."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.reduction import DupFd
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any, TextIO

COMMAND = "python -m bulksend"
PRELOADED = ["bulksend.cli.app", "bulksend.cli.emulate", "bulksend.emulators.server", "bulksend.api.blocking", "duckdb"]


get_temp_dir()  # now, and not where a test has pointed `tempfile` by the time it starts its first process


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, "tests.forked"])
    return context


class _End:
    """A descriptor that is handed over with the arguments of a process."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Callable[..., int], tuple[Any]]:
        return _taken, (DupFd(self._number),)


def _taken(handed: Any) -> int:
    return handed.detach()


def _main(arguments: Sequence[str], cwd: str, env: Mapping[str, str], out: int, err: int | None) -> None:
    for end, number in ((out, 1), (err, 2)):
        if end is not None:
            os.dup2(end, number)
            os.close(end)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # as it is in a process that was not forked: for TMPDIR to say
    from bulksend.cli.app import app

    app(list(arguments), prog_name="bulksend")


class Forked:
    """A running command, as far as tests need what `subprocess.Popen` has; stdin is /dev/null.

    Its own name in the process table is that of the process it was forked from.
    """

    def __init__(
        self, arguments: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str], err: bool = True
    ) -> None:
        out_fd, out_end = os.pipe()
        err_fd, err_end = os.pipe() if err else (None, None)
        self.stdout: TextIO = open(out_fd, encoding="utf-8")  # noqa: PTH123, SIM115
        self.stderr: TextIO | None = None if err_fd is None else open(err_fd, encoding="utf-8")  # noqa: PTH123, SIM115
        self._said: tuple[str, str] | None = None
        given = (list(arguments), str(cwd or Path.cwd()), dict(env))
        ends = (_End(out_end), None if err_end is None else _End(err_end))
        self._process = _context().Process(target=_main, args=(*given, *ends), daemon=True)
        self._process.start()
        for end in (out_end, err_end):
            if end is not None:
                os.close(end)

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None
        return pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(COMMAND, timeout or 0.0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        if self._said is not None:
            return self._said
        said = {}

        def read(name: str, stream: TextIO) -> None:
            said[name] = stream.read()

        streams = {name: one for name, one in (("out", self.stdout), ("err", self.stderr)) if one is not None}
        readers = [threading.Thread(target=read, args=one, daemon=True) for one in streams.items()]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(COMMAND, timeout or 0.0)
        for stream in streams.values():
            stream.close()
        self._said = said["out"], said.get("err", "")
        return self._said

    def send_signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
