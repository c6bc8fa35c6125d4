"""Listing calls page by page through `bulksend.Client`: each vendor's own cursor, and one that leads nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web

import bulksend
from bulksend.providers import PROVIDERS
from tests.test_client import CAMPAIGN, DAYS, LAUNCH, MEP, account, running

FAST = {name: dict.fromkeys(provider.endpoints, "1000/s") for name, provider in PROVIDERS.items()}


async def listed(client: bulksend.Client, endpoint: str, body: Mapping[str, object], **ref: Any) -> list[Any]:
    """Return the bodies of all pages; every page is accepted."""
    bodies = []
    async for answer in client.pages(endpoint, body, **ref):
        answer.raise_for_failure()
        bodies.append(answer.body)
    return bodies


def test_users_of_a_segment_at_usercom(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[Any]:
        async with bulksend.Client(account(vendor), limits=FAST["usercom"]) as client:
            return await listed(client, "usercom.segment_users", {}, ref=1)

    with running(provider="usercom", monkeypatch=monkeypatch) as vendor:
        pages = asyncio.run(main())
    assert [len(page["results"]) for page in pages] == [100, 100, 50]
    assert len({user["id"] for page in pages for user in page["results"]}) == 250


def test_targets_of_a_segment_and_users_of_a_campaign_at_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"user-{number:04}" for number in range(1, 26)]

    async def main() -> tuple[list[Any], list[Any]]:
        async with bulksend.Client(account(vendor), limits=FAST["stream"]) as client:
            (await client.call("stream.segment.create", {"id": "s", "type": "user"})).raise_for_failure()
            (await client.call("stream.targets.add", {"target_ids": ids}, ref="s")).raise_for_failure()
            campaign = {**CAMPAIGN, "id": "c", "user_ids": ids}
            (await client.call("stream.campaign.create", campaign)).raise_for_failure()
            targets = await listed(client, "stream.targets.query", {"limit": 10}, ref="s")
            return targets, await listed(client, "stream.campaign.get", {"limit": 10}, ref="c")

    with running(provider="stream", monkeypatch=monkeypatch) as vendor:
        targets, campaigns = asyncio.run(main())
    assert [[target["target_id"] for target in page["targets"]] for page in targets] == [ids[:10], ids[10:20], ids[20:]]
    assert [user["id"] for page in campaigns for user in page["campaign"]["users"]] == ids


def test_campaigns_at_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> tuple[list[str], list[Any]]:
        async with bulksend.Client(account(vendor), limits=FAST["batch"]) as client:
            made = [await client.call("batch.create", MEP) for _ in range(20)]
            tokens = [answer.body["campaign_token"] for answer in made if isinstance(answer.body, dict)]
            return tokens, await listed(client, "batch.list", {})

    with running(provider="batch", monkeypatch=monkeypatch) as vendor:
        tokens, pages = asyncio.run(main())
    # The last page is full, so that one more is asked for, which is empty.
    assert [len(page) for page in pages] == [10, 10, 0]
    assert sorted(one["campaign_token"] for page in pages for one in page) == sorted(tokens)


def test_metrics_at_insider(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[Any]:
        async with bulksend.Client(account(vendor), limits=FAST["insider"]) as client:
            for number in range(12):
                body = {"title": f"Sale {number}", "language": "en_GB"}
                made = await client.call("insider.create", body)
                assert isinstance(made.body, dict)
                (await client.call("insider.launch", LAUNCH, ref=made.body["campaign_id"])).raise_for_failure()
            days = {**DAYS, "start_date": "2020-01-01", "end_date": "2100-01-01"}
            return await listed(client, "insider.statistics", days, ref="overall-metrics")

    flags = ("--limit", "insider.create=1000/s", "--limit", "insider.statistics=1000/s")
    with running(*flags, provider="insider", monkeypatch=monkeypatch) as vendor:
        pages = asyncio.run(main())
    assert [len(page["data"]) for page in pages] == [10, 2]


def test_a_page_that_is_refused_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[bulksend.Answer]:
        async with bulksend.Client(account(vendor), limits=FAST["stream"]) as client:
            return [answer async for answer in client.pages("stream.targets.query", ref="nobody")]

    with running(provider="stream", monkeypatch=monkeypatch) as vendor:
        (answer,) = asyncio.run(main())
    assert (answer.accepted, answer.status) == (False, 404)


def test_a_cursor_that_leads_in_a_circle_ends_the_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def again(_request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({"segments": [], "next": "the same", "duration": "0ms"}, status=201)

    async def main() -> None:
        app = web.Application()
        app.router.add_post("/segments/query", again)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        monkeypatch.setenv("CLIENT_SECRET", "a-secret")
        given = {"provider": "stream", "api_key": "k", "api_secret": "env:CLIENT_SECRET"}
        try:
            async with bulksend.Client({**given, "base_url": f"http://127.0.0.1:{runner.addresses[0][1]}"}) as client:
                with pytest.raises(bulksend.RunError, match="leads in a circle"):
                    await listed(client, "stream.segment.query", {})
        finally:
            await runner.cleanup()

    asyncio.run(main())
    assert asked == 2


@pytest.mark.parametrize("answered", [None, [], {}, "x", 7, {"next": 7}, {"next": ""}, {"next": None}, {"users": []}])
@pytest.mark.parametrize("endpoint", [one for provider in PROVIDERS.values() for one in provider.endpoints.values()])
def test_an_answer_that_names_no_further_page_is_the_last(endpoint: Any, answered: object) -> None:
    provider = PROVIDERS[endpoint.name.partition(".")[0]]
    assert provider.following(endpoint, {}, answered) is None
