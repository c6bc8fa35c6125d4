"""What `bulksend.Client` refuses before any call: wrong bodies, accounts and limits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

import bulksend
from tests.end_to_end.vendor import Vendor
from tests.test_client import CAMPAIGN, DAYS, EVERY, LAUNCH, MEP, PUSH, SECRET, account, calls, running

WRONG: list[tuple[str, str, dict[str, Any], str | None, str]] = [
    ("insider", "insider.create", {}, None, "insider.create.title: is required"),
    ("insider", "insider.create", {"title": "x" * 101, "language": "en_GB"}, None, "at most 100"),
    ("insider", "insider.create", {"title": "x", "language": "en_GB", "titel": "y"}, None, "titel"),
    ("insider", "insider.launch", LAUNCH, None, "ref: is required"),
    ("insider", "insider.launch", LAUNCH, " ", "ref: is required"),
    ("insider", "insider.launch", {**LAUNCH, "ttl": "11 days"}, "7", "ttl"),
    ("insider", "insider.launch", {**LAUNCH, "banner": "https://e.com/b", "description": "x" * 31}, "7", "banner"),
    ("insider", "insider.statistics", {**DAYS, "start_date": "yesterday"}, "overall-metrics", "start_date"),
    ("insider", "insider.statistics", DAYS, "other-metrics", "overall-metrics"),
    ("insider", "insider.launches", {}, None, "no endpoint insider.launches; did you mean"),
    ("insider", "usercom.create", PUSH, None, "no endpoint usercom.create"),
    ("usercom", "usercom.create", {**PUSH, "segment": "one"}, None, "segment"),
    ("usercom", "usercom.create", {**PUSH, "eta": "2020-01-01T00:00:00Z"}, None, "past"),
    ("usercom", "usercom.create", {**PUSH, "messages": [{"title": "x"}]}, None, "body"),
    ("batch", "batch.create", {**MEP, "name": "ab"}, None, "name"),
    ("batch", "batch.create", {**MEP, "labels": list("abcd")}, None, "labels"),
    ("batch", "batch.create", {**MEP, "local_push_time": "2030-01-01T00:00:00"}, None, "local_push_time"),
    ("batch", "batch.create", {**MEP, "time_to_live": "29 days"}, None, "time_to_live"),
    ("batch", "batch.create", {**MEP, "custom_payload": "{"}, None, "custom_payload"),
    ("batch", "batch.list", {"limit": 101}, None, "limit"),
    ("stream", "stream.campaign.create", {**CAMPAIGN, "segment_ids": ["s"]}, None, "user_ids"),
    ("stream", "stream.campaign.create", {**CAMPAIGN, "id": "x" * 256}, None, "id"),
    ("stream", "stream.campaign.create", {**CAMPAIGN, "create_channels": True}, None, "channel_template"),
    ("stream", "stream.targets.delete", {"target_ids": ["x"] * 101}, "s", "100"),
    ("stream", "stream.segment.create", {"type": "user", "all_users": True, "filter": {"a": 1}}, None, "exclude"),
    ("stream", "stream.campaign.start", {"scheduled_for": "2020-01-01T00:00:00Z"}, "c", "past"),
    ("stream", "stream.campaign.create", {**CAMPAIGN, "message_template": {"custom": {"a": {1, 2}}}}, None, ""),
]


@pytest.mark.parametrize("provider", EVERY)
def test_what_is_wrong_is_refused_before_any_call(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(vendor: Vendor) -> None:
        async with bulksend.Client(account(vendor)) as client:
            for of, endpoint, body, ref, text in WRONG:
                if of != provider:
                    continue
                with pytest.raises(bulksend.JobError) as caught:
                    await client.call(endpoint, body, ref=ref)
                assert text in str(caught.value), (endpoint, body)

    with running(provider=provider, monkeypatch=monkeypatch) as vendor:
        asyncio.run(main(vendor))
        assert calls(vendor) == 0


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "provider"),
        ({"provider": "insidr"}, "insider"),
        ({"provider": "insider", "token": SECRET}, "partner_id"),
        ({"provider": "insider", "partner_id": "1"}, "token"),
        ({"provider": "insider", "partner_id": "1", "token": "literal-s3cret"}, "must not stand"),
        ({"provider": "insider", "partner_id": "1", "token": "env:NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE is not set"),
        ({"provider": "insider", "partner_id": "1", "token": SECRET, "base_url": "http://example.com"}, "https"),
        ({"provider": "insider", "partner_id": "1", "token": SECRET, "partner": "1"}, "partner"),
        ({"provider": "insider", "partner_id": 1.5, "token": SECRET}, "partner_id"),
    ],
)
def test_a_wrong_account_is_refused(given: dict[str, object], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", "s3cret")
    with pytest.raises(bulksend.JobError) as caught:
        bulksend.Client(given)
    assert text in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_an_account_that_names_a_column_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", "s3cret")
    with pytest.raises(bulksend.JobError):
        bulksend.Client({"provider": "insider", "partner_id": "${partner}", "token": SECRET})


@pytest.mark.parametrize("limits", [{"insider.launches": "1/min"}, {"insider.launch": "fast"}])
def test_wrong_limits_are_refused(limits: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", "s3cret")
    with pytest.raises(bulksend.JobError, match="limits"):
        bulksend.Client({"provider": "insider", "partner_id": "1", "token": SECRET}, limits=limits)
