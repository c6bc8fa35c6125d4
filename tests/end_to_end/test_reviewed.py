"""What a review found in whole runs; the vendor is a server in the test's own process, and its clock is set ahead."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from aiohttp import web

import bulksend
from bulksend.model import Rejected
from tests.engine.rig import LAUNCHES, job_of

Answer = tuple[int, Any]
MADE: Answer = (201, {"campaign_token": "a" * 32})
NAMES = {"batch": ("create", "update", "list", "get"), "insider": ("create", "launch"), "usercom": ("create", "list")}
NAMES["stream"] = ("campaign.create", "campaign.start", "campaign.get", "segment.create", "segment.get")
LIMITS = {f"{vendor}.{name}": "60000/min" for vendor, names in NAMES.items() for name in names}


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "t0ken")


class Stub:
    """A vendor that answers by function; `calls` counts by method and the path's last part."""

    def __init__(self, answer: Callable[[web.Request, Any], Answer | None]) -> None:
        self.answer = answer
        self.calls: Counter[str] = Counter()
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read() or b"null")
        self.calls[request.path.rstrip("/").rpartition("/")[2] if request.method != "GET" else "get"] += 1
        said = self.answer(request, body)
        if said is None:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.json_response(said[1], status=said[0])

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self.url
        finally:
            await runner.cleanup()


class Job:
    """A job with its audience and its ledger, run in this process."""

    def __init__(self, path: Path, provider: str, *, keys: str = "12", launch: Mapping[str, Any] | None = None) -> None:
        self.path = path
        limits = {name: text for name, text in LIMITS.items() if name.startswith(provider)}
        self.tree = job_of(provider, launch=launch, limits=limits)
        self.tree["audience"]["from"] = str(path / "rows.csv")
        (path / "rows.csv").write_text("key\n" + "".join(f"{key}\n" for key in keys), "utf-8")
        self.ledger = f"sqlite://{path / 'a.db'}"

    async def run(self, url: str, *, precheck: bool = True, **tables: Any) -> bulksend.Report:
        tree = {**deepcopy(self.tree), **tables}
        tree["account"]["base_url"] = url
        return await bulksend.run_async(tree, ledger=self.ledger, precheck=precheck)

    def sender(self, url: str, **tables: Any) -> bulksend.Sender:
        tree = {**deepcopy(self.tree), **tables}
        tree["account"]["base_url"] = url
        tree["audience"].pop("from", None)
        return bulksend.Sender(tree, ledger=self.ledger)


def against(stub: Stub, work: Callable[[str], Awaitable[None]]) -> None:
    async def main() -> None:
        async with stub.serving() as url:
            await work(url)

    asyncio.run(main())


def sends(report: bulksend.Report) -> dict[str, int]:
    return {name: number for name, number in report.to_dict()["sends"].items() if number and name != "total"}


def campaigns(status: str = "completed") -> Callable[[web.Request, Any], Answer]:
    """Answer as Stream does; what was started is in the given state."""

    def answer(request: web.Request, body: Any) -> Answer:
        if request.path == "/campaigns":
            return 201, {"campaign": {"id": body["id"], "status": "draft"}, "duration": "1ms"}
        state = "scheduled" if request.path.endswith("/start") else status
        return 200, {"campaign": {"id": request.path.split("/")[2], "status": state}, "duration": "1ms"}

    return answer


def two_hours_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set ahead the clock that times to come are held against, and no other."""
    later = SimpleNamespace(time=lambda: time.time() + 7200)
    for name in ("opening", "source"):
        monkeypatch.setattr(f"bulksend.api.{name}.time", later)


# The ledger's guard

WAYS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "batch, draft then direct": ("batch", {}, {"send": "direct"}),
    "batch, draft then drafts only": ("batch", {}, {"live": False}),
    "batch, direct then draft": ("batch", {"send": "direct"}, {}),
    "batch, direct then drafts only": ("batch", {"send": "direct"}, {"live": False}),
    "insider, a campaign per row, then one": ("insider", {}, {"campaign_id": 7}),
    "stream, another address": ("stream", {}, {}),
}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("precheck", [True, False])
def test_a_send_is_not_gone_on_with_in_another_way(name: str, precheck: bool, tmp_path: Path) -> None:
    provider, before, after = WAYS[name]
    broken = True

    def answer(request: web.Request, body: Any) -> Answer | None:
        if provider == "batch" and request.path.endswith("create"):
            return None if broken and before else MADE
        if provider == "insider" and request.path == "/v1/single":
            return 200, {"success": True, "campaign_id": 9}
        if request.path == "/campaigns":
            return campaigns()(request, body)
        return (401 if broken else 200), {}

    stub = Stub(answer)
    job = Job(tmp_path, provider, keys="1", launch=before)
    create = {"create": {"title": "Sale ${key}", "language": "en_GB", "per": "row"}} if provider == "insider" else {}

    async def work(url: str) -> None:
        nonlocal broken
        if before:
            assert sends(await job.run(url, **create)) == {"unknown": 1}
        else:
            with pytest.raises(bulksend.BulksendError, match="HTTP 401"):
                await job.run(url, **create)
        broken = False
        made = stub.calls.copy()
        other = url.replace("127.0.0.1", "localhost") if provider == "stream" else url
        launch = {**LAUNCHES[provider], **after}
        with pytest.raises(bulksend.LedgerError, match=r"was sent to .* before, now it names"):
            await job.run(other, precheck=precheck, launch=launch)
        assert stub.calls == made
        status = await bulksend.status_async(
            {**job.tree, **create, "account": {**job.tree["account"], "base_url": url}}, ledger=job.ledger
        )
        assert sends(status) in ({"pending": 1}, {"unknown": 1})

    against(stub, work)


def test_a_draft_is_not_accepted_by_a_file_that_was_changed_to_direct(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulksend.engine.retry.ATTEMPTS_MOST", 1)
    stub = Stub(lambda request, _body: None if request.path.endswith("create") else (500, {}))
    job = Job(tmp_path, "batch", keys="1")

    async def work(url: str) -> None:
        assert sends(await job.run(url)) == {"unknown": 1}
        job.tree["account"]["base_url"] = url
        with pytest.raises(bulksend.BulksendError):
            await bulksend.resolve_async(job.tree, accept=["1"], ledger=job.ledger)
        job.tree["launch"]["send"] = "direct"
        with pytest.raises(bulksend.BulksendError):
            await bulksend.resolve_async(job.tree, accept=["1"], ledger=job.ledger)

    against(stub, work)


# Times that pass


@pytest.mark.parametrize(
    "shape",
    [
        "one time",
        "a time per row",
        pytest.param("chunks"),
        pytest.param("code"),
    ],
)
@pytest.mark.parametrize("precheck", [True, False])
def test_followed_campaigns_go_on_after_their_time(
    shape: str, precheck: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    stub = Stub(campaigns("scheduled"))
    job = Job(tmp_path, "stream")
    job.tree["start"] = {"scheduled_for": "${at}" if shape == "a time per row" else at}
    job.tree["watch"] = {"every": "1 s"}
    (tmp_path / "rows.csv").write_text(f"key,at\n1,{at}\n2,{at}\n", "utf-8")
    if shape == "chunks":
        job.tree["audience"]["chunk"] = 1
        job.tree["launch"] = {**LAUNCHES["stream"], "name": "Sale", "user_ids": "${key[]}"}
        del job.tree["launch"]["segment_ids"]

    async def run(url: str) -> bulksend.Report:
        if shape != "code":
            return await job.run(url, precheck=precheck)
        async with job.sender(url) as sender:
            return await sender.send([{"key": "1"}, {"key": "2"}])

    async def work(url: str) -> None:
        running = asyncio.ensure_future(run(url))
        while stub.calls["get"] < 2 and not running.done():
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        two_hours_later(monkeypatch)
        stub.answer = campaigns()
        assert sends(await run(url)) == {"accepted": 2}
        assert (stub.calls["campaigns"], stub.calls["start"]) == (2, 2)

    against(stub, work)


def test_a_time_that_passes_while_rows_come_from_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    stub = Stub(lambda _request, _body: (201, {"id": 7}))
    job = Job(tmp_path, "usercom", launch={"eta": at})
    engines: list[Any] = []

    async def rows() -> AsyncIterator[dict[str, str]]:
        yield {"key": "1"}
        while not stub.calls["webpush-campaign"]:
            await asyncio.sleep(0.01)
        two_hours_later(monkeypatch)
        engines[0]._wall = lambda: time.time() + 7200
        yield {"key": "2"}

    async def work(url: str) -> None:
        async with job.sender(url) as sender:
            engines.append(sender._run._engine)
            report = await sender.send(rows())
        assert sends(report) == {"accepted": 1, "rejected": 1}
        assert "time has passed" in str(report.failures[0].reason)
        assert stub.calls["webpush-campaign"] == 1

    against(stub, work)


def test_an_error_behind_a_hundred_late_rows_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    stub = Stub(lambda _request, _body: (201, {"id": 7}))
    job = Job(tmp_path, "usercom", launch={"eta": "${at}", "name": "${n}"})
    rows = "key,at,n\n" + "".join(f"{row},{at},Sale\n" for row in range(101))
    (tmp_path / "rows.csv").write_text(rows, "utf-8")

    async def work(url: str) -> None:
        assert sends(await job.run(url)) == {"accepted": 101}
        (tmp_path / "rows.csv").write_text(rows + "x,2099-01-01T00:00:00Z,\n", "utf-8")
        two_hours_later(monkeypatch)
        with pytest.raises(bulksend.JobError):
            await job.run(url)

    against(stub, work)


# Rows from code


def test_an_unknown_of_an_earlier_run_is_looked_up_with_rows_from_code(tmp_path: Path) -> None:
    broken, started = True, False

    def answer(request: web.Request, body: Any) -> Answer | None:
        nonlocal started
        if request.path.endswith("/start"):
            started = True
            return None
        return (500, {}) if broken and request.method == "GET" else campaigns("in_progress")(request, body)

    stub = Stub(answer)
    job = Job(tmp_path, "stream")

    async def work(url: str) -> None:
        nonlocal broken
        async with job.sender(url) as sender:
            assert sends(await sender.send([{"key": "1"}])) == {"unknown": 1}
        broken = False
        async with job.sender(url) as sender:
            assert sends(await sender.send([{"key": "1"}])) == {"accepted": 1}
        assert started
        assert stub.calls["start"] == 1

    against(stub, work)


def test_a_begun_send_whose_row_is_unfit_now_leaves_the_job_incomplete(tmp_path: Path) -> None:
    broken = True
    stub = Stub(lambda request, _body: MADE if request.path.endswith("create") else (401 if broken else 200, {}))
    job = Job(tmp_path, "batch", launch={"messages": [{"language": "en", "body": "${text}"}]})

    async def work(url: str) -> None:
        nonlocal broken
        with pytest.raises(bulksend.BulksendError, match="HTTP 401"):
            async with job.sender(url) as sender:
                await sender.send([{"key": "1", "text": "Hi"}])
        broken = False
        async with job.sender(url) as sender:
            report = await sender.send([{"key": "1", "text": ""}, {"key": "2", "text": "Hi"}])
        assert sends(report) == {"accepted": 1, "pending": 1}

    against(stub, work)


def test_all_rows_from_code_are_counted_though_their_account_is_over(tmp_path: Path) -> None:
    stub = Stub(lambda request, _body: (401, {}) if "/A/" in request.path else MADE)
    job = Job(tmp_path, "batch", launch={"send": "direct"})
    job.tree["account"] = {"provider": "batch", "rest_key": "env:SECRET", "A": {"api_key": "A"}, "B": {"api_key": "B"}}
    job.tree["audience"]["account"] = "${b}"
    rows = [{"key": f"{name}{number}", "b": name} for name, many in (("A", 2500), ("B", 5)) for number in range(many)]

    async def work(url: str) -> None:
        with pytest.raises(bulksend.BulksendError) as ended:
            async with job.sender(url) as sender:
                await sender.send(rows)
        assert ended.value.report is not None
        assert sends(ended.value.report) == {"accepted": 5, "pending": 2500}

    against(stub, work)


def test_a_second_batch_of_rows_from_code_has_its_canary_too(tmp_path: Path) -> None:
    bad = False
    stub = Stub(lambda _request, _body: (400, {}) if bad else MADE)
    job = Job(tmp_path, "batch", launch={"send": "direct"})
    job.tree["policy"] = {"canary": 5}

    async def both(sender: bulksend.Sender, *some: list[dict[str, str]]) -> None:
        async with sender:
            for rows in some:
                await sender.send(rows)

    async def work(url: str) -> None:
        nonlocal bad
        first = [{"key": f"first{number}"} for number in range(3)]
        async with job.sender(url) as sender:
            await sender.send(first)
        bad = True
        with pytest.raises(bulksend.GuardError):
            await both(job.sender(url), first, [{"key": f"next{number}"} for number in range(20)])
        assert stub.calls["create"] <= 5

    against(stub, work)


# Single calls


@pytest.mark.parametrize("status", [400, 424])
def test_a_segment_that_is_refused_at_once_is_rejected_at_once(status: int) -> None:
    stub = Stub(lambda _request, _body: (status, {"code": 4, "message": "no"}))

    async def work(url: str) -> None:
        async with bulksend.Client({**job_of("stream")["account"], "base_url": url}) as client:
            answer = await client.call("stream.segment.create", {"type": "user", "name": "x", "all_users": True})
            assert isinstance(answer.outcome, Rejected)
            for ref in ("..", "."):
                with pytest.raises(bulksend.JobError, match="ref"):
                    await client.call("stream.campaign.delete", ref=ref)
        assert sum(stub.calls.values()) == 1

    against(stub, work)
