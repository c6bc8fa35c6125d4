"""Whole runs of a segment job against Stream's emulator, over sockets, for the memory that they take."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import msgspec

from benchmarks.reconciling.ids import DESIRED, SEGMENT, alone, desired_ids, remote_ids, write_desired
from bulksend.model import Account, Secret, Step
from bulksend.providers import PROVIDERS
from bulksend.providers.stream.targets import StreamTargets
from bulksend.providers.targets import Span

__all__ = ["run"]

_TARGETS = StreamTargets()
_ENDPOINTS = ("segment.get", "targets.query", "targets.add", "targets.delete")
_LIMIT = "1000000/min"
_JOB = """
job = "reconcile"
[account]
provider = "stream"
api_key = "{api_key}"
api_secret = "env:BENCHMARK_SECRET"
base_url = "{url}"
[segment]
id = "{segment}"
[desired]
from = "desired.csv"
key = "id"
[limits]
{limits}
"""


class _Emulator:
    """Stream's emulator as a process."""

    def __init__(self) -> None:
        arguments = [sys.executable, "-m", "bulksend", "emulate", "stream", "--port", "0", "--until-stdin-closes"]
        arguments += ["--segment", SEGMENT]
        for name in _ENDPOINTS:
            arguments += ["--limit", f"stream.{name}={_LIMIT}"]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        ready = json.loads(self.process.stdout.readline())["stream"]
        secrets = {"api_secret": Secret(ready["api_secret"])}
        self.account = Account("benchmark", "stream", ready["url"], {"api_key": ready["api_key"]}, secrets)
        self._headers = PROVIDERS["stream"].headers(self.account)

    def call(self, step: Step) -> None:
        """Make a call of the vendor's own."""
        call = PROVIDERS["stream"].call(step, self.account, self._headers, repeats=0)
        with urlopen(Request(call.url, call.body, dict(call.headers), method=call.endpoint.method)) as reply:
            reply.read()

    def ask(self, path: str, data: bytes | None = None) -> bytes:
        """Ask the emulator itself."""
        with urlopen(f"{self.account.base_url}/_emulator/{path}", data) as reply:
            answer: bytes = reply.read()
        return answer

    def peak_mib(self) -> float:
        """End it, and return its peak."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return _wait(self.process).ru_maxrss / 1024


@contextmanager
def _emulator(count: int) -> Iterator[_Emulator]:
    """Run an emulator whose segment holds the remote ids, in order, and forget the calls that this took."""
    started = _Emulator()
    try:
        ids, adding = remote_ids(count), _TARGETS.add
        assert adding is not None
        while batch := list(islice(ids, adding.ids_most)):
            started.call(_TARGETS.write(adding, SEGMENT, batch))
        started.call(_TARGETS.page(SEGMENT, Span(), following=None))  # it sorts when it is first asked
        started.ask("reset", b"")
        yield started
    finally:
        if started.process.returncode is None:
            started.process.kill()
            started.process.wait()


def _wait(process: subprocess.Popen[bytes]) -> resource.struct_rusage:
    """Wait for the end of a process; returns what it took."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage


def _is_exact(url: str, count: int) -> bool:
    """Say whether the emulator's segment holds the desired ids and no others, by its own route."""
    with urlopen(f"{url}/_emulator/targets?segment={SEGMENT}") as reply:
        targets: list[str] = msgspec.json.decode(reply.read())["targets"]
    return targets == sorted(desired_ids(count))


def run(count: int) -> dict[str, Any]:
    """Bring a segment into line with `bulksend run`, in a process of its own, and look at what it took."""
    with tempfile.TemporaryDirectory() as scratch, _emulator(count) as vendor:
        folder = Path(scratch)
        write_desired(folder / DESIRED, count)
        account = vendor.account
        limits = "\n".join(f'"stream.{name}" = "{_LIMIT}"' for name in _ENDPOINTS)
        job = _JOB.format(api_key=account.ids["api_key"], url=account.base_url, segment=SEGMENT, limits=limits)
        (folder / "job.toml").write_text(job, "utf-8")
        arguments = [sys.executable, "-m", "bulksend", "run", str(folder / "job.toml"), "--json", "--yes"]
        env = {**os.environ, "BENCHMARK_SECRET": account.secrets["api_secret"].reveal()}
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            started_s = time.monotonic()
            process = subprocess.Popen(arguments, env=env, stdout=out, stderr=err)
            usage = _wait(process)
        elapsed_s = time.monotonic() - started_s
        if process.returncode:
            raise SystemExit(f"exit {process.returncode}: {(folder / 'err').read_text('utf-8')[-2000:]}")
        segment = json.loads((folder / "out").read_bytes())["segment"]
        calls = json.loads(vendor.ask("stats"))["endpoints"]
        exact = alone(partial(_is_exact, account.base_url, count))
        emulator_mib = vendor.peak_mib()
    # What Linux says of a process is at least what its parent had taken when it was made.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if usage.ru_maxrss <= own:
        raise SystemExit(f"the run's peak cannot be told from that of the benchmark, {own / 1024:.1f} MiB")
    return {
        "ids": count,
        "exact": exact,
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
        "added": segment["added"],
        "removed": segment["removed"],
        "drift": segment["drift"],
        "left": segment["left"],
        "pages_read": calls["stream.targets.query"]["calls"],
        "add_calls": calls["stream.targets.add"]["calls"],
        "delete_calls": calls["stream.targets.delete"]["calls"],
        "elapsed_s": round(elapsed_s, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "emulator_peak_mib": round(emulator_mib, 1),
    }
