"""bulksend beside the bare aiohttp loop at its best, and beside others; what must hold over plain HTTP and over TLS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.frame import Aim, Result, Row
from benchmarks.launches import Work
from benchmarks.senders import Sent, bulksend, client, hey, medians, row_of, wrk

__all__ = ["CONCURRENCY", "compared"]

CONCURRENCY = 64
_BARE = (32, CONCURRENCY, 128)
_HTTPX_WORKERS = 4
_HTTPX = f"httpx, {_HTTPX_WORKERS} workers"
_ROUNDS = 3
_LEAST, _AIMED_AT = 1.3, 1.8
_HEADROOM = 1.5
_ABOUT = """\
{count:,} launches by one process to one address, no limit, to a sink in a process of its own that answers at once.
bulksend is the shell's `run`: it reads and checks a CSV file, renders each payload, commits an intent and a result to
an SQLite ledger on a disk (WAL, synchronous=FULL), logs to a file and serves metrics. Its peers post the same bodies,
rendered beforehand and in memory, parse each reply and check it, and do nothing else; they have uvloop where they can.
Peers have {concurrency} workers. Median of {rounds} runs, in turn. "loop" is without start and end of the process."""
_SAME_BODY = "sends one body over and over, parses no reply; shown beside"
_CEILING = "no HTTP client: heads made beforehand, replies found by their length; what sink and machine can do"


def compared(name: str, work: Work, *, wrk_s: int) -> Result:
    """Run bulksend, the bare loop, its peers and what is shown beside them in turn."""
    bare = {_bare(each): partial(client, "aiohttp", work, concurrency=each) for each in _BARE}
    slower = {
        _HTTPX: partial(client, "httpx", work, concurrency=_HTTPX_WORKERS, most=work.count // 8),
        "Locust FastHttpUser": partial(client, "locust", work, concurrency=CONCURRENCY, most=work.count // 4),
    }
    beside: dict[str, Callable[[], Sent | None]] = {
        "hey": partial(hey, work, concurrency=CONCURRENCY),
        "wrk": partial(wrk, work, concurrency=CONCURRENCY, seconds=wrk_s),
    }
    raw = {"raw protocol": partial(client, "raw", work, concurrency=CONCURRENCY)}
    everyone: dict[str, Callable[[], Sent | None]] = {
        "bulksend": partial(bulksend, work),
        **bare,
        **slower,
        **beside,
        **raw,
    }
    sent = medians(everyone, rounds=_ROUNDS)
    best = max(bare, key=lambda each: sent[each].rate)
    notes = {
        best: "the bare loop of the comparison",
        _HTTPX: "with more it is slower: its pool looks at every connection each time",
    }
    notes |= dict.fromkeys(beside, _SAME_BODY) | dict.fromkeys(raw, _CEILING)
    return Result(
        name=name,
        about=_ABOUT.format(count=work.count, concurrency=CONCURRENCY, rounds=_ROUNDS),
        rows=[Row(who, row_of(each, sent[best]), notes.get(who, "")) for who, each in sent.items()],
        aims=_aims(sent, bare=best, peers=[*bare, *slower], ceilings=["wrk", *raw]),
        missing=[who for who in everyone if who not in sent],
    )


def _bare(concurrency: int) -> str:
    return f"aiohttp post loop, {concurrency} workers"


def _aims(sent: Mapping[str, Sent], *, bare: str, peers: list[str], ceilings: list[str]) -> list[Aim]:
    rate = sent["bulksend"].rate
    ratio = rate / sent[bare].rate
    fastest = max((who for who in peers if who in sent), key=lambda who: sent[who].rate)
    ceiling = max((who for who in ceilings if who in sent), key=lambda who: sent[who].rate)
    headroom = sent[ceiling].rate / rate
    return [
        Aim(f"≥ {_LEAST} times the bare loop", ratio >= _LEAST, f"{ratio:.2f} times {bare}"),
        Aim(f"≥ {_AIMED_AT} times the bare loop, as the aim", ratio >= _AIMED_AT, f"{ratio:.2f} times"),
        Aim(
            "ahead of every Python peer",
            rate > sent[fastest].rate,
            f"{rate:,.0f}/s, {fastest}: {sent[fastest].rate:,.0f}/s",
        ),
        Aim(
            f"the sink is not the bottleneck: another client gets ≥ {_HEADROOM} times as much out of it",
            headroom >= _HEADROOM,
            f"{ceiling}: {headroom:.2f} times",
        ),
    ]
