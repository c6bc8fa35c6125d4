"""What a plan shows of a segment job, the files of a difference, an emulated run, and every job that is refused."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from tests.end_to_end.segments import (
    ADD,
    DELETE,
    DESIRED,
    FAST,
    LAUNCH,
    QUERY,
    SEGMENT,
    TARGET,
    Stream,
    figures,
    numbered,
    own_segment_job,
    segment_job,
    write_ids,
)
from tests.end_to_end.vendor import Folder

HUNDRED = numbered(range(100))
LIST = numbered(range(3, 105))


@pytest.fixture(scope="module")
def vendor() -> Iterator[Stream]:
    """Give one emulator to all tests here; each has segments of its own."""
    with Stream() as running:
        yield running


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_plan_shows_the_difference_and_changes_nothing(vendor: Stream, tmp_path: Path) -> None:
    limits = f'[limits]\n"{QUERY}" = "60/min"\n"{ADD}" = "600/min"\n"{DELETE}" = "6/min"\n'
    folder = own_segment_job(tmp_path, vendor, HUNDRED, numbered(range(150, 10_200)), limits=limits)
    writes = vendor.writes()
    planned = folder.command("plan", "job.toml", "--json", "--diff-out", "out/diff")
    assert planned.code == 0, planned.err
    found = planned.json
    assert figures(planned) == [100, 10_050, 10_050, 100]
    assert found["segment"]["id"] == tmp_path.name
    assert found["segment"]["applied"] is False
    assert found["segment"]["samples"] == {"added": numbered(range(150, 153)), "removed": HUNDRED[:3]}
    calls = {name: one["calls"] for name, one in found["endpoints"].items()}
    # One page, and two once it holds what is desired.
    assert calls == {QUERY: 3, ADD: 2, DELETE: 1}
    assert {name: one["limit"] for name, one in found["endpoints"].items()}[DELETE] == "6/min"
    assert found["bottleneck"] == QUERY
    assert found["eta_s"] == pytest.approx(sum(one["duration_s"] for one in found["endpoints"].values()), abs=0.3)
    assert found["problems"] == []

    words = folder.command("plan", "job.toml")
    assert words.code == 0
    for line in (
        f"segment     {tmp_path.name}: 100 targets, 10,050 desired",
        "to add      10,050: u0000150, u0000151, u0000152, …",
        "to remove   100: u0000000, u0000001, u0000002, …",
        f"difference  {found['segment']['hash']}",
        f"{ADD}: 2 calls at 600/min",
        "ETA",
    ):
        assert line in words.out

    assert vendor.writes() == writes
    assert vendor.targets(tmp_path.name) == HUNDRED
    assert names(tmp_path) == ["desired.csv", "job.toml", "out"]
    for name, ids in (("added", numbered(range(150, 10_200))), ("removed", HUNDRED)):
        file = tmp_path / "out" / "diff" / f"{name}.csv"
        assert file.read_text("utf-8") == "".join(f"{one}\n" for one in ("id", *ids))
        assert mode(file) == 0o600
    assert mode(tmp_path / "out" / "diff") == 0o700


def test_a_plan_of_no_difference(vendor: Stream, tmp_path: Path) -> None:
    folder = own_segment_job(tmp_path, vendor, HUNDRED, [*HUNDRED, *HUNDRED[:7]])
    planned = folder.command("plan", "job.toml", "--json")
    assert planned.code == 0, planned.err
    assert figures(planned) == [100, 100, 0, 0]
    assert planned.json["endpoints"][ADD]["calls"] == planned.json["endpoints"][DELETE]["calls"] == 0


def test_a_run_writes_the_same_files_as_a_plan_and_others_cannot_read_them(vendor: Stream, tmp_path: Path) -> None:
    folder = own_segment_job(tmp_path, vendor, HUNDRED, LIST)
    diff = tmp_path / "diff"
    diff.mkdir()
    for name in ("added", "removed"):
        (diff / f"{name}.csv").write_text("of an earlier day")
        (diff / f"{name}.csv").chmod(0o644)
    done = folder.run("--diff-out", "diff")
    assert done.code == 0, done.err
    assert (diff / "added.csv").read_text() == "".join(f"{one}\n" for one in ("id", *numbered(range(100, 105))))
    assert (diff / "removed.csv").read_text() == "".join(f"{one}\n" for one in ("id", *HUNDRED[:3]))
    assert mode(diff / "added.csv") == mode(diff / "removed.csv") == 0o600
    assert names(diff) == ["added.csv", "removed.csv"]
    assert vendor.targets(tmp_path.name) == LIST
    # What is about to be changed was told before: numbers, samples, calls and their limits.
    for line in ("added       5: u0000100", "removed     3: u0000000, u0000001", f"{ADD}: 1 call at 1000/s"):
        assert line in done.err.replace("to add   ", "added    ").replace("to remove   ", "removed     "), done.err


def test_the_same_ids_from_any_source_are_the_same_difference(vendor: Stream, tmp_path: Path) -> None:
    folder = own_segment_job(tmp_path, vendor, HUNDRED, ())
    write_ids(folder, reversed(LIST[:60]), "part-1.csv")
    write_ids(folder, LIST[50:], "part-2.csv")
    table = f"(select unnest({LIST!r}) as id)"
    duckdb.sql(f"copy {table} to '{tmp_path}/desired.parquet' (format parquet)")
    sources = (
        'from = "part-*.csv"',
        'from = "desired.parquet"',
        "sql = \"select lower(id) as id from 'part-1.csv' union all select id from 'part-2.csv'\"",
    )
    hashes = set()
    text = folder.file.read_text("utf-8")
    for source in sources:
        folder.file.write_text(text.replace('from = "desired.csv"', source), "utf-8")
        planned = folder.command("plan", "job.toml", "--json")
        assert planned.code == 0, planned.err
        assert figures(planned) == [100, len(LIST), 5, 3]
        hashes.add(planned.json["segment"]["hash"])
    assert len(hashes) == 1


def test_plan_and_run_emulate_ask_for_no_account(tmp_path: Path) -> None:
    text = 'job = "sale"\n[account]\nprovider = "stream"\napi_key = "k"\napi_secret = "env:NOT_SET"\n'
    folder = Folder(tmp_path, text + TARGET.replace(SEGMENT, "of ours/7") + DESIRED + LAUNCH + FAST)
    (tmp_path / "desired.csv").write_text("".join(f"{one}\n" for one in ("id", *HUNDRED)))
    planned = folder.command("plan", "job.toml", "--emulate", "--json")
    assert planned.code == 0, planned.err
    assert figures(planned) == [0, 100, 100, 0]
    assert planned.json["segment"]["id"] == "of ours/7"
    done = folder.run("--emulate")
    assert done.code == 0, done.err
    assert figures(done) == [0, 100, 100, 0]
    assert done.json["segment"]["applied"] is True
    assert done.sends["accepted"] == 1
    assert names(tmp_path) == ["desired.csv", "job.toml"]


WRONG = {
    "blank and too long": (
        TARGET + DESIRED,
        {"desired.csv": f'n,id\n1,a\n2,\n3,"  "\n4,{"x" * 256}\n5,{"y" * 255}\n6,{"é" * 256}\n'},
        ["row 2: the id is blank", "row 3: the id is blank", "row 4: the id is longer than 255", "row 6"],
    ),
    "unknown column": (TARGET + DESIRED.replace('"id"', '"nope"'), {"desired.csv": "id\na\n"}, ["nope", "desired"]),
    "no file": (TARGET + DESIRED, {}, ["desired.csv"]),
    "a filter of its own": (
        '[segment]\nname = "x"\ncreate = true\nall_users = true\n' + DESIRED,
        {"desired.csv": "id\na\n"},
        ["segment.all_users", "lets the vendor choose the targets"],
    ),
    "an id by rows": (
        '[segment]\nid = "a${country}"\n' + DESIRED,
        {"desired.csv": "id\na\n"},
        ["segment.id", "no ${column} can stand here"],
    ),
    "a name by rows": (
        '[segment]\nname = "${country}"\ncreate = true\n' + DESIRED,
        {"desired.csv": "id\na\n"},
        ["segment.name", "no ${column} can stand here"],
    ),
    "no segment": (DESIRED, {"desired.csv": "id\na\n"}, ["[desired] is brought into a [segment]"]),
    "match": (TARGET + DESIRED + 'match = "email"\n', {"desired.csv": "id\na\n"}, ["desired.match"]),
    "missing": (
        TARGET.replace(SEGMENT, "absent") + DESIRED,
        {"desired.csv": "id\na\n"},
        ["there is no segment absent"],
    ),
    "filled by the vendor": (
        TARGET.replace(SEGMENT, "filtered") + DESIRED,
        {"desired.csv": "id\na\n"},
        ["segment filtered chooses its targets by itself (filter)"],
    ),
}
ASKING = ("missing", "filled by the vendor")


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_job_is_refused_before_anything_changes(vendor: Stream, tmp_path: Path, name: str) -> None:
    text, files, words = WRONG[name]
    folder = segment_job(tmp_path, vendor, (), text=text)
    (tmp_path / "desired.csv").unlink()
    for file, content in files.items():
        (tmp_path / file).write_text(content, "utf-8")
    if name == "filled by the vendor":
        vendor.make("filtered", filter={"country": "USA"})
    writes, calls = vendor.writes(), vendor.all_calls()
    done = folder.run()
    assert done.code == 2, done.err
    for word in words:
        assert word in done.err
        assert any(word in problem for problem in done.json["problems"])
    assert vendor.writes() == writes
    assert vendor.all_calls() - calls == (1 if name in ASKING else 0)
    if name == "blank and too long":
        assert len(done.json["problems"]) == 4
        planned = folder.command("plan", "job.toml", "--json")
        assert planned.code == 2
        assert len(planned.json["problems"]) == 4
        assert vendor.all_calls() == calls


def test_several_accounts_or_a_cut_list_are_refused(vendor: Stream, tmp_path: Path) -> None:
    folder = own_segment_job(tmp_path, vendor, HUNDRED, HUNDRED[:1])
    calls = vendor.all_calls()
    cut = folder.run("--limit", "1")
    assert cut.code == 2
    assert "what it left out would be removed" in cut.err
    planned = folder.command("plan", "job.toml", "--limit", "1")
    assert planned.code == 2
    assert "what it left out would be removed" in planned.err
    text = folder.file.read_text("utf-8")
    lines = text[text.index("[account]\n") : text.index("[segment]")].removeprefix("[account]\n")
    two = text.replace(f"[account]\n{lines}", f"[account.a]\n{lines}[account.b]\n{lines}")
    assert two.count('provider = "stream"') == 2
    folder.file.write_text(two, "utf-8")
    done = folder.run()
    assert done.code == 2
    assert "needs one account" in done.err
    assert vendor.all_calls() == calls
