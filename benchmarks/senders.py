"""Each who sends, in a process of its own, on the same work; and how fast it was."""

from __future__ import annotations

import json
import math
import operator
import re
import resource
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import msgspec

from benchmarks.launches import PATH, ROOT, TOKEN, Work

__all__ = ["BULKSEND", "Sent", "Value", "bulksend", "client", "hey", "medians", "row_of", "wrk"]

BULKSEND = ("-m", "bulksend")
Value = float | int | str | bool | None


class Sent(msgspec.Struct, frozen=True):
    """How one run went."""

    sends: int
    rate: float
    """Sends per second from the first call to the last reply; not a number where bulksend finds a run too short."""
    whole_rate: float
    """The same from the start of the process to its end."""
    cpu_us: float
    """CPU of the whole process per send, in µs, user's and system's."""
    loop_cpu_us: float | None = None
    """The same without what goes before the first call; where the process says so."""


class _Ended(NamedTuple):
    out: str
    took_s: float
    cpu_s: float
    answered: int
    """What the sink says that it has answered meanwhile."""


def _run(command: Sequence[str], work: Work) -> _Ended:
    """Run to the end; both outputs go to files, so that reading them takes no CPU from anybody."""
    with tempfile.TemporaryFile(dir=work.job.parent) as out, tempfile.TemporaryFile(dir=work.job.parent) as told:
        answered = _answered(work)
        before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        code = subprocess.run(command, cwd=ROOT, env=work.environment, stdout=out, stderr=told, check=False).returncode
        took_s, after = time.perf_counter() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
        if code:
            told.seek(0)
            raise SystemExit(f"{' '.join(command)} exited with {code}:\n{told.read().decode(errors='replace')[-2000:]}")
        out.seek(0)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return _Ended(out.read().decode(), took_s, cpu_s, _answered(work) - answered)


def _answered(work: Work) -> int:
    ca = work.environment.get("SSL_CERT_FILE")
    tls = ssl.create_default_context(cafile=ca) if work.url.startswith("https:") else None
    with urlopen(f"{work.url}/count", context=tls) as reply:
        return int(reply.read())


def bulksend(work: Work, *, program: Sequence[str] = BULKSEND) -> Sent:
    """Run the job as a user does, from a ledger that is not there yet, with logs and metrics."""
    with tempfile.TemporaryDirectory(dir=work.job.parent) as fresh:
        ledger, log = Path(fresh, "bulksend.db"), Path(fresh, "log.jsonl")
        options = ("--json", "--yes", "--ledger", f"sqlite://{ledger}")
        observers = ("--log", "json", "--log-file", str(log), "--metrics", "127.0.0.1:0")
        ended = _run((sys.executable, *program, "run", str(work.job), *options, *observers), work)
    summary = json.loads(ended.out)
    accepted = summary["sends"]["accepted"]
    if (accepted, ended.answered) != (work.count, work.count):
        raise SystemExit(f"{work.count} sends were to be made once each, {ended.answered} were answered: {summary}")
    rate = math.nan if summary["rate_per_min"] is None else summary["rate_per_min"] / 60
    return Sent(accepted, rate, accepted / ended.took_s, ended.cpu_s / accepted * 1e6)


def client(name: str, work: Work, *, concurrency: int, most: int | None = None) -> Sent:
    """Run one of the bare loops, on the first `most` bodies."""
    module = "benchmarks.locust_user" if name == "locust" else "benchmarks.clients"
    count = min(work.count, most or work.count)
    command = (sys.executable, "-m", module, name, work.url, str(work.bodies), str(count), str(concurrency))
    ended = _run(command, work)
    said = json.loads(ended.out)
    if ended.answered != count:
        raise SystemExit(f"{name} was to make {count} sends, {ended.answered} were answered")
    per_send_us = 1e6 / count
    return Sent(
        said["sends"],
        count / said["took_s"],
        count / ended.took_s,
        ended.cpu_s * per_send_us,
        said["cpu_s"] * per_send_us,
    )


def wrk(work: Work, *, concurrency: int, seconds: int) -> Sent | None:
    """Run wrk on one thread, with one body for all; None where it is not installed."""
    if not (path := shutil.which("wrk")):
        return None
    script = work.job.parent / "post.lua"
    # wrk knows the escapes of Lua, which has \" and \\ in common with JSON.
    fields = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    headers = "".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}\n" for name, value in fields.items())
    script.write_text(f'wrk.method = "POST"\nwrk.body = {json.dumps(_first_body(work))}\n{headers}', "utf-8")
    flags = ("-t", "1", "-c", str(concurrency), "-d", f"{seconds}s", "-s", str(script))
    ended = _run((path, *flags, f"{work.url}{PATH}"), work)
    count = int(_found(r"(\d+) requests in", ended.out))
    if "Non-2xx" in ended.out or "Socket errors" in ended.out:
        raise SystemExit(f"wrk met errors:\n{ended.out}")
    rate = float(_found(r"Requests/sec:\s+([\d.]+)", ended.out))
    return Sent(count, rate, count / ended.took_s, ended.cpu_s / count * 1e6)


def hey(work: Work, *, concurrency: int) -> Sent | None:
    """Run hey, which takes every core, with one body for all; None where it is not installed."""
    if not (path := shutil.which("hey")):
        return None
    body = work.job.parent / "body.json"
    body.write_text(_first_body(work), "utf-8")
    count = work.count // concurrency * concurrency  # each of its workers makes as many
    flags = ("-n", str(count), "-c", str(concurrency), "-m", "POST", "-D", str(body), "-T", "application/json")
    ended = _run((path, *flags, "-H", f"Authorization: Bearer {TOKEN}", f"{work.url}{PATH}"), work)
    if int(_found(r"\[200\]\s+(\d+) responses", ended.out)) != count:
        raise SystemExit(f"hey met errors:\n{ended.out}")
    rate = float(_found(r"Requests/sec:\s+([\d.]+)", ended.out))
    return Sent(count, rate, count / ended.took_s, ended.cpu_s / count * 1e6)


def _first_body(work: Work) -> str:
    with work.bodies.open(encoding="utf-8") as lines:
        return next(lines).rstrip()


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"{pattern} is not in:\n{text}")
    return found[1]


def medians(
    contenders: Mapping[str, Callable[[], Sent | None]],
    *,
    rounds: int,
    by: Callable[[Sent], float] = operator.attrgetter("rate"),
) -> dict[str, Sent]:
    """Let them send in turn, so many times, and return of each the run that is the median `by` a figure.

    What else the machine does then meets all of them alike. Who is not installed is left out.
    """
    runs: dict[str, list[Sent]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            if (sent := run()) is not None:
                if math.isnan(by(sent)):
                    raise SystemExit(
                        f"{name} was done with {sent.sends} sends too soon to be compared: more are needed"
                    )
                runs[name].append(sent)
    return {name: sorted(each, key=by)[len(each) // 2] for name, each in runs.items() if each}


def row_of(sent: Sent, against: Sent) -> dict[str, Value]:
    """Return the columns of a run, beside that of another."""
    return {
        "sends": sent.sends,
        "sends/s": sent.rate,
        "times the bare loop": sent.rate / against.rate,
        "sends/s, whole command": sent.whole_rate,
        "CPU µs/send, loop": sent.loop_cpu_us,
        "CPU µs/send, whole command": sent.cpu_us,
    }
