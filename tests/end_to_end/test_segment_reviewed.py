"""What a review found: what others undo, what is made and when, what is asked once, and what a begun launch keeps."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bulksend
from bulksend import InterruptedRunError
from tests.end_to_end.segments import (
    ADD,
    CREATE,
    DELETE,
    DESIRED,
    FAST,
    LAUNCH,
    MAKE,
    QUERY,
    TARGET,
    Liar,
    Stream,
    files_beside,
    is_page,
    numbered,
    own_segment_job,
    segment_job,
    wait_until,
    write_ids,
)
from tests.end_to_end.vendor import Folder, finish

HUNDRED = numbered(range(100))


@pytest.fixture(scope="module")
def vendor() -> Iterator[Stream]:
    """Give one emulator to all tests here; each has segments of its own."""
    with Stream() as running:
        yield running


def named(path: Path, *guard: str) -> str:
    """Return the tables of a segment that the job makes, named as the folder."""
    text = f'[segment]\nname = "{path.name}"\ncreate = true\n' + DESIRED
    return text + ("[guard]\n" + "\n".join(guard) + "\n" if guard else "")


def own_name(folder: Folder) -> Folder:
    """Name the job as its folder: campaigns of jobs of one name have one id."""
    folder.edit('job = "sale"', f'job = "{folder.path}"')
    return folder


def made_job(*arguments: Any, **more: Any) -> Folder:
    return own_name(segment_job(*arguments, **more))


def own_job(*arguments: Any, **more: Any) -> Folder:
    return own_name(own_segment_job(*arguments, **more))


def planned_calls(folder: Folder) -> dict[str, int]:
    planned = folder.command("plan", "job.toml", "--json")
    assert planned.code == 0, planned.err
    return {name: one["calls"] for name, one in planned.json["endpoints"].items()}


def known(folder: Folder) -> int:
    """Return how many segments the ledger knows as right."""
    with sqlite3.connect(folder.path / "bulksend.db") as db:
        (number,) = db.execute("SELECT count(*) FROM segment").fetchone()
    db.close()
    return int(number)


def answer_no(monkeypatch: pytest.MonkeyPatch, folder: Folder) -> list[object]:
    """Run as the library does for a person who answers no; returns what each question was about."""
    asked: list[object] = []

    def confirm(_job: object, _checked: object, segment: object) -> bool:
        asked.append(segment)
        return False

    monkeypatch.setenv("SECRET", folder.env["SECRET"])
    with pytest.raises(InterruptedRunError, match="question"):
        bulksend.run(folder.file, confirm=confirm)
    return asked


# Drift


@pytest.mark.parametrize("with_launch", [False, True])
def test_more_drift_than_a_little_is_no_success(vendor: Stream, tmp_path: Path, with_launch: bool) -> None:
    """Half a percent of the desired list may be somebody's doing; more is a segment that is not right."""
    strangers = numbered(range(3), "zz-")
    launches = vendor.calls(CREATE)

    def lie(path: str, asked: Any, forward: Any) -> Any:
        if path.endswith("/addtargets"):
            vendor.put(strangers, tmp_path.name)
        return forward(asked)

    text = TARGET + DESIRED + (LAUNCH if with_launch else "")
    desired = numbered(range(1, 301))
    with Liar(vendor, lie) as liar:
        folder = own_job(tmp_path, vendor, numbered(range(300)), desired, text=text, base_url=liar.url)
        done = folder.run()
    assert done.code == (4 if with_launch else 3), done.err
    assert (done.json["segment"]["drift"], done.json["segment"]["left"]) == (3, 0)
    if with_launch:
        assert "3 targets were changed by others meanwhile; the launch is not made" in done.err
    assert known(folder) == 0
    assert vendor.calls(CREATE) == launches
    again = folder.run("--base-url", vendor.url)
    assert again.code == 0, again.err
    assert known(folder) == 1 if not with_launch else vendor.calls(CREATE) == launches + 1
    assert vendor.targets(tmp_path.name) == desired


# What is made


def test_a_segment_is_made_after_the_guards_and_the_question(
    vendor: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makes = vendor.calls(MAKE)
    folder = made_job(tmp_path, vendor, (), text=named(tmp_path, "max_add = 50"))
    empty = folder.run()
    assert empty.code == 4, empty.err
    assert "allow_empty: the desired list has no ids" in empty.err
    write_ids(folder, HUNDRED)
    refused = folder.run()
    assert refused.code == 4, refused.err
    assert "max_add" in refused.err
    folder.edit("max_add = 50", "max_add = 100")
    (asked,) = answer_no(monkeypatch, folder)
    assert asked is not None
    assert vendor.calls(MAKE) == makes
    calls = planned_calls(folder)
    assert (calls[MAKE], calls[ADD], calls[DELETE]) == (1, 1, 0)
    assert vendor.calls(MAKE) == makes
    done = folder.run()
    assert done.code == 0, done.err
    segment = done.json["segment"]["id"]
    assert vendor.targets(segment) == HUNDRED
    assert vendor.calls(MAKE) == makes + 1


def test_a_segment_that_is_not_there_any_more_is_made_again(vendor: Stream, tmp_path: Path) -> None:
    """Stream may keep the id of what was deleted, as the emulator does; here the segment is gone without a trace."""
    with Stream() as bare, Liar(vendor, lambda _path, asked, forward: forward(asked)) as liar:
        folder = made_job(tmp_path, vendor, HUNDRED, text=named(tmp_path), base_url=liar.url)
        done = folder.run()
        assert done.code == 0, done.err
        assert planned_calls(folder)[MAKE] == 0
        makes = vendor.calls(MAKE)
        liar.goes_to = bare.url
        assert planned_calls(folder)[MAKE] == 1
        again = folder.run()
        assert again.code == 0, again.err
        segment = again.json["segment"]["id"]
        assert segment == done.json["segment"]["id"]
        assert (bare.calls(MAKE), vendor.calls(MAKE)) == (1, makes)
        assert bare.targets(segment) == HUNDRED


def test_an_empty_list_is_refused_where_the_segment_is_empty_too(vendor: Stream, tmp_path: Path) -> None:
    folder = own_job(tmp_path, vendor, (), (), text=TARGET + DESIRED + LAUNCH)
    launches = vendor.calls(CREATE)
    done = folder.run()
    assert done.code == 4, done.err
    assert "allow_empty" in done.err
    assert vendor.calls(CREATE) == launches
    planned = folder.command("plan", "job.toml", "--json")
    assert any("allow_empty" in one and "a run is refused" in one for one in planned.json["warnings"])
    folder.edit(DESIRED, DESIRED + "[guard]\nallow_empty = true\n")
    assert folder.run().json["segment"]["hash"] == done.json["segment"]["hash"]
    assert vendor.calls(CREATE) == launches + 1


def test_a_run_that_ends_between_making_and_filling_is_gone_on_with(vendor: Stream, tmp_path: Path) -> None:
    def lie(path: str, asked: Any, forward: Any) -> Any:
        return forward({"target_ids": []} if path.endswith("/addtargets") else asked)

    with Liar(vendor, lie) as liar:
        folder = made_job(tmp_path, vendor, HUNDRED, text=named(tmp_path), base_url=liar.url)
        done = folder.run()
    assert done.code == 1, done.err
    assert "the next run goes on with the rest" in done.err
    folder.edit(liar.url, vendor.url)
    done = folder.run()
    assert done.code == 0, done.err
    assert vendor.targets(done.json["segment"]["id"]) == HUNDRED


# What is asked once


def test_what_was_written_is_not_guarded_nor_asked_about_again(
    vendor: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the look at the result is left: whatever the guards say by now, the changes are made."""
    pages: list[str] = []

    def lie(path: str, asked: Any, forward: Any) -> Any:
        if is_page(path):
            pages.append(path)
        return forward({"limit": -1} if len(pages) == 2 and is_page(path) else asked)

    with Liar(vendor, lie) as liar:
        folder = own_job(tmp_path, vendor, HUNDRED, HUNDRED[50:], base_url=liar.url)
        done = folder.run()
        assert done.code == 1, done.err
        assert "targets.query was rejected" in done.err
        assert vendor.targets(tmp_path.name) == HUNDRED[50:]
        folder.edit(DESIRED, DESIRED + '[guard]\nmax_remove = "0%"\nmax_shrink = "0%"\n')
        writes = vendor.writes()
        monkeypatch.setenv("SECRET", folder.env["SECRET"])
        report = bulksend.run(folder.file, confirm=lambda *_: pytest.fail("it asks"))
    assert report.exit_code == 0
    assert report.segment is not None
    assert (report.segment.removed, report.segment.applied) == (50, True)
    assert vendor.writes() == writes
    assert len(pages) == 3
    assert known(folder) == 1
    assert files_beside(folder) == []


# What a launch that has begun keeps


def test_once_its_launch_has_begun_a_job_leaves_its_segment_alone(
    vendor: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lie(path: str, asked: Any, forward: Any) -> Any:
        return forward({"scheduled_for": "never"} if path.endswith("/start") else asked)

    with Liar(vendor, lie) as liar:
        folder = own_job(tmp_path, vendor, HUNDRED, HUNDRED[:90], text=TARGET + DESIRED + LAUNCH, base_url=liar.url)
        begun = folder.run()
        assert begun.code == 3, begun.err
        assert begun.sends["rejected"] == 1
        (tmp_path / "desired.csv").unlink()
        vendor.put(["zz"], tmp_path.name)
        pages, writes = vendor.calls(QUERY), vendor.writes()
        done = folder.run("--log", "json")
        (kept,) = [one for one in done.events if one["event"] == "segment.kept"]
        assert kept["level"] == "warning"
        assert "neither read nor changed" in kept["reason"]
        assert done.sends["total"] == 1
        assert "segment" not in done.json
        assert answer_no(monkeypatch, folder) == [None]
        planned = folder.command("plan", "job.toml", "--json")
        assert planned.code == 0, planned.err
        assert any("the launch has begun" in one for one in planned.json["warnings"])
        assert "segment" not in planned.json
    assert (vendor.calls(QUERY), vendor.writes()) == (pages, writes)


# Names and files


def test_dollars_in_an_id_and_in_a_name_stand_for_themselves(vendor: Stream, tmp_path: Path) -> None:
    vendor.make("of ${you}")
    text = TARGET.replace('"vip"', '"of $${you}"') + LAUNCH
    made_job(tmp_path / "id", vendor, HUNDRED, text=text).run()
    assert vendor.effects(CREATE)[-1]["body"]["segment_ids"] == ["of ${you}"]
    text = named(tmp_path).replace(tmp_path.name, "name of $${you}") + LAUNCH
    done = made_job(tmp_path / "name", vendor, HUNDRED, text=text).run()
    assert done.code == 0, done.err
    made = vendor.effects(MAKE)[-1]
    assert made["body"]["name"] == "name of ${you}"
    assert made["ref"] == done.json["segment"]["id"]
    assert vendor.targets(made["ref"]) == HUNDRED


def test_the_files_of_a_difference_never_take_the_place_of_what_the_job_reads(vendor: Stream, tmp_path: Path) -> None:
    folder = own_job(tmp_path, vendor, HUNDRED, ())
    folder.edit("desired.csv", "added.csv")
    write_ids(folder, HUNDRED[:50], "added.csv")
    calls = vendor.all_calls()
    for command in ("plan", "run"):
        done = folder.command(command, "job.toml", "--json", "--diff-out", ".")
        assert done.code == 2, done.err
        assert "added.csv is read by the job, and would be overwritten" in done.err
    assert vendor.all_calls() == calls
    assert (tmp_path / "added.csv").read_text("utf-8").count("\n") == 51
    assert folder.run("--diff-out", "diff").code == 0


# A plan that is stopped


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_plan_that_is_stopped_leaves_nothing(vendor: Stream, tmp_path: Path, stop: signal.Signals) -> None:
    limits = FAST.replace(f'"{QUERY}" = "1000/s"', f'"{QUERY}" = "1/min"')
    folder = own_job(tmp_path, vendor, numbered(range(10_001)), HUNDRED, limits=limits)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    folder.env["TMPDIR"] = str(scratch)
    pages = vendor.calls(QUERY)
    running = folder.start("plan", "job.toml", "--diff-out", "diff")
    wait_until(lambda: vendor.calls(QUERY) > pages and any(scratch.rglob("*.jsonl")), running)
    running.send_signal(stop)
    done = finish(running)
    assert done.code == 75, done.err
    assert "the segment was not read to its end" in done.err
    assert list(scratch.iterdir()) == []
    assert [*(tmp_path / "diff").iterdir()] == []
