"""What must always hold: whatever is lost, and whenever a run ends, nothing is sent twice and what is told is so."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulksend.model import Call, NotSent, Reply, State
from tests.engine.rig import LOST, Rig, Said, Script, job_of, loop, reply, simulate

BAD = reply(400, b'{"code": 4}')
FAULTS = ["none", "none", "lost before", "lost after", "500 before", "500 after", "html after", "429", "not sent"]


class Stream:
    """Campaigns by id; each is made once and started once."""

    job = job_of("stream")
    sure = True
    """Every lost reply can be looked up."""

    def __init__(self) -> None:
        self.status: dict[str, str] = {}
        self.sent: Counter[str] = Counter()

    def judge(self, call: Call) -> Reply:
        name = call.endpoint.name.partition(".")[2]
        if name == "campaign.create":
            made = orjson.loads(call.body)["id"]
            if made in self.status:
                return BAD
            self.status[made] = "draft"
        else:
            made = call.url.partition("/campaigns/")[2].partition("?")[0].partition("/")[0]
            if made not in self.status:
                return reply(404, b'{"code": 16}')
        if name == "campaign.start":
            if self.status[made] != "draft":
                return BAD
            self.status[made] = "in_progress"
            self.sent[made] += 1
        return reply(200, orjson.dumps({"campaign": {"id": made, "status": self.status[made]}}))


class Batch:
    """Campaigns by token; a draft may be made more than once, and each is set live once."""

    job = job_of("batch")
    sure = True

    def __init__(self) -> None:
        self.drafts: dict[str, tuple[str, bool]] = {}
        self.sent: Counter[str] = Counter()

    def judge(self, call: Call) -> Reply:
        if call.endpoint.name == "batch.create":
            token = f"{len(self.drafts):08x}"
            self.drafts[token] = orjson.loads(call.body)["name"], False
            return reply(201, orjson.dumps({"campaign_token": token}))
        token = call.url.rpartition("/")[2]
        name, live = self.drafts[token]
        if call.endpoint.name == "batch.get":
            return reply(200, orjson.dumps({"campaign_token": token, "live": live}))
        if live:
            return BAD
        self.drafts[token] = name, True
        self.sent[name] += 1
        return reply(200)


class Usercom:
    """Each create is a send; the list has what was made, two a page."""

    job = job_of("usercom")
    sure = False

    def __init__(self) -> None:
        self.names: list[str] = []

    @property
    def sent(self) -> Counter[str]:
        return Counter(self.names)

    def judge(self, call: Call) -> Reply:
        if call.endpoint.name == "usercom.create":
            self.names.append(orjson.loads(call.body)["name"])
            return reply(201, orjson.dumps({"id": len(self.names)}))
        start = int(call.url.partition("cursor=")[2] or 0)
        some = [{"id": number, "name": name} for number, name in enumerate(self.names, 1)][start : start + 2]
        following = f"https://x.user.com/?cursor={start + 2}" if start + 2 < len(self.names) else None
        return reply(200, orjson.dumps({"results": some, "next": following}))


class Insider:
    """A campaign for each row, titles unique; each launch is a send, and nothing can be looked up."""

    job = job_of("insider", create={"title": "Sale ${key}", "language": "en_GB", "per": "row"})
    sure = False

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.sent: Counter[str] = Counter()

    def judge(self, call: Call) -> Reply:
        body = orjson.loads(call.body)
        if call.endpoint.name == "insider.create":
            if body["title"] in self.titles:
                return BAD
            self.titles.append(body["title"])
            return reply(200, orjson.dumps({"success": True, "campaign_id": len(self.titles)}))
        self.sent[body["target"]["values"][0]] += 1
        return reply(200, orjson.dumps({"success": True, "campaign_id": 7}))


def struck(vendor: Any, call: Call, fault: str) -> Said:
    """Answer a call that a fault strikes before or after its effect."""
    if fault == "not sent":
        return NotSent("no connection")
    if fault == "429":
        return reply(429)
    if not fault.endswith("before"):
        said: Reply = vendor.judge(call)
        if fault == "none":
            return said
    return {"lost": LOST, "500": reply(500), "html": reply(200, b"<html>")}[fault.partition(" ")[0]]


ends = st.tuples(st.sampled_from(["stop", "kill"]), st.floats(0, 40)) | st.none()


@pytest.mark.parametrize("kind", [Stream, Batch, Usercom, Insider])
@settings(max_examples=30, deadline=None)
@given(
    faults=st.lists(st.sampled_from(FAULTS), max_size=40),
    endings=st.lists(ends, min_size=1, max_size=3),
    rows=st.integers(1, 4),
)
def test_nothing_is_sent_twice_and_what_is_told_is_so(
    kind: type[Any],
    tmp_path_factory: pytest.TempPathFactory,
    faults: list[str],
    endings: list[tuple[str, float] | None],
    rows: int,
) -> None:
    path: Path = tmp_path_factory.mktemp("ledger")
    vendor = kind()
    left = list(faults)

    def said(call: Call) -> Said:
        return struck(vendor, call, left.pop(0) if left else "none")

    def rig() -> Rig:
        names = ("campaign.create", "campaign.start", "campaign.get", "create", "update", "get", "list", "launch")
        return Rig(path, Script(dict.fromkeys(names, said)), kind.job, [f"k{number}" for number in range(rows)])

    async def whole(rig: Rig, ending: tuple[str, float] | None) -> None:
        task = asyncio.ensure_future(rig.run())
        if ending is not None:
            loop().call_later(ending[1], rig.sender.stop if ending[0] == "stop" else task.cancel)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        assert set(vendor.sent.values()) <= {1}
        states = await rig.states()
        assert states["accepted"] <= vendor.sent.total() <= rows - states["rejected"]
        if ending is None or (ending[0] == "stop" and not task.cancelled()):
            assert states["sending"] == 0

    for ending in endings:
        simulate(rig, lambda rig, ending=ending: whole(rig, ending))
    left.clear()

    async def last(rig: Rig) -> None:
        await whole(rig, None)
        states = await rig.states()
        assert states.keys() <= {State.ACCEPTED, State.UNKNOWN}, "no more faults: nothing is left, and nothing refused"
        assert states.total() == rows
        # What stays unknown of a vendor that can be asked is a call that had not been made.
        if kind.sure:
            assert states == {"accepted": rows}
            assert vendor.sent.total() == rows

    simulate(rig, last)
