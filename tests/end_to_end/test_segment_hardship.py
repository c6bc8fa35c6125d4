"""A vendor that fails, miscounts, repeats itself or forgets, and ids of every kind: the end state is right or told."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.segments import (
    CREATE,
    DELETE,
    DESIRED,
    EXISTS,
    LAUNCH,
    QUERY,
    TARGET,
    Liar,
    Stream,
    events,
    figures,
    files_beside,
    is_page,
    numbered,
    own_segment_job,
    segment_job,
    tenth,
)

FAULTS = (
    *("429", "429-retry-after=1", "500", "503", "500-after", "503-after"),
    *("reset-before", "reset-after", "truncated", "not-json"),
)
LOGGED = ("--log-file", "events.jsonl")
KINDS = (
    *("plain", "7", "07", "007", "0x1F", "1e5", "1_000", "-1", "+1", "1.0", "NaN", "null", "NULL", "true", "True"),
    *("abc", "Abc", "ABC", "aBC", "straße", "STRASSE", "İstanbul", "istanbul", "\u0131stanbul", "Σίσυφος", "ΣΊΣΥΦΟΣ"),
    *(
        "é",
        "e\u0301",
        "Å",
        "Å",
        "日本語",
        "שלום",
        "مرحبا",
        "👩‍👩‍👧‍👦",
        "🇺🇸",
        "\ue000",
        "\uffee",
        "𐀀",
        "\u200b",
        "a\ufeffb",
    ),
    *(" leading", "trailing ", "two  words", "a\tb", "a\u00a0b", "a\u2028b", "a\u0085b", "\\n", "\\", "C:\\x"),
    *('say "hi"', '"', '""', "'", "it's", "a,b", ",", ";", "a;b", "|", "a\nb", "a\r\nb", "\nx", "#x", "-- x", "/*"),
    *(".", "..", "../x", "%20", "%", "a/b", "?x=1", "&", "=1+1", "@x", "${x}", "$${x}", "{{x}}", '{"a":1}', "[1]"),
)
LONG = ("x" * 250, "é" * 250, "👍" * 250, "Ab" * 125, " 0" * 125)


def every_kind(variants: int) -> list[str]:
    """Return the kinds as they are and in variants, some of 255 characters, without doubles, by code point."""
    exact = [*KINDS, "x" * 255, "é" * 255, "👍" * 255, "X" * 255]
    return sorted({*exact, *(f"{kind}{one:05}" for kind in (*KINDS, *LONG) for one in range(variants))})


def write_csv(path: Path, ids: list[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["note", "id"])
        writer.writerows([at, one] for at, one in enumerate(ids))


def write_jsonl(path: Path, ids: list[str]) -> None:
    path.write_text("".join(json.dumps({"id": one, "note": 1}) + "\n" for one in ids), "utf-8")


def read_ids(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [one for (one,) in csv.reader(file)][1:]


@pytest.mark.parametrize("collation", ["code-point", "no-case"])
def test_ids_of_every_kind_are_added_and_removed_exactly(tmp_path: Path, collation: str) -> None:
    ids = every_kind(120)
    halves = ids[::2], ids[1::2]
    with Stream("--collation", collation) as vendor:
        vendor.put(halves[1])
        folder = segment_job(tmp_path, vendor, ())
        write_csv(tmp_path / "desired.csv", [*reversed(halves[0]), *halves[0][:500]])
        write_jsonl(tmp_path / "desired.jsonl", [*halves[1], halves[1][0]])
        # Each id is added once and removed once: the second list is what the segment held at first.
        for wanted, before, name in ((halves[0], halves[1], "desired.csv"), (halves[1], halves[0], "desired.jsonl")):
            folder.file.write_text(re.sub(r'from = ".*"', f'from = "{name}"', folder.file.read_text("utf-8")), "utf-8")
            done = folder.run("--diff-out", "diff", *LOGGED)
            assert done.code == 0, done.err
            assert vendor.targets() == wanted
            assert figures(done) == [len(before), len(wanted), len(wanted), len(before)]
            assert done.json["segment"]["drift"] == done.json["segment"]["left"] == 0
            assert sorted(read_ids(tmp_path / "diff" / "added.csv")) == wanted
            assert sorted(read_ids(tmp_path / "diff" / "removed.csv")) == before
        unordered = events(tmp_path / "events.jsonl", "segment.unordered")
        assert len(unordered) == (0 if collation == "code-point" else 2)


def test_faults_of_every_kind_on_every_route_leave_the_same_end_state(tmp_path: Path) -> None:
    remote, desired = tenth(60_000)
    flags = [part for fault in FAULTS for part in ("--fault", f"{fault}:2%")]
    with Stream(*flags, "--seed", "11") as vendor:
        vendor.put(remote)
        assert vendor.targets() == remote
        folder = segment_job(tmp_path, vendor, desired)
        done = folder.run()
        assert done.code == 0, done.err
        assert vendor.targets() == desired
        assert figures(done) == [60_000, 60_000, 3000, 3000]
        assert done.json["segment"]["drift"] == done.json["segment"]["left"] == 0
        assert files_beside(folder) == []
        # It was hard: both reads and writes met faults, and what failed was asked for again alone.
        met = {name: vendor.stats(name)["faults"] for name in (QUERY, DELETE)}
        assert all(sum(one.values()) >= 2 for one in met.values()), met
        assert vendor.calls(QUERY) <= 2 * (6 + 4) + sum(met[QUERY].values())


@pytest.fixture(scope="module")
def vendor() -> Iterator[Stream]:
    """Give one emulator to all tests below; each has a segment of its own."""
    with Stream() as running:
        yield running


def test_a_page_that_fails_is_asked_for_again_alone(vendor: Stream, tmp_path: Path) -> None:
    remote = numbered(range(20_000))
    asked_for: list[str] = []

    def lie(path: str, asked: Any, forward: Any) -> Any:
        answer = forward(asked)
        if is_page(path):
            asked_for.append(json.dumps(asked, sort_keys=True))
            if len(asked_for) == 2:
                return {"targets": [{"no": "id"}]}
        return answer

    with Liar(vendor, lie) as liar:
        done = own_segment_job(tmp_path, vendor, remote, remote, base_url=liar.url).run()
    assert done.code == 0, done.err
    assert figures(done) == [20_000, 20_000, 0, 0]
    assert len(asked_for) == 3
    assert asked_for[1] == asked_for[2] != asked_for[0]


def test_calls_that_were_made_again_are_counted_as_repeated(vendor: Stream, tmp_path: Path) -> None:
    pages: list[str] = []

    def lie(path: str, asked: Any, forward: Any) -> Any:
        answer = forward(asked)
        if is_page(path):
            pages.append(path)
        return {"targets": "none"} if len(pages) == 1 and is_page(path) else answer

    with Liar(vendor, lie) as liar:
        done = own_segment_job(tmp_path, vendor, ["a"], ["a"], base_url=liar.url).run()
    assert done.code == 0, done.err
    assert len(pages) == 2
    assert done.json["calls"]["retried"] == 1


def test_a_cursor_that_comes_twice_is_an_error_and_not_a_circle(vendor: Stream, tmp_path: Path) -> None:
    cursors: list[str] = []

    def lie(path: str, asked: Any, forward: Any) -> Any:
        answer = forward(asked)
        if is_page(path) and answer.get("next"):
            cursors.append(answer["next"])
            answer["next"] = cursors[0]
        return answer

    with Liar(vendor, lie) as liar:
        folder = own_segment_job(tmp_path, vendor, numbered(range(25_000)), numbered(range(10)), base_url=liar.url)
        writes = vendor.writes()
        done = folder.run()
    assert done.code == 1, done.err
    assert "cursor leads in a circle" in done.err
    assert vendor.writes() == writes
    assert 2 <= len(cursors) <= 4


def test_pages_without_end_are_capped_by_the_size(vendor: Stream, tmp_path: Path) -> None:
    pages = 0

    def lie(path: str, asked: Any, forward: Any) -> Any:
        nonlocal pages
        if not is_page(path):
            return forward(asked)
        pages += 1
        return {"targets": [{"target_id": one} for one in numbered([pages])], "next": f"cursor-{pages}"}

    with Liar(vendor, lie) as liar:
        folder = own_segment_job(tmp_path, vendor, numbered(range(10)), numbered(range(10)), base_url=liar.url)
        writes = vendor.writes()
        done = folder.run()
    assert done.code == 1, done.err
    assert "though its size says otherwise" in done.err
    assert vendor.writes() == writes
    assert pages < 50


def test_ids_that_come_twice_count_once(vendor: Stream, tmp_path: Path) -> None:
    remote = numbered(range(20_000))
    last: list[Any] = []

    def lie(path: str, asked: Any, forward: Any) -> Any:
        answer = forward(asked)
        if is_page(path):
            # A cursor that overlaps: the end of the page before comes again; and some rows stand twice.
            rows = answer["targets"]
            again = last[:] if asked.get("next") else []
            last[:] = rows[-3:]
            answer["targets"] = [*again, *(row for at, row in enumerate(rows) for _ in range(1 + (at % 100 == 0)))]
        return answer

    with Liar(vendor, lie) as liar:
        done = own_segment_job(tmp_path, vendor, remote, [*remote[1:], "zz"], base_url=liar.url).run("--log", "json")
    assert done.code == 0, done.err
    assert figures(done) == [20_000, 20_000, 1, 1]
    assert vendor.targets(tmp_path.name) == [*remote[1:], "zz"]
    assert not any(one["event"] == "segment.unordered" for one in done.events)


def forgetful(path: str, asked: Any, forward: Any) -> Any:
    """Answer each write as done, and lose three ids of it."""
    if path.endswith(("/addtargets", "/deletetargets")):
        return forward({"target_ids": sorted(asked["target_ids"])[3:]})
    return forward(asked)


@pytest.mark.parametrize("with_launch", [False, True])
def test_what_still_differs_after_the_writes_is_told_and_holds_the_launch(
    vendor: Stream, tmp_path: Path, with_launch: bool
) -> None:
    remote, desired = numbered(range(40)), numbered(range(20, 60))
    launches = vendor.calls(CREATE)
    text = TARGET + DESIRED + (LAUNCH if with_launch else "")
    with Liar(vendor, forgetful) as liar:
        folder = own_segment_job(tmp_path, vendor, remote, desired, text=text, base_url=liar.url)
        done = folder.run("--diff-out", "diff")
    assert done.code == (4 if with_launch else 3), done.err
    assert done.json["segment"]["left"] == 6
    with (tmp_path / "diff" / "differing.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "state"]
    assert sorted(rows[1:]) == sorted(
        [[one, "missing"] for one in numbered(range(40, 43))] + [[one, "extra"] for one in numbered(range(3))]
    )
    assert vendor.calls(CREATE) == launches
    if with_launch:
        # The next run finds what is left, and goes on to the launch only then.
        with Liar(vendor, lambda _path, asked, forward: forward(asked)) as honest:
            again = folder.run("--base-url", honest.url)
        assert again.code == 0, again.err
        assert vendor.calls(CREATE) == launches + 1
    else:
        # What the last run told does not stand beside what this one tells.
        again = folder.run("--diff-out", "diff", "--base-url", vendor.url)
        assert again.code == 0, again.err
        assert sorted(one.name for one in (tmp_path / "diff").iterdir()) == ["added.csv", "removed.csv"]
        assert read_ids(tmp_path / "diff" / "removed.csv") == numbered(range(3))


def test_targets_that_others_change_meanwhile_are_drift_and_no_error(vendor: Stream, tmp_path: Path) -> None:
    remote, desired = numbered(range(300)), numbered(range(1, 301))
    come, gone = "zz-stranger", "u0000150"

    def lie(path: str, asked: Any, forward: Any) -> Any:
        if path.endswith("/addtargets"):
            vendor.put([come], tmp_path.name)
            vendor.take([gone], tmp_path.name)
        return forward(asked)

    with Liar(vendor, lie) as liar:
        done = own_segment_job(tmp_path, vendor, remote, desired, base_url=liar.url).run()
    assert done.code == 0, done.err
    assert done.json["segment"]["drift"] == 2
    assert done.json["segment"]["left"] == 0
    assert vendor.targets(tmp_path.name) == sorted({*desired, come} - {gone})


@pytest.mark.parametrize(("verify", "asks"), [("sample", 60), ("off", 0)])
def test_the_last_look_is_as_thorough_as_asked_for(vendor: Stream, tmp_path: Path, verify: str, asks: int) -> None:
    remote, desired = numbered(range(200)), numbered(range(10, 250))
    extra = f'[guard]\nverify = "{verify}"\n'
    folder = own_segment_job(tmp_path, vendor, remote, desired, extra=extra)
    pages, asked = vendor.calls(QUERY), vendor.calls(EXISTS)
    done = folder.run()
    assert done.code == 0, done.err
    assert done.json["segment"]["drift"] is None
    assert vendor.calls(QUERY) - pages == 1
    assert vendor.calls(EXISTS) - asked == asks
    assert vendor.targets(tmp_path.name) == desired
