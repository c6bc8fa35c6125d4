"""A job per provider with one percent of every fault on every route; each row is judged by the emulator's own log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end import jobs
from tests.end_to_end.vendor import Done, Folder, Vendor, finish

ROWS = 500
LOST = ("500", "503", "500-after", "503-after", "reset-before", "reset-after", "truncated", "not-json", "slow=100ms")
FAULTS = ("429", "429-retry-after=1", *LOST)
# The vendor is a little away and nearly without a limit: all rows are under way at once, and the pauses that 429s ask
# for, 5 s and more with Batch, are few.
AWAY = ("--latency", "200ms±50ms")
LIMIT = "2000/s"
Judge = Callable[[Vendor], Counter[str]]


def insider(vendor: Vendor) -> Counter[str]:
    return Counter(key for one in vendor.effects("insider.launch") for key in one["body"]["target"]["values"])


def usercom(vendor: Vendor) -> Counter[str]:
    return Counter(f"k{one['body']['segment']:04}" for one in vendor.effects("usercom.create"))


def batch(vendor: Vendor) -> Counter[str]:
    """Count how often each row's campaign, by its name, became live: in its create, or by an update of its own."""
    created = vendor.effects("batch.create")
    names = {one["ref"]: one["body"]["name"].split()[1] for one in created}
    went = [one["ref"] for one in created if one["body"]["live"]]
    went += [one["ref"] for one in vendor.effects("batch.update") if one["body"]["live"]]
    return Counter(names[ref] for ref in went)


def stream(vendor: Vendor) -> Counter[str]:
    """Count how often each row was in a campaign that was started."""
    targets = {
        one["ref"]: one["body"].get("user_ids") or [name.split("-")[1] for name in one["body"]["segment_ids"]]
        for one in vendor.effects("stream.campaign.create")
    }
    return Counter(key for one in vendor.effects("stream.campaign.start") for key in targets[one["ref"]])


@dataclass(frozen=True)
class Case:
    """A job; `unknown` is how many sends may stay unknown, None where not every lost reply can be looked up."""

    provider: str
    text: str
    writes: tuple[str, ...]
    judge: Judge
    unknown: int | None
    reads: tuple[str, ...] = ()
    chunk: int = 1
    more_faults: tuple[str, ...] = ()

    def flags(self) -> list[str]:
        """Return faults on every route that the job uses: so many percent of each that each kind strikes."""
        share = "1%" if self.chunk == 1 else "3%"
        # With Batch a 429 costs 5 s, and lookups come one after another: theirs are struck by the other kinds.
        on_reads = LOST if self.provider == "batch" else FAULTS
        faults = [(name, kind) for name in self.writes for kind in (*FAULTS, *self.more_faults)]
        faults += [(name, kind) for name in self.reads for kind in on_reads]
        flags = [part for name, kind in faults for part in ("--fault", f"{name}={kind}:{share}")]
        return flags + [part for name in self.writes for part in ("--limit", f"{name}={LIMIT}")]


INSIDER = ("insider.create", "insider.launch")
INSIDER_KINDS = ("424", "424-after")
STREAM = ("stream.campaign.create", "stream.campaign.start")
STREAM_READS = ("stream.campaign.get",)
SEGMENT = 'segment_ids = ["segment-${key}"]'
IN_CHUNKS = jobs.STREAM.replace("Sale ${key}", "Sale")
CASES = {
    "insider": Case("insider", jobs.INSIDER, INSIDER, insider, None, more_faults=INSIDER_KINDS),
    "insider, a campaign per row": Case(
        "insider",
        jobs.INSIDER.replace('title = "Sale"\nlanguage', 'per = "row"\ntitle = "Sale ${key}"\nlanguage'),
        INSIDER,
        insider,
        None,
        more_faults=INSIDER_KINDS,
    ),
    # A create that was lost before its effect is not in the list, and that is no proof: it stays unknown.
    "usercom": Case("usercom", jobs.USERCOM, ("usercom.create",), usercom, None, reads=("usercom.list",)),
    "batch, draft and live": Case(
        "batch", jobs.BATCH, ("batch.create", "batch.update"), batch, 0, reads=("batch.get",)
    ),
    "batch, direct": Case(
        "batch",
        jobs.BATCH.replace("[launch]\n", '[launch]\nsend = "direct"\n'),
        ("batch.create",),
        batch,
        None,
        reads=("batch.list",),
    ),
    "stream": Case("stream", jobs.STREAM, STREAM, stream, 0, reads=STREAM_READS),
    "stream, users in chunks": Case(
        "stream", IN_CHUNKS.replace(SEGMENT, 'user_ids = "${key[]}"'), STREAM, stream, 0, reads=STREAM_READS, chunk=5
    ),
    "stream, segments in chunks": Case(
        "stream",
        IN_CHUNKS.replace(SEGMENT, 'segment_ids = "${segment[]}"'),
        STREAM,
        stream,
        0,
        reads=STREAM_READS,
        chunk=10,
    ),
}


# The jobs of one group run at the same time: most of what they do is wait.
GROUPS = {
    "insider and stream": ("insider", "insider, a campaign per row", "stream"),
    "stream in chunks": ("stream, users in chunks", "stream, segments in chunks"),
    "usercom and batch": ("usercom", "batch, draft and live", "batch, direct"),
}
KEYS = [f"k{one:04}" for one in range(1, ROWS + 1)]


@pytest.mark.parametrize("group", GROUPS)
def test_every_row_ends_right_whatever_fails(tmp_path: Path, group: str) -> None:
    with ExitStack() as stack:
        running = []
        for number, name in enumerate(GROUPS[group]):
            case = CASES[name]
            vendor = stack.enter_context(Vendor(*case.flags(), *AWAY, "--seed", "11", provider=case.provider))
            path = tmp_path / str(number)
            path.mkdir()
            folder = write(path, case, vendor)
            process = folder.start("run", "job.toml", "--json", "--log-file", "events.jsonl")
            running.append((name, case, vendor, folder, process))
        for name, case, vendor, folder, process in running:
            try:
                judge(name, case, vendor, folder, finish(process))
            except AssertionError as wrong:
                wrong.add_note(f"in the job {name!r}")
                raise


def write(path: Path, case: Case, vendor: Vendor) -> Folder:
    audience = jobs.AUDIENCE + (f"chunk = {case.chunk}\n" if case.chunk > 1 else "")
    text = jobs.head(vendor) + audience + case.text + jobs.limits(LIMIT, *case.writes, *case.reads)
    rows = [(key, f"segment-{key}" if case.provider == "stream" else int(key[1:])) for key in KEYS]
    return jobs.folder_of(path, vendor, text, rows=rows)


def judge(name: str, case: Case, vendor: Vendor, folder: Folder, done: Done) -> None:
    assert done.code in (0, 3), done.err
    sends, events = done.sends, folder.settled()
    assert sends["total"] == len(events) == ROWS // case.chunk
    assert done.json["rows"] == ROWS
    assert sends["accepted"] + sends["rejected"] + sends["unknown"] == sends["total"]
    assert sends["pending"] == sends["rejected"] == 0
    ended = Counter(one["event"] for one in events.values())
    assert {kind: sends[kind.removeprefix("send.")] for kind in ended} == ended

    sent = case.judge(vendor)
    assert set(sent) <= set(KEYS)
    assert max(sent.values()) == 1
    if case.chunk == 1:
        lost = [key for key, event in events.items() if event["event"] == "send.accepted" and key not in sent]
        assert lost == []
    # No row is doubled, so these hold only where each send that is called accepted took effect.
    assert sends["accepted"] * case.chunk <= len(sent) <= (sends["accepted"] + sends["unknown"]) * case.chunk
    struck = sum((Counter(vendor.stats(each)["faults"]) for each in case.writes), Counter[str]())
    # Of the kinds that were asked for, nearly all have struck: the rest is for the dice.
    assert len(struck) >= (6 if case.chunk > 1 else len(FAULTS) + len(case.more_faults) - 2), struck
    if case.unknown is not None:
        assert sends["unknown"] <= case.unknown, [one for one in events.values() if one["event"] == "send.unknown"]
    else:
        # At most those that were struck by something other than a 429 or a delay.
        assert sends["unknown"] <= struck.total() - struck["429"] - struck["429-retry-after"] - struck["slow"]
    if name in ("usercom", "batch, direct"):
        # What took effect was found in the list, but for a list that could not be read.
        assert len(sent) - sends["accepted"] <= 2
    assert folder.command("status", "job.toml", "--json").json["sends"] == sends
    if not sends["unknown"]:
        assert folder.run().json["calls"]["made"] == 0
