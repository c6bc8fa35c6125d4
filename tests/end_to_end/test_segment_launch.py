"""A segment and a launch in one job: the segment is right first, and a segment by name is one for all jobs."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.segments import (
    ADD,
    CREATE,
    DELETE,
    DESIRED,
    LAUNCH,
    MAKE,
    QUERY,
    START,
    TARGET,
    Stream,
    figures,
    numbered,
    segment_job,
    write_ids,
)

NAMED = '[segment]\nname = "Customers of today"\ncreate = true\n'


def test_the_launch_goes_after_the_segment_is_right_and_once(tmp_path: Path) -> None:
    remote, desired = numbered(range(300)), numbered(range(250, 600))
    with Stream() as vendor:
        vendor.put(remote)
        folder = segment_job(tmp_path, vendor, desired, text=TARGET + DESIRED + LAUNCH)
        planned = folder.command("plan", "job.toml", "--json")
        assert planned.code == 0, planned.err
        calls = {name: one["calls"] for name, one in planned.json["endpoints"].items()}
        assert calls == {QUERY: 2, ADD: 1, DELETE: 3, CREATE: 1, START: 1}
        assert vendor.calls(CREATE) == vendor.calls(DELETE) == 0
        done = folder.run()
        assert done.code == 0, done.err
        assert done.sends == {"total": 1, "accepted": 1, "rejected": 0, "unknown": 0, "pending": 0}
        assert figures(done) == [300, 350, 300, 250]
        assert vendor.targets() == desired
        order = vendor.order()
        assert sorted(order[1:-2]) == [ADD, *[DELETE] * 3]
        assert order[-2:] == [CREATE, START]
        (campaign,) = vendor.effects(CREATE)
        assert campaign["body"]["segment_ids"] == ["vip"]

        calls = vendor.all_calls()
        again = folder.run()
        assert again.code == 0, again.err
        assert again.json["calls"]["made"] == 0
        assert "was finished before" in again.err
        assert vendor.all_calls() == calls


def test_a_segment_by_name_is_made_filled_and_found_again_by_the_next_job(tmp_path: Path) -> None:
    first, second = numbered(range(120)), numbered(range(100, 130))
    with Stream() as vendor:
        folder = segment_job(tmp_path, vendor, first, text=NAMED + DESIRED + LAUNCH)
        planned = folder.command("plan", "job.toml", "--json")
        assert planned.code == 0, planned.err
        assert figures(planned) == [0, 120, 120, 0]
        assert vendor.writes() == 0
        done = folder.run()
        assert done.code == 0, done.err
        assert vendor.order() == [MAKE, ADD, CREATE, START]
        (made,) = vendor.effects(MAKE)
        assert made["body"]["name"] == "Customers of today"
        segment = made["ref"]
        assert done.json["segment"]["id"] == segment
        assert vendor.targets(segment) == first
        assert vendor.effects(CREATE)[0]["body"]["segment_ids"] == [segment]

        # The next day's job: another name, the same segment.
        folder.edit('job = "sale"', 'job = "next"')
        write_ids(folder, second)
        again = folder.run()
        assert again.code == 4, again.err
        assert "max_shrink" in again.err
        folder.edit(DESIRED, f'{DESIRED}[guard]\nmax_shrink = "100%"\n')
        again = folder.run()
        assert again.code == 0, again.err
        assert figures(again) == [120, 30, 10, 100]
        assert vendor.targets(segment) == second
        assert vendor.stats(MAKE)["effects"] == 1
        assert [one["body"]["segment_ids"] for one in vendor.effects(CREATE)] == [[segment], [segment]]


def test_a_segment_job_alone_is_brought_into_line_as_often_as_it_runs(tmp_path: Path) -> None:
    desired = numbered(range(50))
    with Stream() as vendor:
        folder = segment_job(
            tmp_path, vendor, desired, text=NAMED.replace("create = true", 'create = true\ntype = "channel"') + DESIRED
        )
        done = folder.run()
        assert done.code == 0, done.err
        (made,) = vendor.effects(MAKE)
        assert made["body"]["type"] == "channel"
        writes = vendor.writes()
        idle = folder.run()
        assert idle.code == 0, idle.err
        assert figures(idle) == [50, 50, 0, 0]
        assert vendor.writes() == writes
        # Only what is left is done by a second run.
        vendor.take(desired[:1], made["ref"])
        vendor.put(["zz"], made["ref"])
        again = folder.run()
        assert again.code == 0, again.err
        assert figures(again) == [50, 50, 1, 1]
        assert vendor.targets(made["ref"]) == desired
        assert vendor.effects(ADD)[-1]["body"]["target_ids"] == desired[:1]
        assert vendor.effects(DELETE)[-1]["body"]["target_ids"] == ["zz"]
