"""The desired list: the same ids in the same order as Python sorts them, whatever they hold and wherever they stand."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bulksend.errors import InterruptedRunError, JobError, Problem, RunError
from bulksend.job import desired as module
from bulksend.job.audience import Audience
from bulksend.job.desired import sort_desired

RELAXED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KINDS = ["csv", "jsonl", "parquet", "sql"]


@pytest.fixture
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture
def desired(tmp_path, scratch):
    """Sort what a source beside `tmp_path` names."""

    def sorting(source=None, *, sql=None, key="id", most_chars=255, **how):
        return sort_desired(
            base_dir=tmp_path, source=source, sql=sql, key=key, scratch_dir=scratch, most_chars=most_chars, **how
        )

    return sorting


@pytest.fixture
def small_ranges(monkeypatch):
    shrink(monkeypatch)


def shrink(patch) -> None:
    """Have even a few ids put apart into many ranges, written to disk piece by piece, and into many blocks."""
    patch.setattr(module, "_RANGE_BYTES", 400)
    patch.setattr(module, "_BATCH", 7)
    patch.setattr(module, "_BLOCK_IDS", 3)


def all_ids(ids) -> list[str]:
    """Return every id, and see that the blocks say of themselves what they hold."""
    blocks = [ids.block(number) for number in range(ids.blocks)]
    for number, block in enumerate(blocks):
        assert (ids.first(number), ids.last(number)) == (block[0], block[-1])
    found = [each for block in blocks for each in block]
    assert ids.count == len(found)
    return found


def write(path: Path, ids: list[str | None]) -> str:
    """Write ids as a file of the kind that its ending says."""
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["n", "id"], *([0, each] for each in ids)])
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"n": 0, "id": each}, ensure_ascii=False) + "\n" for each in ids), "utf-8")
    else:
        import duckdb

        with duckdb.connect() as connection:
            connection.execute("create table t (n integer, id varchar)")
            connection.execute("insert into t select 0, unnest(?::varchar[])", [ids])
            connection.execute(f"copy t to '{path}' (format parquet)")
    return path.name


def source_of(tmp_path: Path, kind: str, ids: list[str | None]) -> dict[str, str]:
    """Write ids and return how `desired` is told of them."""
    if kind == "sql":
        write(tmp_path / "s.parquet", ids)
        return {"sql": "select n, id from 's.parquet'"}
    return {"source": write(tmp_path / f"a.{kind}", ids)}


def in_a_process(tmp_path: Path, scratch: Path, *, before: str = "") -> subprocess.CompletedProcess[str]:
    """Sort a.csv in a process of its own, which prints the most memory that it took, in KB."""
    code = f"""{before}
from pathlib import Path
from bulksend.job.desired import sort_desired
where = dict(base_dir=Path({str(tmp_path)!r}), source="a.csv", sql=None, key="id", scratch_dir=Path({str(scratch)!r}))
found = sort_desired(**where, most_chars=None)
assert found.count == found.rows
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)


# What comes out

plain = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
special = st.sampled_from(
    [
        *("1", "01", "001", "10", "2", "-1", "1e5", "1.0", "0007", "true", "NULL", "null", "None", "\\N", "nan"),
        *(
            " x",
            "x ",
            " x ",
            "\tx",
            "x\u00a0",
            "a\nb",
            "a\r\nb",
            "a\rb",
            '"',
            '""',
            "'",
            '"x"',
            "a,b",
            "a;b",
            "\\",
            "${x}",
        ),
        *("a", "A", "ä", "Ä", "a\u0308", "é", "e\u0301", "ß", "ss", "\u0130", "i\u0307", "\ufb00", "\uffff", "\ue000"),
        *(
            "😀",
            "😀😀",
            "\U0010ffff",
            "\ufeffx",
            "\u200b",
            "\u200fx",
            "x" * 255,
            "😀" * 255,
            "é" * 254 + "a",
            "\x01",
            "\x7f",
        ),
    ]
)
ids_of_any_kind = (special | plain | st.integers().map(str)).filter(lambda each: each.strip())


@RELAXED
@given(
    kind=st.sampled_from(KINDS),
    many=st.booleans(),
    ids=st.lists(ids_of_any_kind, max_size=80),
    again=st.integers(0, 3),
)
@example(kind="csv", many=True, ids=["b", "a\nb", "B", "😀", "\uffff", "a"] * 9, again=2)
@example(kind="sql", many=True, ids=["same"] * 50, again=0)
def test_ids_are_those_that_python_sorts(tmp_path, scratch, kind, many, ids, again):
    rows = ids + random.Random(len(ids)).sample(ids, len(ids)) * again
    where = {"source": None, "sql": None, "key": "id", **source_of(tmp_path, kind, rows)}
    with pytest.MonkeyPatch.context() as patch:
        if many:
            shrink(patch)
        found = sort_desired(base_dir=tmp_path, scratch_dir=scratch, most_chars=255, **where)
    with found:
        assert all_ids(found) == sorted(set(rows))
        assert found.rows == len(rows)


def test_blocks_hold_5000_ids(tmp_path, desired):
    ids = [f"{n:06d}" for n in range(12_001)]
    with desired(write(tmp_path / "a.csv", ids[::-1])) as found:
        assert [len(found.block(number)) for number in range(found.blocks)] == [5000, 5000, 2001]
        assert all_ids(found) == ids
        with pytest.raises(IndexError):
            found.block(3)


def test_numbers_are_ids_by_their_text(tmp_path, desired):
    (tmp_path / "a.jsonl").write_text('{"id": 10}\n{"id": "9"}\n{"id": 9}\n{"id": "09"}\n')
    assert all_ids(desired("a.jsonl")) == all_ids(desired(sql="select unnest([10, 9, 9]) as id union select '09'"))
    assert all_ids(desired("a.jsonl")) == ["09", "10", "9"]
    assert all_ids(desired(sql="select unnest([10, 9, -1]) as id")) == ["-1", "10", "9"]


def test_a_collation_in_the_sql_does_not_sort_the_ids(desired):
    assert all_ids(desired(sql="select unnest(['b', 'A', 'a', 'B']) collate nocase as id")) == ["A", "B", "a", "b"]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_that_begin_alike_and_ids_that_stand_often_are_put_apart_all_the_same(
    tmp_path, desired, small_ranges, kind
):
    chance = random.Random(7)
    ids = ["p" * 240 + str(chance.randrange(10**9)) for _ in range(400)] + ["p" * 240] * 800 + ["q", "o"]
    chance.shuffle(ids)
    assert all_ids(desired(**source_of(tmp_path, kind, ids))) == sorted(set(ids))


def test_a_range_holds_no_more_than_its_share_of_distinct_ids(tmp_path, desired, small_ranges, monkeypatch):
    sizes = []

    class Watched(module._Writing):
        def add(self, ids):
            sizes.append(len(ids))
            super().add(ids)

    monkeypatch.setattr(module, "_Writing", Watched)
    ids = [f"{n * 7919 % 2000:04d}" for n in range(2000)] + ["1000"] * 3000
    assert all_ids(desired(write(tmp_path / "a.csv", ids))) == [f"{n:04d}" for n in range(2000)]
    assert len(sizes) > 100
    assert max(sizes) < 100


# The fingerprint


@pytest.mark.parametrize("many", [False, True])
def test_the_fingerprint_is_that_of_the_ids_alone(tmp_path, desired, monkeypatch, many):
    if many:
        monkeypatch.setattr(module, "_RANGE_BYTES", 1000)
    chance = random.Random(3)
    ids = [f"k{n} é" for n in range(500)]
    first = desired(write(tmp_path / "a.csv", ids)).fingerprint
    assert len(bytes.fromhex(first)) == 16
    for kind in KINDS:
        shuffled = [*ids, *chance.sample(ids, 100)]
        chance.shuffle(shuffled)
        assert desired(**source_of(tmp_path, kind, shuffled)).fingerprint == first
    others = [ids, ids[:-1], [*ids, "x"], [*ids[:-1], "k499 É"], ["k0 ék1 é", *ids[2:]], []]
    assert len({desired(write(tmp_path / "b.csv", other)).fingerprint for other in others}) == len(others)


# What is refused


@pytest.mark.parametrize("kind", KINDS)
def test_blank_and_too_long_ids_are_told_by_row_all_at_once(tmp_path, desired, kind):
    ids = ["a", "x" * 256, None, "é" * 255, "", "b", "\u2003 \t", "😀" * 256, "a", " " * 300]
    with pytest.raises(JobError) as caught:
        desired(**source_of(tmp_path, kind, ids))
    label = "sql" if kind == "sql" else f"a.{kind}"
    long, blank = "the id is longer than 255 characters", "the id is blank"
    told = [(2, long), (3, blank), (5, blank), (7, blank), (8, long), (10, blank)]
    assert caught.value.problems == tuple(Problem(text, file=label, row=row) for row, text in told)
    assert caught.value.more == 0


def test_the_first_hundred_problems_are_told_and_the_rest_counted(tmp_path, desired):
    ids = ["long" if n % 3 == 0 else "" if n % 3 == 1 else "ok" for n in range(300)]
    with pytest.raises(JobError) as caught:
        desired(write(tmp_path / "a.csv", ids), most_chars=3)
    assert [problem.row for problem in caught.value.problems] == [n + 1 for n in range(300) if n % 3 != 2][:100]
    assert caught.value.more == 100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id": 1}\n{"id": 1.5}\n', "row 2: id: a key must be text or a whole number"),
        ('{"id": 1}\n{"id": [1]}\n', "row 2: id: a key must be text or a whole number"),
        ('{"id": 1, "id": 2}\n', "row 1: id: stands twice in the object"),
        ('{"id": 1}\n[]\n', "a.jsonl:2: is not a JSON object"),
        ("nothing\n", "a.jsonl:1: is not a JSON object"),
        ('{"Id": 1}\n', "has no key column 'id'; did you mean 'Id'"),
    ],
)
def test_what_an_audience_refuses_is_refused(tmp_path, desired, text, said):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(JobError) as caught:
        desired("a.jsonl")
    assert said in str(caught.value)
    with pytest.raises(JobError, match="a key must be text or a whole number"):
        desired(sql="select 1.5::double as id")


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, desired, monkeypatch):
    write(tmp_path / "a.csv", ["a", "b"])
    measure = Audience.measure_keys

    def then_it_grows(audience, *args, **how):
        sizes = measure(audience, *args, **how)
        with (tmp_path / "a.csv").open("a") as file:
            file.write('"0","c"\r\n')
        return sizes

    monkeypatch.setattr(Audience, "measure_keys", then_it_grows)
    with pytest.raises(JobError, match=r"a\.csv: changed while it was read"):
        desired("a.csv")


@pytest.mark.parametrize("most", [5000, 1])
def test_ranges_that_overlap_are_never_written(tmp_path, desired, monkeypatch, most):
    monkeypatch.setattr(module, "_BLOCK_IDS", most)
    monkeypatch.setattr(module, "_splitters", lambda *_: ["m"])
    monkeypatch.setattr(module, "bisect_right", lambda _, each: int(each < "m"))
    with pytest.raises(RunError, match="out of order"):
        desired(write(tmp_path / "a.csv", list("abcdefghijklmnopqrstuvwxyz")))


# Nothing to send


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"id\n"),
        ("a.csv", b"n,id"),
        ("a.jsonl", b""),
        ("a.jsonl", b"\n \n"),
        ("a.jsonl.gz", b""),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0)),
        ("a*.jsonl", b""),
    ],
)
def test_an_empty_file_is_an_empty_list(tmp_path, desired, name, content):
    (tmp_path / name.replace("*", "")).write_bytes(content)
    found = desired(name)
    assert (found.count, found.rows, found.blocks, len(found.fingerprint)) == (0, 0, 0, 32)


def test_a_table_without_rows_is_an_empty_list(tmp_path, desired):
    write(tmp_path / "a.parquet", [])
    assert desired("a.parquet").count == 0
    assert desired(sql="from 'a.parquet'").count == 0
    assert desired(sql="select 1 as id where false").blocks == 0


def test_an_empty_file_among_others_adds_nothing(tmp_path, desired):
    (tmp_path / "a1.jsonl").write_bytes(b"")
    write(tmp_path / "a2.jsonl", ["b", "a"])
    write(tmp_path / "a3.jsonl", ["c", "a"])
    found = desired("a*.jsonl")
    assert (all_ids(found), found.rows) == (["a", "b", "c"], 4)


def test_an_audience_is_still_never_empty(tmp_path, scratch):
    (tmp_path / "a.jsonl").write_bytes(b"")
    with pytest.raises(JobError, match="is empty"):
        Audience(base_dir=tmp_path, source="a.jsonl", sql=None, key="id", scratch_dir=scratch)


# Stopping, threads, and what is left behind


def test_it_stops_wherever_it_is_asked(tmp_path, scratch, desired, small_ranges):
    name = write(tmp_path / "a.csv", [f"{n:040d}" for n in range(100)])
    asked = []
    desired(name, stopping=lambda: bool(asked.append(1)))
    assert len(asked) > 35  # the batches and the ranges
    for answers in range(len(asked)):
        left = iter([False] * answers)
        with pytest.raises(InterruptedRunError, match="stopped before the desired list was read"):
            desired(name, stopping=lambda left=left: next(left, True))
    assert list(scratch.iterdir()) == []


def test_blocks_are_read_from_many_threads(tmp_path, desired, small_ranges):
    ids = sorted(f"{n:x}" for n in range(2000))
    with desired(write(tmp_path / "a.csv", ids)) as found, ThreadPoolExecutor(8) as threads:
        wanted = [number for number in range(found.blocks) for _ in range(5)]
        random.Random(1).shuffle(wanted)
        for number, block in zip(wanted, threads.map(found.block, wanted), strict=True):
            assert block == ids[number * 3 : number * 3 + 3]


def test_nothing_is_left_behind(tmp_path, scratch, desired):
    before = len(list(Path("/proc/self/fd").iterdir()))
    found = desired(write(tmp_path / "a.csv", ["a"]))
    assert found.block(0) == ["a"]
    assert os.fstat(found._file.fileno()).st_mode & 0o077 == 0
    assert list(scratch.iterdir()) == []
    found.close()
    found.close()
    with pytest.raises(ValueError, match="closed file"):
        found.block(0)
    del found
    desired("a.csv")  # never closed: the interpreter does it, without a warning
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# Few ids are first on disk as a block, those of 12 MB as ranges.
@pytest.mark.parametrize(("count", "most"), [(10, 1000), (60_000, 50_000), (60_000, 6_000_000)])
def test_a_full_disk_is_no_fault_of_the_job(tmp_path, scratch, count, most):
    write(tmp_path / "a.csv", [f"{n:0200d}" for n in range(count)])
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, resource.RLIM_INFINITY))\n"
    said = in_a_process(tmp_path, scratch, before=limit).stderr.splitlines()[-1]
    assert said.startswith("bulksend.errors.RunError: a temporary file cannot be written: ")


@pytest.mark.parametrize(("chars", "most"), [(250, 400_000), (4000, 30_000)])
def test_memory_does_not_grow_with_the_ids(tmp_path, scratch, chars, most):
    """The ids of the longer list are at least twice as much as what is allowed between the two peaks."""
    peaks = []
    for count in (1000, most):
        with (tmp_path / "a.csv").open("w") as file:
            file.write("id\n")
            file.writelines(f"{n * 7919 % count:0{chars}d}\n" for n in range(count))
        peaks.append(int(in_a_process(tmp_path, scratch).stdout))
    assert peaks[1] - peaks[0] < 50_000
