"""Replies that were lost: what the vendor can be asked is settled, nothing is sent twice, and the rest is told."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.end_to_end import jobs
from tests.end_to_end.test_providers import batch, stream, usercom
from tests.end_to_end.vendor import Vendor

MANY = "2000/s"
DIRECT = jobs.BATCH.replace("[launch]\n", '[launch]\nsend = "direct"\n')
ENDPOINTS = {
    "stream": ("stream.campaign.create", "stream.campaign.start", "stream.campaign.get"),
    "batch": ("batch.create", "batch.update", "batch.get", "batch.list"),
    "usercom": ("usercom.create", "usercom.list"),
}
TEXTS = {"stream": jobs.STREAM, "batch": jobs.BATCH, "batch direct": DIRECT, "usercom": jobs.USERCOM}
JUDGES = {"stream": stream, "batch": batch, "usercom": usercom}


def text_of(vendor: Vendor, kind: str, **instead: str) -> str:
    limits = jobs.limits(MANY, *ENDPOINTS[vendor.provider])
    return jobs.head(vendor, **instead) + jobs.AUDIENCE + TEXTS[kind] + limits


def every(endpoint: str, share: str, *kinds: str) -> list[str]:
    return [part for kind in kinds for part in ("--fault", f"{endpoint}={kind}:{share}")]


@pytest.mark.parametrize(
    ("kind", "endpoint"),
    [
        ("stream", "stream.campaign.create"),
        ("stream", "stream.campaign.start"),
        ("batch", "batch.update"),
        ("batch direct", "batch.create"),
        ("usercom", "usercom.create"),
    ],
)
def test_a_lost_reply_is_found_and_not_sent_again(tmp_path: Path, kind: str, endpoint: str) -> None:
    provider = kind.partition(" ")[0]
    faults = every(endpoint, "25%", "reset-after", "500-after", "truncated", "not-json")
    with Vendor(*faults, provider=provider) as vendor:
        # Fewer than those after which the endpoint would be taken to be down.
        folder = jobs.folder_of(tmp_path, vendor, text_of(vendor, kind), rows=9)
        done = folder.run()
        assert done.code == 0, done.err
        assert done.sends["accepted"] == 9
        assert JUDGES[provider](vendor) == dict.fromkeys((f"k{one:04}" for one in range(1, 10)), 1)
        stats = vendor.stats(endpoint)
        assert len(stats["faults"]) >= 3
        assert stats["calls"] == stats["effects"] == sum(stats["faults"].values()) == 9


@pytest.mark.parametrize(
    ("kind", "endpoint"),
    [
        ("stream", "stream.campaign.create"),
        ("stream", "stream.campaign.start"),
        ("batch", "batch.update"),
    ],
)
def test_what_was_lost_before_its_effect_is_made_again(tmp_path: Path, kind: str, endpoint: str) -> None:
    with Vendor(*every(endpoint, "15%", "reset-before", "500", "503"), "--seed", "3", provider=kind) as vendor:
        folder = jobs.folder_of(tmp_path, vendor, text_of(vendor, kind), rows=20)
        done = folder.run()
        assert done.code == 0, done.err
        assert JUDGES[kind](vendor) == dict.fromkeys((f"k{one:04}" for one in range(1, 21)), 1)
        stats = vendor.stats(endpoint)
        assert stats["effects"] == 20
        assert len(stats["faults"]) >= 2
        assert stats["calls"] == 20 + sum(stats["faults"].values())


@pytest.mark.parametrize("kind", ["usercom", "batch direct"])
def test_a_send_that_may_be_on_its_way_is_not_made_again(tmp_path: Path, kind: str) -> None:
    provider = kind.partition(" ")[0]
    create = f"{provider}.create"
    with Vendor("--fault", f"{create}=reset-before:40%", "--seed", "3", provider=provider) as vendor:
        folder = jobs.folder_of(tmp_path, vendor, text_of(vendor, kind), rows=20)
        done = folder.run("--log-file", "events.jsonl")
        assert done.code == 3, done.err
        stats = vendor.stats(create)
        assert stats["calls"] == 20
        assert done.sends["accepted"] == len(JUDGES[provider](vendor)) == stats["effects"]
        assert done.sends["unknown"] == stats["faults"]["reset-before"] > 0
        reasons = {one["reason"] for one in folder.settled().values() if one["event"] == "send.unknown"}
        assert all("in the list, which is no proof" in one for one in reasons), reasons
        # Neither does the next run.
        again = folder.run()
        assert again.code == 3
        assert again.sends == done.sends
        assert vendor.stats(create)["calls"] == 20


def test_with_resend_only_what_is_not_found_is_made_once_more(tmp_path: Path) -> None:
    faults = every("usercom.create", "20%", "reset-before", "reset-after")
    with Vendor(*faults, "--seed", "4", provider="usercom") as vendor:
        text = text_of(vendor, "usercom") + '[policy]\non_unknown = "resend"\n'
        folder = jobs.folder_of(tmp_path, vendor, text, rows=40)
        done = folder.run()
        assert done.code in (0, 3), done.err
        sent = usercom(vendor)
        assert max(sent.values()) == 1
        assert done.sends["accepted"] == len(sent)
        stats = vendor.stats("usercom.create")
        assert stats["effects"] == len(sent)
        assert len(stats["faults"]) == 2
        # Each call that was lost before its effect was made again, once; those of the second round were not.
        assert stats["calls"] == 40 + stats["faults"]["reset-before"] - done.sends["unknown"]


@pytest.mark.parametrize(("kind", "endpoint"), [("batch", "batch.update"), ("batch direct", "batch.create")])
def test_a_dev_key_cannot_look_up_and_says_so(tmp_path: Path, kind: str, endpoint: str) -> None:
    with Vendor("--fault", f"{endpoint}=reset-after:50%", "--seed", "2", provider="batch") as vendor:
        dev = vendor.given["dev_api_key"]
        folder = jobs.folder_of(tmp_path, vendor, text_of(vendor, kind, api_key=dev), rows=10)
        done = folder.run("--log-file", "events.jsonl")
        assert done.code == 3, done.err
        stats = vendor.stats(endpoint)
        assert stats["calls"] == stats["effects"] == 10
        assert set(batch(vendor).values()) == {1}
        assert done.sends["unknown"] == stats["faults"]["reset-after"] > 0
        assert done.sends["accepted"] == 10 - done.sends["unknown"]
        unknown = [one for one in folder.settled().values() if one["event"] == "send.unknown"]
        assert all("needs the app's Live API key" in one["reason"] for one in unknown), unknown
        assert "Live API key" in folder.command("status", "job.toml").out
        # With the Live key of the same app they would be found; the Dev key goes on knowing nothing.
        assert folder.run().sends == done.sends
        assert vendor.stats(endpoint)["calls"] == 10


def test_a_list_without_the_campaign_proves_nothing_and_a_person_may_say_resend(tmp_path: Path) -> None:
    with Vendor("--fault", "usercom.create=reset-before:20%", "--seed", "5", provider="usercom") as vendor:
        folder = jobs.folder_of(tmp_path, vendor, text_of(vendor, "usercom"), rows=10)
        assert folder.run().sends["unknown"] > 0
        for _ in range(12):
            done = folder.command("resolve", "job.toml", "--resend", "--all")
            assert done.code == 0, done.err
            done = folder.run()
            if done.code == 0:
                break
        assert done.sends["accepted"] == 10
        assert usercom(vendor) == dict.fromkeys((f"k{one:04}" for one in range(1, 11)), 1)


def test_a_draft_that_a_person_accepts_is_not_yet_a_send(tmp_path: Path) -> None:
    with Vendor("--latency", "600ms", provider="batch") as vendor:
        folder = jobs.folder_of(tmp_path, vendor, text_of(vendor, "batch"), rows=3)
        running = folder.start("run", "job.toml", "--json")
        vendor.wait_for(3, "batch.create")
        running.send_signal(signal.SIGKILL)
        running.communicate()
        folder.command("resolve", "job.toml", "--accept", "--all")
        done = folder.run()
        assert done.sends["accepted"] == len(batch(vendor))


@pytest.mark.parametrize(("kind", "last"), [("stream", "stream.campaign.start"), ("batch", "batch.update")])
def test_kill_9_leaves_nothing_unknown_and_nothing_twice(tmp_path: Path, kind: str, last: str) -> None:
    with Vendor("--latency", "30ms±20ms", provider=kind) as vendor:
        text = text_of(vendor, kind).replace(MANY, "150/s")
        folder = jobs.folder_of(tmp_path, vendor, text, rows=150)
        for death in range(1, 3):
            running = folder.start("run", "job.toml", "--json")
            vendor.wait_for(death * 45, last)
            running.send_signal(signal.SIGKILL)
            running.communicate()
        done = folder.run()
        assert done.code == 0, done.err
        assert done.sends == {"total": 150, "accepted": 150, "rejected": 0, "unknown": 0, "pending": 0}
        assert JUDGES[kind](vendor) == Counter(f"k{one:04}" for one in range(1, 151))
        assert folder.run().json["calls"]["made"] == 0


@pytest.mark.parametrize("kind", ["usercom", "batch direct"])
def test_kill_9_of_sends_in_one_call_settles_what_the_list_has(tmp_path: Path, kind: str) -> None:
    provider = kind.partition(" ")[0]
    create = f"{provider}.create"
    with Vendor("--latency", "60ms±30ms", provider=provider) as vendor:
        folder = jobs.folder_of(tmp_path, vendor, text_of(vendor, kind).replace(MANY, "150/s"), rows=100)
        running = folder.start("run", "job.toml", "--json")
        vendor.wait_for(40, create)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        done = folder.run()
        sent = JUDGES[provider](vendor)
        assert max(sent.values()) == 1
        assert done.sends["accepted"] == len(sent) >= 80
        assert done.sends["accepted"] + done.sends["unknown"] == 100
        assert done.code == (3 if done.sends["unknown"] else 0), done.err


def test_kill_9_while_campaigns_are_followed_starts_none_twice(tmp_path: Path) -> None:
    with Vendor("--latency", "10ms", provider="stream") as vendor:
        text = text_of(vendor, "stream").replace("[limits]", '[watch]\nevery = "1 s"\n[limits]')
        text = text.replace('segment_ids = ["segment-${key}"]', 'user_ids = ["user-0001", "user-0002"]')
        folder = jobs.folder_of(tmp_path, vendor, text, rows=20)
        running = folder.start("run", "job.toml", "--json")
        vendor.wait_for(20, "stream.campaign.start")
        running.send_signal(signal.SIGKILL)
        running.communicate()
        done = folder.run()
        assert done.code == 0, done.err
        assert done.sends["accepted"] == 20
        assert (
            vendor.stats("stream.campaign.create")["effects"] == vendor.stats("stream.campaign.start")["effects"] == 20
        )
        assert vendor.stats("stream.campaign.start")["calls"] == 20
