"""Rows and keys of an audience: what comes out of CSV, JSON Lines and Parquet, in which order and with which types."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulksend.errors import JobError
from bulksend.job import audience as module
from bulksend.job import buckets
from bulksend.job.audience import Audience, Duplicate

RELAXED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CANARY = "sEcReT-7731"


@pytest.fixture
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture
def open_audience(tmp_path, scratch):
    """Open an audience beside `tmp_path`; all are closed at the end."""
    opened = []

    def opening(source=None, *, sql=None, key="id"):
        audience = Audience(base_dir=tmp_path, source=source, sql=sql, key=key, scratch_dir=scratch)
        opened.append(audience)
        return audience

    yield opening
    for audience in opened:
        audience.close()


def all_rows(audience, columns=None, **how):
    return [row for batch in audience.rows(columns or audience.columns, **how) for row in batch]


def parquet(path: Path, query: str) -> None:
    """Write a Parquet file with DuckDB itself."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"copy ({query}) to '{path}' (format parquet)")


# CSV


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        ("id,b,c\n0007,true,NULL\n", ("id", "b", "c"), [("0007", "true", "NULL")]),
        ('id,b\n1,\n2,""\n', ("id", "b"), [("1", None), ("2", None)]),
        ("id;b\n1;2,5\n", ("id", "b"), [("1", "2,5")]),
        ("id\tb\n1\t2\n", ("id", "b"), [("1", "2")]),
        ("id|b\n1|2\n", ("id", "b"), [("1", "2")]),
        ("id\n1\n2", ("id",), [("1",), ("2",)]),
        ("id,b\r\n1,2\r\n3,4", ("id", "b"), [("1", "2"), ("3", "4")]),
        (
            'id,b\n1,"two\nlines"\n2,"a ""quote"", a comma"\n',
            ("id", "b"),
            [("1", "two\nlines"), ("2", 'a "quote", a comma')],
        ),
        ("\ufeffid,b\n1,é\n", ("id", "b"), [("1", "é")]),
        ('"id","a, b"\n1,2\n', ("id", "a, b"), [("1", "2")]),
        ("id , City,city\n1,2,3\n", ("id", "City", "city"), [("1", "2", "3")]),
        ("id,b\n", ("id", "b"), []),
        ("id,b", ("id", "b"), []),
        ("id,b\n1,2\n\n3,4\n", ("id", "b"), [("1", "2"), ("3", "4")]),
        ("id,b\n 1 , x \n", ("id", "b"), [(" 1 ", " x ")]),
        ("id,b\n2026-01-01,1e5\n", ("id", "b"), [("2026-01-01", "1e5")]),
    ],
)
def test_csv_is_text_never_guessed(tmp_path, open_audience, text, columns, rows):
    (tmp_path / "a.csv").write_bytes(text.encode())
    audience = open_audience("a.csv")
    assert audience.columns == columns
    assert audience.label == "a.csv"
    assert all_rows(audience) == rows
    assert audience.count() == audience.check_keys().rows == len(rows)


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.sampled_from(
    [
        '"',
        '""',
        ",",
        "\n",
        "\r\n",
        "\r",
        " ",
        " x",
        "NULL",
        "\\N",
        "\\",
        "'",
        "#",
        "a\nb",
        ';|\t"',
        "\ufeff",
        "é",
        "1,5",
    ]
)


@RELAXED
@given(st.data())
def test_csv_gives_back_what_the_csv_module_wrote(tmp_path, scratch, data):
    width = data.draw(st.integers(2, 4))
    rows = data.draw(st.lists(st.lists(cells, min_size=width, max_size=width), max_size=12))
    delimiter = data.draw(st.sampled_from(",;\t|"))
    ending = data.draw(st.sampled_from(["\n", "\r\n"]))
    text = io.StringIO(newline="")
    # The csv module does not quote a lone carriage return of its own accord.
    all_quoted = data.draw(st.booleans()) or any("\r" in cell for row in rows for cell in row)
    quoting = csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=delimiter, lineterminator=ending, quoting=quoting)
    writer.writerow([f"c{number}" for number in range(width)])
    writer.writerows(rows)
    (tmp_path / "a.csv").write_bytes(text.getvalue().encode())
    with Audience(base_dir=tmp_path, source="a.csv", sql=None, key="c0", scratch_dir=scratch) as audience:
        assert all_rows(audience) == [tuple(cell or None for cell in row) for row in rows]


def test_rows_of_chosen_columns_in_order_and_in_batches(tmp_path, open_audience):
    (tmp_path / "a.csv").write_text("id,b,c\n" + "".join(f"{n},b{n},c{n}\n" for n in range(25)))
    audience = open_audience("a.csv")
    batches = list(audience.rows(["c", "id", "c"], batch=10))
    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert batches[0][3] == ("c3", "3", "c3")
    assert all_rows(audience, ["id"], limit=3) == [("0",), ("1",), ("2",)]
    assert [row for batch in audience.rows([]) for row in batch] == [()] * 25


def test_other_methods_may_be_called_while_rows_are_read(tmp_path, open_audience):
    (tmp_path / "a.csv").write_text("id\n" + "".join(f"{n}\n" for n in range(5000)))
    audience = open_audience("a.csv")
    reading = audience.rows(["id"], batch=10)
    first = next(reading)
    assert audience.check_keys().rows == 5000
    assert audience.distinct(["id"], 2) == [("0",), ("1",)]
    rest = [row for batch in reading for row in batch]
    assert len(first) + len(rest) == 5000
    assert rest[-1] == ("4999",)


def test_a_glob_reads_its_files_sorted_by_path(tmp_path, open_audience):
    (tmp_path / "in").mkdir()
    for name, ids in (("b", "34"), ("a", "12"), ("c", "5")):
        (tmp_path / "in" / f"{name}.csv").write_text("id\n" + "\n".join(ids))
    audience = open_audience("in/*.csv")
    assert all_rows(audience) == [("1",), ("2",), ("3",), ("4",), ("5",)]
    (tmp_path / "in" / "c.csv").write_text("id\n2\n")
    assert audience.check_keys().duplicates == (Duplicate("2", 2, 5),)


def test_names_with_glob_characters_are_names_when_such_a_file_exists(tmp_path, open_audience):
    (tmp_path / "x[1].csv").write_text("id\nbracket\n")
    (tmp_path / "x1.csv").write_text("id\nplain\n")
    (tmp_path / "it's.csv").write_text("id\nquote\n")
    assert all_rows(open_audience("x[1].csv")) == [("bracket",)]
    assert all_rows(open_audience(sql="from 'x[1].csv'")) == [("bracket",)]
    assert all_rows(open_audience("it's.csv")) == [("quote",)]
    assert all_rows(open_audience(sql='from "it\'s.csv"')) == [("quote",)]


def test_absolute_paths_and_packed_files(tmp_path, open_audience):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id,b\n1,2\n"))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"id":1}\n'))
    assert all_rows(open_audience(str(tmp_path / "a.csv.gz"))) == [("1", "2")]
    assert all_rows(open_audience("a.jsonl.gz")) == [(1,)]


# JSON Lines


def test_json_keeps_the_type_of_every_value(tmp_path, open_audience):
    lines = [
        '{"id": 1, "v": "7", "big": 123456789012345678901234567890}',
        '{"id": "two", "v": 7, "n": null}',
        "",
        '  {"v": [1, {"deep": {"er": [null, true, "x"]}}], "id": "drei"}  ',
        '{"id": 4, "v": 1.5, "é": "ü\\u0041"}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    audience = open_audience("a.jsonl")
    assert audience.columns == ("id", "v", "big", "n", "é")
    rows = all_rows(audience)
    assert rows == [
        (1, "7", 123456789012345678901234567890, None, None),
        ("two", 7, None, None, None),
        ("drei", [1, {"deep": {"er": [None, True, "x"]}}], None, None, None),
        (4, 1.5, None, None, "üA"),
    ]
    assert [type(row[1]) for row in rows] == [str, int, list, float]
    assert audience.check_keys().rows == audience.count() == 4


def test_json_columns_come_from_the_first_thousand_objects(tmp_path, open_audience):
    lines = [json.dumps({"id": n, f"c{n}": n}) for n in range(1002)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    audience = open_audience("a.jsonl")
    assert "c999" in audience.columns
    assert "c1000" not in audience.columns


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@RELAXED
@given(
    st.lists(st.fixed_dictionaries({"id": st.integers() | st.text()}, optional={"v": values, "w": values}), min_size=1)
)
def test_json_gives_back_what_was_written(tmp_path, scratch, objects):
    objects = [{"id": "x", "v": None, "w": None}, *objects]
    text = "\n".join(json.dumps(one, ensure_ascii=len(objects) % 2 == 0) for one in objects)
    (tmp_path / "a.jsonl").write_bytes(text.encode("utf-8", "replace"))
    with Audience(base_dir=tmp_path, source="a.jsonl", sql=None, key="id", scratch_dir=scratch) as audience:
        rows = all_rows(audience, ["v", "w"])
    expected = [(one.get("v"), one.get("w")) for one in objects]
    assert repr(rows) == repr(expected)


def test_json_key_names_may_hold_anything(tmp_path, open_audience):
    for key in ("a b", 'q"x', "s/l~1", "it's", "$.a", "é"):
        (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({key: value}) for value in ("x", "y", "x")))
        assert open_audience("a.jsonl", key=key).check_keys().duplicates == (Duplicate("x", 1, 3),)


# Parquet and SQL types


def test_parquet_values_are_typed(tmp_path, open_audience):
    parquet(
        tmp_path / "a.parquet",
        "select 1 as id, 1.5::double as f, 2.50::decimal(9,2) as d, true as b, 'x' as s, date '2026-04-01' as day, "
        "timestamp '2026-04-01 06:00:00' as t, timestamptz '2026-04-01 06:00:00+00' as z, [1, 2] as l, null as n",
    )
    audience = open_audience("a.parquet")
    assert audience.columns == ("id", "f", "d", "b", "s", "day", "t", "z", "l", "n")
    assert all_rows(audience) == [
        (
            1,
            1.5,
            Decimal("2.50"),
            True,
            "x",
            date(2026, 4, 1),
            datetime(2026, 4, 1, 6),  # noqa: DTZ001 - without a zone is what it is
            datetime(2026, 4, 1, 6, tzinfo=UTC),
            [1, 2],
            None,
        )
    ]


@pytest.mark.parametrize(
    "kind", ["1.5::double", "true", "[1]", "timestamp '2026-01-01'", "1.5::decimal(4,1)", "{'a': 1}"]
)
def test_a_key_must_be_text_or_a_whole_number(tmp_path, open_audience, kind):
    parquet(tmp_path / "a.parquet", f"select {kind} as id")
    with pytest.raises(JobError, match="must be text or a whole number"):
        open_audience("a.parquet")


@pytest.mark.parametrize("kind", ["7", "7::hugeint", "7::decimal(9,0)", "'7'", "7::utinyint", "'7'::enum('7')"])
def test_keys_that_have_a_plain_text(open_audience, kind):
    audience = open_audience(sql=f"select {kind} as id union all select {kind}")
    (row, _) = all_rows(audience, ["id"])
    (duplicate,) = audience.check_keys().duplicates
    assert duplicate == Duplicate(str(row[0]), 1, 2)


# Keys


def test_blank_keys_are_counted_and_the_first_named(tmp_path, open_audience):
    keys = ["1", "", "  ", "\t", "\u00a0\u2003", "2", '" "', "x "]
    (tmp_path / "a.csv").write_text("id,b\n" + "".join(f"{key},1\n" for key in keys))
    check = open_audience("a.csv").check_keys(most=3)
    assert check.blank_rows == (2, 3, 4)
    assert check.blank_count == 5
    assert check.rows == 8
    assert check.duplicates == ()


def test_blank_json_keys_and_numbers_as_text(tmp_path, open_audience):
    lines = ['{"id": 7}', '{"id": "7"}', '{"id": null}', "{}", '{"id": " "}', '{"id": "07"}', '{"id": -7}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    check = open_audience("a.jsonl").check_keys()
    assert check.duplicates == (Duplicate("7", 1, 2),)
    assert check.blank_rows == (3, 4, 5)


@RELAXED
@given(keys=st.lists(st.text("ab é", max_size=2), max_size=60), parts=st.integers(1, 5))
def test_duplicates_are_those_that_python_finds(tmp_path, scratch, keys, parts):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"id": key}) for key in ["first", *keys]))
    rows: dict[str, list[int]] = defaultdict(list)
    for number, key in enumerate(["first", *keys], 1):
        rows[key].append(number)
    twice = [Duplicate(key, at[0], at[1]) for key, at in rows.items() if key.strip() and len(at) > 1]
    twice.sort(key=lambda one: one.second_row)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SORT_ROWS", max(1, (len(keys) + 1) // parts))
        with Audience(base_dir=tmp_path, source="a.jsonl", sql=None, key="id", scratch_dir=scratch) as audience:
            check = audience.check_keys(most=3)
    assert list(check.duplicates) == twice[:3]
    assert check.duplicate_count == len(twice)
    assert check.blank_count == sum(not key.strip() for key in keys)


def test_distinct_values_come_in_order_and_by_type(tmp_path, open_audience):
    values = [1, "1", True, 1.0, [1], [1], None, 1, "x"]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"id": n, "v": v}) for n, v in enumerate(values)))
    audience = open_audience("a.jsonl")
    assert repr(audience.distinct(["v"], 20)) == repr([(1,), ("1",), (True,), (1.0,), ([1],), (None,), ("x",)])
    assert len(audience.distinct(["v"], 2)) == 2
    assert len(audience.distinct(["id", "v"], 20)) == 9


# Chunks


@pytest.mark.parametrize("kind", ["csv", "jsonl", "sql"])
@pytest.mark.parametrize("mixed", [False, True])
def test_chunk_rows_come_by_chunk_then_by_row(tmp_path, scratch, open_audience, monkeypatch, kind, mixed):
    monkeypatch.setattr(buckets, "_BUCKET_ROWS", 50)
    chance = random.Random(7)
    keys = [f'k "{n}", é' for n in range(1000)]
    if kind == "jsonl":
        (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"id": key, "n": n}) for n, key in enumerate(keys)))
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "n"], *([key, n] for n, key in enumerate(keys))])
    chunk_of = {
        key: (chance.randrange(-3, 30) if mixed else n // 40) for n, key in enumerate(keys) if chance.random() < 0.7
    }
    members = scratch / "members.csv"
    with members.open("w", newline="") as file:
        shuffled = [[chunk, key] for key, chunk in chunk_of.items()] + [[3, "not a row"]]
        chance.shuffle(shuffled)
        csv.writer(file).writerows(shuffled)
    audience = open_audience(sql="from 'a.csv'") if kind == "sql" else open_audience(f"a.{kind}")
    found = [row for batch in audience.chunk_rows(["n", "id"], members, batch=17) for row in batch]
    as_value = int if kind == "jsonl" else str
    expected = [(chunk_of[key], n + 1, as_value(n), key) for n, key in enumerate(keys) if key in chunk_of]
    assert found == sorted(expected, key=lambda row: row[:2])


def test_no_members_no_rows(tmp_path, scratch, open_audience):
    (tmp_path / "a.csv").write_text("id\n1\n")
    (scratch / "members.csv").write_text("")
    assert list(open_audience("a.csv").chunk_rows(["id"], scratch / "members.csv")) == []


# Size, and what is left behind


@pytest.mark.parametrize("source", ["a.csv", None])
def test_what_does_not_fit_into_memory_is_spilled_into_the_scratch_directory(tmp_path, scratch, open_audience, source):
    with (tmp_path / "a.csv").open("w") as file:
        file.write("id,b\n")
        file.writelines(f"key-{n * 7919 % 600_000:020d},{'x' * 60}\n" for n in range(600_000))
        file.write("key-00000000000000000005,x\n")
    audience = open_audience(source, sql=None if source else "from 'a.csv'")
    check = audience.check_keys()
    assert check.rows == 600_001
    assert [(one.key, one.second_row) for one in check.duplicates] == [("key-00000000000000000005", 600_001)]
    audience.close()
    assert list(scratch.iterdir()) == []


def test_importing_the_audience_does_not_import_duckdb():
    script = "import sys, bulksend.job.audience; sys.exit('duckdb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
