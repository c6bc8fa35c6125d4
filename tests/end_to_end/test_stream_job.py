"""Stream's own example as one job: a segment by filter, a campaign to it, followed to its end; and its limits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.end_to_end import jobs
from tests.end_to_end.vendor import Vendor

CREATE, START = "stream.campaign.create", "stream.campaign.start"
EXAMPLE = """\
[segment]
name = "users in the USA"
create = true
filter = { country = "USA" }
[launch]
name = "Spring sale"
sender_id = "user-0001"
create_channels = true
channel_template = { type = "messaging", id = "{{receiver.id}}-{{sender.id}}" }
message_template = { text = "Hi {{ receiver.name }}" }
[watch]
every = "1 s"
"""
USERS = """\
[launch]
name = "Spring sale"
sender_id = "user-0001"
user_ids = ["user-0001", "user-0002", "user-0001"]
message_template = { text = "Hi {{ receiver.name }}" }
[watch]
every = "1 s"
"""


def soon(seconds: float) -> str:
    """Return a time so far ahead, in another zone than UTC."""
    at = datetime.now(UTC) + timedelta(hours=2, seconds=seconds)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}+02:00"


def test_the_full_example_is_one_job_and_is_made_once(tmp_path: Path) -> None:
    with Vendor(provider="stream") as vendor:
        folder = jobs.folder_of(tmp_path, vendor, jobs.head(vendor) + EXAMPLE)
        planned = folder.command("plan", "job.toml", "--json")
        assert planned.code == 0, planned.err
        done = folder.run()
        assert done.code == 0, done.err
        assert done.sends == {"total": 1, "accepted": 1, "rejected": 0, "unknown": 0, "pending": 0}
        # The emulator has 300 users, every third of them in the USA.
        campaigns = done.json["campaigns"]
        assert campaigns["completed"] == 1
        assert campaigns["users_sent"] == campaigns["messages_sent"] == campaigns["channels_created"] == 100
        (segment,) = vendor.effects("stream.segment.create")
        (campaign,) = vendor.effects(CREATE)
        (start,) = vendor.effects(START)
        assert segment["body"]["filter"] == {"country": "USA"}
        assert segment["body"]["type"] == "user"
        assert campaign["body"]["segment_ids"] == [segment["ref"]]
        assert start["ref"] == campaign["ref"] == campaign["body"]["id"]
        again = folder.run()
        assert again.code == 0, again.err
        assert again.json["calls"]["made"] == 0
        assert vendor.stats(CREATE)["calls"] == vendor.stats(START)["calls"] == 1

        # The ledger is lost: the ids are the same, so the vendor itself refuses to be asked twice.
        (tmp_path / "bulksend.db").unlink()
        lost = folder.run()
        assert lost.code == 3, lost.err
        assert lost.sends["rejected"] == 1
        assert vendor.stats(CREATE)["effects"] == vendor.stats(START)["effects"] == 1
        assert vendor.stats("stream.segment.create")["effects"] == 1


def test_users_are_counted_once_and_a_later_start_is_waited_for(tmp_path: Path) -> None:
    with Vendor(provider="stream") as vendor:
        at = soon(3)
        folder = jobs.folder_of(tmp_path, vendor, jobs.head(vendor) + USERS + f'[start]\nscheduled_for = "{at}"\n')
        done = folder.run()
        assert done.code == 0, done.err
        assert done.json["campaigns"]["completed"] == 1
        assert done.json["campaigns"]["users_sent"] == 2
        (start,) = vendor.effects(START)
        sent = datetime.fromisoformat(start["body"]["scheduled_for"])
        assert sent == datetime.fromisoformat(at)
        assert start["body"]["scheduled_for"].endswith("Z")
        # It was scheduled when it was asked for first, and only then completed.
        assert vendor.stats("stream.campaign.get")["calls"] >= 3
        # The time is past now, and the job is done: the same command says so, and is no error.
        again = folder.run()
        assert again.code == 0, again.err
        assert again.json["calls"]["made"] == 0


def test_users_in_several_segments_get_one_message(tmp_path: Path) -> None:
    # The two jobs have a ledger each, and so do not share what the vendor lets them make together.
    names = ("segment.create", "segment.get", "campaign.create", "campaign.start", "campaign.get")
    limits = [part for name in names for part in ("--limit", f"stream.{name}=600/min")]
    with Vendor(*limits, provider="stream") as vendor:
        first = jobs.folder_of(tmp_path, vendor, jobs.head(vendor) + EXAMPLE)
        assert first.run().code == 0
        (segment,) = vendor.effects("stream.segment.create")
        (tmp_path / "both").mkdir()
        text = EXAMPLE.replace('filter = { country = "USA" }', "all_users = true").replace("in the USA", "anywhere")
        text = text.replace("[launch]\n", f'[launch]\nsegment_ids = ["{segment["ref"]}", "${{segment.id}}"]\n')
        second = jobs.folder_of(tmp_path / "both", vendor, jobs.head(vendor).replace('"sale"', '"both"') + text)
        done = second.run()
        assert done.code == 0, done.err
        assert len(vendor.effects(CREATE)[1]["body"]["segment_ids"]) == 2
        assert done.json["campaigns"]["users_sent"] == 300


def test_a_campaign_that_is_stopped_at_its_time_is_told_as_stopped(tmp_path: Path) -> None:
    with Vendor(provider="stream") as vendor:
        text = USERS.replace('["user-0001", "user-0002", "user-0001"]', '"${user[]}"')
        head = jobs.head(vendor) + '[audience]\nfrom = "users.csv"\nkey = "user"\nchunk = 8000\n'
        # 8000 users take 8 s at the vendor, which is told to stop before.
        folder = jobs.folder_of(tmp_path, vendor, head + text + f'[start]\nstop_at = "{soon(4)}"\n')
        folder.csv("users.csv", "user", ((f"u{one}",) for one in range(8000)))
        done = folder.run()
        assert done.code == 0, done.err
        campaigns = done.json["campaigns"]
        assert campaigns["stopped"] == 1
        assert "completed" not in campaigns
        assert 0 < campaigns["users_sent"] < 8000


def test_what_the_vendor_says_of_its_limit_is_believed_and_nothing_is_above_it(tmp_path: Path) -> None:
    flags = ("--limit", f"{CREATE}=600/min", "--limit", f"{START}=600/min")
    with Vendor(*flags, provider="stream") as vendor:
        folder = jobs.folder_of(tmp_path, vendor, jobs.head(vendor) + jobs.AUDIENCE + jobs.STREAM, rows=30)
        done = folder.run()
        assert done.code == 0, done.err
        assert done.sends["accepted"] == 30
        for name in (CREATE, START):
            assert done.json["endpoints"][name]["limit"].startswith("600/min"), done.json["endpoints"][name]
            assert done.json["endpoints"][name]["throttled"] == vendor.stats(name)["throttled"] == 0
            assert vendor.stats(name)["effects"] == 30
        # At the documented start of 60/min, 30 calls of each kind would take the better part of a minute.
        assert done.json["rate_per_min"] > 120


def test_a_limit_of_the_job_file_is_kept_whatever_the_vendor_says(tmp_path: Path) -> None:
    with Vendor("--limit", f"{CREATE}=6000/min", provider="stream") as vendor:
        text = jobs.head(vendor) + jobs.AUDIENCE + jobs.STREAM + jobs.limits("10/s", CREATE, START)
        folder = jobs.folder_of(tmp_path, vendor, text, rows=15)
        done = folder.run()
        assert done.code == 0, done.err
        assert done.json["endpoints"][CREATE]["limit"] == "10/s"
        assert done.json["endpoints"][CREATE]["max_in_window"] <= 10
