"""What a reconciliation takes: how many ids one core compares in a second, and how much memory a whole run needs.

python -m benchmarks.reconcile compare [--ids 1000000] [--rounds 5]
python -m benchmarks.reconcile memory [--big] [IDS …]

There are as many remote ids as desired ones; a tenth of each list is not in the other, so that a tenth is added and as
many are removed. An id is 16 hexadecimal digits; neither list is made in order. Peaks of memory are Linux's own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.request import Request, urlopen

import msgspec

import bulksend
from bulksend.job.desired import DesiredIds, sort_desired
from bulksend.model import Account, Listed, Reply, Secret, Step
from bulksend.providers import PROVIDERS
from bulksend.providers.stream.targets import StreamTargets
from bulksend.providers.targets import Span
from bulksend.reconcile import unordered
from bulksend.reconcile.difference import Line, Mark
from bulksend.reconcile.journal import Journal
from bulksend.reconcile.merge import Merge

T = TypeVar("T")

TARGETS = StreamTargets()
SEGMENT = "everybody"
ENDPOINTS = ("segment.get", "targets.query", "targets.add", "targets.delete")
LIMIT = "1000000/min"
FIRST, SECOND, BIG = 10_000, 1_000_000, 10_000_000

JOB = """
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


def id_of(number: int) -> str:
    """Return an id; different numbers below 2^64 give different ones, and neighbours are far from each other."""
    return f"{number * 0x9E3779B97F4A7C15 % (1 << 64):016x}"


def desired_ids(count: int) -> Iterator[str]:
    """Yield what the segment shall hold."""
    return map(id_of, range(count))


def remote_ids(count: int) -> Iterator[str]:
    """Yield what it holds at first."""
    return map(id_of, range(count // 10, count + count // 10))


def write_desired(path: Path, count: int) -> None:
    """Write the desired list as a CSV file."""
    with path.open("w", encoding="ascii") as file:
        file.write("id\n")
        file.writelines(f"{each}\n" for each in desired_ids(count))


def peak_mib() -> float:
    """Return the peak of this process, without that of the one that made it."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def alone(work: Callable[[], T]) -> T:
    """Do work in a fresh process, so that its memory is in nobody's way."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(work).result()


# The comparison by itself


class Watch:
    """Adds up the time of the blocks that it is entered for."""

    def __init__(self) -> None:
        self.wall_s = 0.0
        self.cpu_s = 0.0

    def __enter__(self) -> Self:
        self.wall_s -= time.perf_counter()
        self.cpu_s -= time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s += time.perf_counter()
        self.cpu_s += time.process_time()


Found = tuple[int, int]
"""How many ids have to be added, and removed."""
Way = Callable[[Path, Any, Watch], Found]


def write_pages(folder: Path, count: int) -> None:
    """Write the bodies of all pages, with the fields that the vendor documents, as the emulator words them."""
    ids = sorted(remote_ids(count))
    for number, start in enumerate(range(0, count, TARGETS.page_most)):
        targets = [
            {
                "app_pk": 1_234_567,
                "segment_id": SEGMENT,
                "target_id": each,
                "created_at": "2026-01-01T12:00:00.000000Z",
            }
            for each in ids[start : start + TARGETS.page_most]
        ]
        following = {"next": f"cursor-{number + 1}"} if start + TARGETS.page_most < count else {}
        body = {"targets": targets, **following, "duration": "0.00ms"}
        (folder / f"{number:06}.json").write_bytes(msgspec.json.encode(body))


def bodies(folder: Path) -> Iterator[bytes]:
    """Yield the bodies, one in memory at a time."""
    return (path.read_bytes() for path in sorted(folder.glob("*.json")))


def read_page(step: Step, body: bytes) -> Listed:
    """Decode a page as a run does."""
    page = TARGETS.read_page(step, "", Reply(200, {}, body))
    assert isinstance(page, Listed)
    return page


def counted(lines: Iterator[Line], found: list[int]) -> Iterator[Line]:
    """Pass lines on, and add up what they hold."""
    for line in lines:
        found[0] += len(line.add)
        found[1] += len(line.remove)
        yield line


def in_order(folder: Path, desired: DesiredIds, watch: Watch, *, keep: Callable[[Iterator[Line]], None]) -> Found:
    """Compare page by page; `keep` takes the lines of each."""
    step = TARGETS.page(SEGMENT, Span(), following=None)
    merge = Merge(desired, 0, desired.blocks, after=None)
    mark, found = Mark(0, 0), [0, 0]
    for body in bodies(folder):
        with watch:
            page = read_page(step, body)
            mark = Mark(mark.pages + 1, mark.count + len(page.ids), None, page.following)
            keep(counted(merge.page(page.ids, mark, ends=page.following is None), found))
    return found[0], found[1]


def in_order_encoded(folder: Path, desired: DesiredIds, watch: Watch) -> Found:
    """Make the journal's lines, and write none."""
    encode = msgspec.json.Encoder().encode

    def keep(lines: Iterator[Line]) -> None:
        for line in lines:
            encode(line)

    return in_order(folder, desired, watch, keep=keep)


def in_order_on_disk(folder: Path, desired: DesiredIds, watch: Watch) -> Found:
    """Write the journal as a run does, each page on disk before the next."""
    with tempfile.TemporaryDirectory() as scratch:
        journal = Journal(Path(scratch) / "pages.jsonl")
        journal.open()
        try:
            return in_order(folder, desired, watch, keep=journal.append)
        finally:
            journal.close()


def without_order(folder: Path, desired: DesiredIds, watch: Watch) -> Found:
    """Keep the pages on disk, and compare them once the last has come."""
    step = TARGETS.page(SEGMENT, Span(), following=None)
    found, count = [0, 0], 0
    with tempfile.TemporaryDirectory() as scratch:
        kept, journal = Journal(Path(scratch) / "pages.jsonl"), Journal(Path(scratch) / "found.jsonl")
        kept.open()
        journal.open()
        try:
            for number, body in enumerate(bodies(folder), 1):
                with watch:
                    page = read_page(step, body)
                    count += len(page.ids)
                    kept.append((Line(ids=page.ids, mark=Mark(number, count, None, page.following)),))
            with watch:
                pages = (line.ids for line in kept.lines())
                lines = unordered.compare(
                    pages, desired, targets=count, scratch_dir=Path(scratch), stopping=lambda: False
                )
                journal.append(counted(lines, found))
        finally:
            kept.close()
            journal.close()
    return found[0], found[1]


def by_sets(folder: Path, _: None, watch: Watch) -> Found:
    """Compare as one would without this package: the standard library's JSON, and two sets of all."""
    there: set[str] = set()
    for body in bodies(folder):
        with watch:
            there.update(target["target_id"] for target in json.loads(body)["targets"])
    with watch:
        with (folder.parent / "desired.csv").open(encoding="utf-8") as file:
            wanted = {line.rstrip("\n") for line in islice(file, 1, None)}
        return len(sorted(wanted - there)), len(sorted(there - wanted))


WAYS: dict[str, Way] = {
    "in order, lines made and not written": in_order_encoded,
    "in order, each page on disk": in_order_on_disk,
    "without order, on disk": without_order,
    "json and sets of the standard library": by_sets,
}


def sorted_ids(folder: Path) -> DesiredIds:
    """Sort the desired list as a run does."""
    return sort_desired(
        base_dir=folder, source="desired.csv", sql=None, key="id", scratch_dir=folder, most_chars=TARGETS.id_most_chars
    )


def measure(name: str, folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Compare several times; the median counts, and of the memory the peak above what the imports take."""
    way = WAYS[name]
    watches = [Watch() for _ in range(rounds)]
    before = peak_mib()
    before_s = time.process_time()
    desired = nullcontext() if way is by_sets else sorted_ids(folder)
    sorting_s = time.process_time() - before_s
    with desired as blocks:
        found = {way(folder / "pages", blocks, watch) for watch in watches}
    peak = peak_mib()
    if found != {(count // 10, count // 10)}:
        raise SystemExit(f"{name}: found {found}")
    cpu = [count / watch.cpu_s / 1e6 for watch in watches]
    return {
        "way": name,
        "million_ids_per_cpu_s": round(statistics.median(cpu), 2),
        "slowest": round(min(cpu), 2),
        "fastest": round(max(cpu), 2),
        "million_ids_per_wall_s": round(statistics.median(count / watch.wall_s / 1e6 for watch in watches), 2),
        "sorting_before_cpu_s": round(sorting_s, 2),
        "mib_more": round(peak - before, 1),
    }


def compare(count: int, rounds: int) -> None:
    """Measure each way in a process of its own, and print a line each.

    Counted are remote ids, each once; the desired ones, as many, come on top. Timed are decoding, comparing and making
    lines, of one process with one thread; not timed is what reads the bodies, and what sorts the desired list before.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "pages").mkdir()
        alone(partial(write_pages, folder / "pages", count))
        write_desired(folder / "desired.csv", count)
        results = [alone(partial(measure, name, folder, count, rounds)) for name in WAYS]
    peer = results[-1]
    for result in results:
        result["times_the_peer"] = round(result["million_ids_per_cpu_s"] / peer["million_ids_per_cpu_s"], 2)
        print(json.dumps({"ids": count, **result}))


# A whole run


class Emulator:
    """Stream's emulator as a process."""

    def __init__(self) -> None:
        arguments = [sys.executable, "-m", "bulksend", "emulate", "stream", "--port", "0", "--until-stdin-closes"]
        arguments += ["--segment", SEGMENT]
        for name in ENDPOINTS:
            arguments += ["--limit", f"stream.{name}={LIMIT}"]
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
        return wait(self.process).ru_maxrss / 1024


@contextmanager
def emulator(count: int) -> Iterator[Emulator]:
    """Run an emulator whose segment holds the remote ids, in order, and forget the calls that this took."""
    started = Emulator()
    try:
        ids, adding = remote_ids(count), TARGETS.add
        assert adding is not None
        while batch := list(islice(ids, adding.ids_most)):
            started.call(TARGETS.write(adding, SEGMENT, batch))
        started.call(TARGETS.page(SEGMENT, Span(), following=None))  # it sorts when it is first asked
        started.ask("reset", b"")
        yield started
    finally:
        if started.process.returncode is None:
            started.process.kill()
            started.process.wait()


def wait(process: subprocess.Popen[bytes]) -> resource.struct_rusage:
    """Wait for the end of a process; returns what it took."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage


def is_exact(url: str, count: int) -> bool:
    """Say whether the emulator's segment holds the desired ids and no others, by its own route."""
    with urlopen(f"{url}/_emulator/targets?segment={SEGMENT}") as reply:
        targets: list[str] = msgspec.json.decode(reply.read())["targets"]
    return targets == sorted(desired_ids(count))


def run(count: int) -> dict[str, Any]:
    """Bring a segment into line with `bulksend run`, in a process of its own, and look at what it took."""
    with tempfile.TemporaryDirectory() as scratch, emulator(count) as vendor:
        folder = Path(scratch)
        write_desired(folder / "desired.csv", count)
        account = vendor.account
        limits = "\n".join(f'"stream.{name}" = "{LIMIT}"' for name in ENDPOINTS)
        job = JOB.format(api_key=account.ids["api_key"], url=account.base_url, segment=SEGMENT, limits=limits)
        (folder / "job.toml").write_text(job, "utf-8")
        arguments = [sys.executable, "-m", "bulksend", "run", str(folder / "job.toml"), "--json", "--yes"]
        env = {**os.environ, "BENCHMARK_SECRET": account.secrets["api_secret"].reveal()}
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            started_s = time.monotonic()
            process = subprocess.Popen(arguments, env=env, stdout=out, stderr=err)
            usage = wait(process)
        elapsed_s = time.monotonic() - started_s
        if process.returncode:
            raise SystemExit(f"exit {process.returncode}: {(folder / 'err').read_text('utf-8')[-2000:]}")
        segment = json.loads((folder / "out").read_bytes())["segment"]
        calls = json.loads(vendor.ask("stats"))["endpoints"]
        exact = alone(partial(is_exact, account.base_url, count))
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


def memory(counts: list[int]) -> None:
    """Measure a run of each size, and print a line each, with the difference to the first."""
    first: float | None = None
    for count in counts:
        result = run(count)
        first = result["peak_mib"] if first is None else first
        print(json.dumps({**result, "mib_above_first": round(result["peak_mib"] - first, 1)}), flush=True)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    comparing = modes.add_parser("compare", help="the comparison by itself, without a network")
    comparing.add_argument("--ids", type=int, default=SECOND)
    comparing.add_argument("--rounds", type=int, default=5)
    running = modes.add_parser("memory", help="whole runs against the emulator, over sockets")
    running.add_argument("ids", nargs="*", type=int, default=[FIRST, SECOND])
    running.add_argument("--big", action="store_true", help=f"also {BIG:,} ids: minutes, and some GiB of the emulator")
    given = parser.parse_args()
    versions = f"Python {platform.python_version()}, msgspec {msgspec.__version__}, bulksend {bulksend.__version__}"
    print(f"{platform.machine()}, {os.cpu_count()} cores, {versions}", file=sys.stderr)
    if given.mode == "compare":
        compare(given.ids, given.rounds)
    else:
        memory([*given.ids, *([BIG] if given.big else [])])


if __name__ == "__main__":
    main()
