"""CPU per send, beside that of a bare loop, and where it goes."""

from __future__ import annotations

import operator
from functools import partial
from pathlib import Path

import msgspec

from benchmarks.disk import scratch
from benchmarks.frame import Aim, Result, Row, serving
from benchmarks.launches import prepare
from benchmarks.sampler import Function, Profile
from benchmarks.senders import Sent, Value, bulksend, client, medians
from benchmarks.side_by_side import CONCURRENCY

__all__ = ["measure"]

_NAMED = 0.02
_ROUNDS = 3
_ABOUT = """\
{count:,} launches without a limit, as in `sends`. CPU per send is that of the whole process, user's and system's, with
what a run of {few:,} launches takes taken off, so that start and end are not in it; the bare loop's is that of its loop
with {concurrency} workers. Median of {rounds} runs, in turn, without a profiler. Shares are from one more run under a
sampler ({samples:,} samples, start and end included): "self" is what a function takes itself and in C that it calls,
"with callees" all that it leads to. Named is every function and every line of at least {named:.0%}."""


def measure(*, full: bool) -> Result:
    """Measure both without a profiler, then bulksend under one."""
    count, few = (200_000, 2_000) if full else (40_000, 1_000)
    with scratch() as folder, serving("sink") as sink:
        work = prepare(folder / "many", sink["url"], count)
        start = prepare(folder / "few", sink["url"], few)
        sent = medians(
            {
                "many": partial(bulksend, work),
                "few": partial(bulksend, start),
                "bare": partial(client, "aiohttp", work, concurrency=CONCURRENCY),
            },
            rounds=_ROUNDS,
            by=operator.attrgetter("cpu_us"),
        )
        file = Path(folder, "profile.json")
        bulksend(work, program=("-m", "benchmarks.sampler", str(file)))
        profile = msgspec.json.decode(file.read_bytes(), type=Profile)
    ours_us = _beyond(sent["many"], sent["few"])
    bare_us = sent["bare"].loop_cpu_us
    named = [function for function in profile.functions if function.self_s >= _NAMED * profile.cpu_s]
    rest_s = profile.cpu_s - sum(function.self_s for function in named)
    rows = [
        Row("bulksend", {"CPU µs/send": ours_us}),
        Row("bare loop", {"CPU µs/send": bare_us}),
        *(_row(function, profile, count) for function in named),
        Row(
            f"{len(profile.functions) - len(named)} functions of less",
            {"CPU µs/send": rest_s / count * 1e6, "self": _share(rest_s, profile)},
        ),
    ]
    about = _ABOUT.format(
        count=count, few=few, concurrency=CONCURRENCY, rounds=_ROUNDS, samples=profile.samples, named=_NAMED
    )
    dear = [
        (line, spent_s)
        for function in named
        for line, spent_s in function.lines.items()
        if spent_s >= _NAMED * profile.cpu_s
    ]
    all_dear = sum(
        spent_s >= _NAMED * profile.cpu_s for function in profile.functions for spent_s in function.lines.values()
    )
    text = f"every line of at least {_NAMED:.0%} is named"
    return Result("cpu", about, rows, [Aim(text, len(dear) == all_dear, f"{len(dear)} lines, {len(named)} functions")])


def _beyond(many: Sent, few: Sent) -> float:
    """Return what each further send takes, in µs."""
    return (many.cpu_us * many.sends - few.cpu_us * few.sends) / (many.sends - few.sends)


def _row(function: Function, profile: Profile, count: int) -> Row:
    lines = sorted(function.lines.items(), key=lambda line: -line[1])
    dear = [
        f"{_share(spent_s, profile)} `{line}`" for line, spent_s in lines if line and spent_s >= _NAMED * profile.cpu_s
    ]
    figures: dict[str, Value] = {
        "CPU µs/send": function.self_s / count * 1e6,
        "self": _share(function.self_s, profile),
        "with callees": _share(function.inclusive_s, profile),
    }
    return Row(function.name, figures, "; ".join(dear))


def _share(spent_s: float, profile: Profile) -> str:
    return f"{spent_s / profile.cpu_s:.1%}"
