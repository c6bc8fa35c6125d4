"""Single calls through `bulksend.Client`, against the emulator's own process."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bulksend
from bulksend.api import client as client_module
from bulksend.model import Accepted, Call, Lost, Rejected, Reply, Throttled, Unknown
from bulksend.providers import PROVIDERS
from tests.end_to_end.jobs import SECRETS
from tests.end_to_end.vendor import Vendor

SECRET = "env:CLIENT_SECRET"
ALL = {f"{name}": PROVIDERS[name] for name in ("insider", "usercom", "batch", "stream")}
LAUNCH = {
    "title": "Sale",
    "description": "Up to 50% off",
    "image": "https://example.com/icon.png",
    "link": "https://example.com/",
    "ttl": "1 day",
    "target": {"attribute": "c_store_id", "values": ["1"]},
}
PUSH = {"name": "Sale", "segment": 1, "messages": [{"title": "Sale", "body": "Up to 50% off"}]}
MEP = {
    "name": "Sale",
    "push_time": "now",
    "live": False,
    "messages": [{"language": "en", "title": "Sale", "body": "Up to 50% off"}],
}
CAMPAIGN = {"sender_id": "user-0001", "user_ids": ["user-0002"], "message_template": {"text": "Hi"}}
DAYS = {"start_date": "2026-04-01", "end_date": "2026-04-02"}


@contextmanager
def running(*flags: str, provider: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    with Vendor(*flags, provider=provider) as vendor:
        monkeypatch.setenv("CLIENT_SECRET", vendor.given[SECRETS[provider]])
        yield vendor


def account(vendor: Vendor, **instead: str) -> dict[str, object]:
    ids = {name: vendor.given[name] for name in ALL[vendor.provider].account_ids}
    secrets = dict.fromkeys(ALL[vendor.provider].account_secrets, SECRET)
    return {"provider": vendor.provider, "base_url": vendor.url, **ids, **secrets, **instead}


def calls(vendor: Vendor) -> int:
    return sum(one["calls"] for one in vendor._get("stats")["endpoints"].values())


Steps = list[tuple[str, dict[str, Any], str | int | None]]
"""Endpoint, body and ref; the ref `made` is the id that the last create gave."""

EVERY: dict[str, Steps] = {
    "insider": [
        ("insider.create", {"title": "Sale", "language": "en_GB"}, None),
        ("insider.launch", LAUNCH, "made"),
        ("insider.launch_v1", LAUNCH, "made"),
        ("insider.statistics", DAYS, "overall-metrics"),
        ("insider.delete", {}, "made"),
    ],
    "usercom": [
        ("usercom.create", {**PUSH, "eta": "2030-01-01T00:00:00+02:00", "ttl": "2 days"}, None),
        ("usercom.update", {"name": "Sale 2"}, "made"),
        ("usercom.get", {}, "made"),
        ("usercom.send", {}, "made"),
        ("usercom.list", {}, None),
        ("usercom.segments", {}, None),
        ("usercom.segment_users", {}, 1),
    ],
    "batch": [
        ("batch.create", MEP, None),
        ("batch.get", {}, "made"),
        ("batch.update", {"live": True}, "made"),
        ("batch.list", {"limit": 5, "from_api": True}, None),
        ("batch.stats", {}, "made"),
        ("batch.delete", {}, "made"),
    ],
    "stream": [
        ("stream.segment.create", {"type": "user", "name": "VIP"}, None),
        ("stream.segment.get", {}, "made"),
        ("stream.segment.update", {"name": "VIPs"}, "made"),
        ("stream.segment.query", {"filter": {}, "limit": 5}, None),
        ("stream.targets.add", {"target_ids": ["user-0002"]}, "made"),
        ("stream.targets.exists", {"target_id": "user-0002"}, "made"),
        ("stream.targets.query", {"filter": {}}, "made"),
        ("stream.targets.delete", {"target_ids": ["user-0002"]}, "made"),
        ("stream.segment.delete", {}, "made"),
        ("stream.campaign.create", CAMPAIGN, None),
        ("stream.campaign.get", {"limit": 1}, "made"),
        ("stream.campaign.update", {**CAMPAIGN, "name": "Sale"}, "made"),
        ("stream.campaign.query", {"filter": {}, "limit": 5}, None),
        ("stream.campaign.start", {"scheduled_for": "2030-01-01T00:00:00Z"}, "made"),
        ("stream.campaign.stop", {}, "made"),
        ("stream.campaign.delete", {}, "made"),
    ],
}


def ref_in(answer: bulksend.Answer) -> str | None:
    return answer.outcome.ref if isinstance(answer.outcome, Accepted) else None


@pytest.mark.parametrize("provider", EVERY)
def test_every_endpoint_of_every_provider(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name for name, _, _ in EVERY[provider]} == set(ALL[provider].endpoints)

    async def main(vendor: Vendor) -> None:
        made: str | None = None
        async with bulksend.Client(account(vendor)) as client:
            for endpoint, body, ref in EVERY[provider]:
                answer = await client.call(endpoint, body, ref=made if ref == "made" else ref)
                assert answer.accepted, (endpoint, answer)
                answer.raise_for_failure()
                assert answer.endpoint == endpoint
                assert answer.status is not None
                if endpoint.endswith("create"):
                    made = ref_in(answer)
                    assert made
                elif ALL[provider].endpoints[endpoint].reads:
                    assert isinstance(answer.body, dict | list)

    with running(provider=provider, monkeypatch=monkeypatch) as vendor:
        asyncio.run(main(vendor))
        stats = vendor._get("stats")["endpoints"]
        assert {name: stats[name]["calls"] for name in ALL[provider].endpoints} == dict.fromkeys(
            ALL[provider].endpoints, 1
        )


def test_a_403_of_the_statistics_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[bulksend.Event] = []

    async def main(vendor: Vendor) -> None:
        async with bulksend.Client(account(vendor), observers=[events.append]) as client:
            assert (await client.call("insider.statistics", DAYS, ref="top-metrics")).accepted

    # The seed decides that the first calls are struck, and that not all of them are.
    flags = ("--fault", "insider.statistics=429-retry-after=1:60%", "--seed", "3")
    with running(*flags, provider="insider", monkeypatch=monkeypatch) as vendor:
        asyncio.run(main(vendor))
        stats = vendor.stats("insider.statistics")
        assert stats["calls"] - 1 == stats["faults"]["429-retry-after"] >= 1
        called = [event.status for event in events if event.name is bulksend.EventName.CALL_MADE]
        assert called == [403] * (stats["calls"] - 1) + [200]
        paused = [event for event in events if event.name is bulksend.EventName.LIMIT_PAUSED]
        assert {(event.status, event.duration_s) for event in paused} == {(403, 1.0)}


def test_a_403_elsewhere_is_no_reason_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(provider="insider", monkeypatch=monkeypatch) as vendor:
        monkeypatch.setenv("CLIENT_SECRET", "wrong-s3cret")

        async def main() -> bulksend.Answer:
            async with bulksend.Client(account(vendor)) as client:
                first = await client.call("insider.create", {"title": "Sale", "language": "en_GB"})
                again = await client.call("insider.create", {"title": "Sale", "language": "en_GB"})
                assert (first.accepted, again.accepted) == (False, False)
                return again

        answer = asyncio.run(main())
        assert answer.status == 401
        with pytest.raises(bulksend.CallFailedError, match=r"insider\.create: .*credentials") as caught:
            answer.raise_for_failure()
        assert "s3cret" not in f"{caught.value}{answer!r}"
        assert calls(vendor) == 2


@pytest.mark.parametrize(
    ("provider", "endpoint", "body", "ref"),
    [
        ("insider", "insider.launch", LAUNCH, "made"),
        ("usercom", "usercom.create", PUSH, None),
        ("batch", "batch.create", {**MEP, "live": True}, None),
    ],
)
def test_what_may_reach_people_is_never_repeated(
    provider: str, endpoint: str, body: dict[str, Any], ref: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(vendor: Vendor) -> bulksend.Answer:
        async with bulksend.Client(account(vendor)) as client:
            if ref is not None:
                ready = await client.call("insider.create", {"title": "Sale", "language": "en_GB"})
                return await client.call(endpoint, body, ref=ref_in(ready))
            return await client.call(endpoint, body)

    with running("--fault", f"{endpoint}=reset-after:100%", provider=provider, monkeypatch=monkeypatch) as vendor:
        answer = asyncio.run(main(vendor))
        assert isinstance(answer.outcome, Unknown)
        assert (answer.status, answer.body) == (None, None)
        assert (vendor.stats(endpoint)["calls"], len(vendor.effects(endpoint))) == (1, 1)
        with pytest.raises(bulksend.CallFailedError, match=endpoint):
            answer.raise_for_failure()


def test_what_is_harmless_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module.random, "random", lambda: 0.0)  # no waiting between the tries

    async def main(vendor: Vendor) -> None:
        async with bulksend.Client(account(vendor), limits={"usercom.list": "600/min"}) as client:
            assert isinstance((await client.call("usercom.list")).outcome, Unknown)

    with running("--fault", "usercom.list=500:100%", provider="usercom", monkeypatch=monkeypatch) as vendor:
        asyncio.run(main(vendor))
        assert vendor.stats("usercom.list")["calls"] == 8


def test_a_refusal_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(vendor: Vendor) -> bulksend.Answer:
        async with bulksend.Client(account(vendor)) as client:
            return await client.call("usercom.get", ref=999_999)

    with running(provider="usercom", monkeypatch=monkeypatch) as vendor:
        answer = asyncio.run(main(vendor))
        assert isinstance(answer.outcome, Rejected)
        assert answer.status == 404


def test_limits_are_kept_and_shared_through_a_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = "10/s"

    async def main(vendor: Vendor) -> None:
        async def some() -> None:
            ledger = f"sqlite://{tmp_path / 'limits.db'}"
            async with bulksend.Client(account(vendor), limits={"usercom.list": limit}, ledger=ledger) as client:
                answers = await asyncio.gather(*(client.call("usercom.list") for _ in range(15)))
                assert all(answer.accepted for answer in answers)

        await asyncio.gather(some(), some())
        await some()

    with running("--limit", "usercom.list=1000/s", provider="usercom", monkeypatch=monkeypatch) as vendor:
        asyncio.run(main(vendor))
        stats = vendor.stats("usercom.list")
        assert (stats["calls"], stats["throttled"]) == (45, 0)
        # Each by itself would make ten a second; a machine that is busy may bring a few closer together.
        assert stats["max_in_window"] <= [14]
    db = sqlite3.connect(tmp_path / "limits.db")
    assert db.execute("SELECT count(*) FROM send").fetchone() == (0,), "single calls are not recorded"
    db.close()


def test_without_a_ledger_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def main(vendor: Vendor) -> None:
        async with bulksend.Client(account(vendor)) as client:
            assert (await client.call("usercom.list")).accepted
            assert os.listdir(tmp_path)  # noqa: PTH208

    with running(provider="usercom", monkeypatch=monkeypatch) as vendor:
        asyncio.run(main(vendor))
    assert list(tmp_path.iterdir()) == []


def test_no_secret_shows(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    events: list[bulksend.Event] = []

    async def main(vendor: Vendor) -> str:
        async with bulksend.Client(account(vendor), observers=[events.append]) as client:
            answer = await client.call("stream.campaign.get", ref="none")
            with pytest.raises(bulksend.CallFailedError) as caught:
                answer.raise_for_failure()
            with pytest.raises(bulksend.JobError) as wrong:
                await client.call("stream.campaign.create", {"sender_id": 7})
            held = [vars(client), vars(client._caller), list(client._caller._lanes.values())]  # type: ignore[union-attr]
            return f"{client!r}{client}{answer!r}{answer}{caught.value!r}{wrong.value!r}{held}{events!r}{caplog.text}"

    with running(provider="stream", monkeypatch=monkeypatch) as vendor:
        text = asyncio.run(main(vendor))
        assert vendor.given["api_secret"] not in text
        assert "eyJ" not in text, "nor the token that is made of it"


def test_a_closed_client_makes_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(vendor: Vendor) -> None:
        client = bulksend.Client(account(vendor))
        async with client:
            pass
        with pytest.raises(bulksend.InterruptedRunError):
            await client.call("usercom.list")

    with running(provider="usercom", monkeypatch=monkeypatch) as vendor:
        asyncio.run(main(vendor))
        assert calls(vendor) == 0


# A reply that is lost, and a repeat that is refused because the first call had its effect


class Scripted:
    """A transport that gives its answers in turn."""

    def __init__(self, *answers: Reply | Lost) -> None:
        self.answers = list(answers)

    async def send(self, call: Call, leave: Callable[[], Any]) -> Reply | Lost:
        await leave()
        return self.answers.pop(0)

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("given", "endpoint", "body"),
    [
        ({"provider": "insider", "partner_id": "1"}, "insider.create", {"title": "Sale", "language": "en_GB"}),
        ({"provider": "stream", "api_key": "k"}, "stream.campaign.create", {**CAMPAIGN, "id": "mine"}),
    ],
    ids=["insider", "stream"],
)
def test_a_repeat_that_is_refused_after_a_lost_reply_is_not_a_plain_refusal(
    given: dict[str, object], endpoint: str, body: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIENT_SECRET", "s3cret-that-is-long-enough-for-hs256")
    taken = Reply(400, {}, b'{"code": 4, "message": "taken"}')
    monkeypatch.setattr(client_module, "open_transport", lambda: Scripted(Lost("reset"), *[taken] * 7))
    secrets = dict.fromkeys(ALL[str(given["provider"])].account_secrets, SECRET)

    async def main() -> bulksend.Answer:
        limits = {endpoint: "600/min"}
        async with bulksend.Client({**given, **secrets}, limits=limits) as client:
            return await client.call(endpoint, body)

    answer = asyncio.run(main())
    assert not isinstance(answer.outcome, Rejected | Throttled), "the first call may have had its effect"
