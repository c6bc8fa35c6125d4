"""What an audience refuses: broken files, and SQL that is more than one SELECT over the files it names."""

from __future__ import annotations

import os

import pytest

from bulksend.errors import JobError, RunError
from bulksend.job.audience import Audience

CANARY = "sEcReT-7731"
"""Stands in the data; no error may quote it."""


@pytest.fixture
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture
def refused(tmp_path, scratch):
    """Open and read an audience to its end; return the text of the JobError that comes of it."""

    def refusing(source=None, *, sql=None, key="id"):
        def read():
            with Audience(base_dir=tmp_path, source=source, sql=sql, key=key, scratch_dir=scratch) as audience:
                audience.check_keys()
                for _ in audience.rows(audience.columns):
                    pass

        with pytest.raises(JobError) as caught:
            read()
        text = str(caught.value)
        assert CANARY not in text
        assert "Traceback" not in text
        assert "\n" not in text
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        return text

    return refusing


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.csv").write_text(f"id,city\n1,{CANARY}\n2,x\n")
    (tmp_path / "b.jsonl").write_text('{"id": 1, "v": {"w": [1]}}\n{"id": 2, "v": null}\n')
    return tmp_path


# Files


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "a.csv: is empty"),
        ("a.csv", b"\n  \n", "is empty"),
        ("a.csv", b"\nid\n1\n", "no column names"),
        ("a.csv", b",\n1,2\n", "no column names"),
        ("a.csv", b"id,,b\n1,2,3\n", "a.csv:1: column 2 of its header has no name"),
        ("a.csv", b"id,b, id\n1,2,3\n", "header names 'id' twice"),
        ("a.csv", b'id,"b\n1,2\n', "a quote that is not closed"),
        ("a.csv", b"id,b;c\n1,2\n", ", and ; stand equally often"),
        ("a.csv", b"id,\xff\n1,2\n", "a.csv:1: is not UTF-8 text"),
        ("a.csv", "id,b\n1,2\n".encode("utf-16"), "is not UTF-8 text"),
        ("a.csv", b"x" * 1_100_000, "longer than 1 MB"),
        ("a.csv", f"id,b,c\n1,2,3\n{CANARY},2\n".encode(), "a.csv:3: expected 3 columns, found 2"),
        ("a.csv", f"id,b,c\n1,2,3\n{CANARY},2,3,4\n".encode(), "a.csv:3: expected 3 columns, found 4"),
        ("a.csv", f'id,b\n1,"two\n\nlines"\n{CANARY}\n'.encode(), "a.csv:5: expected 2 columns, found 1"),
        ("a.csv", f"id,b\n1,{CANARY}".encode() + b"\xff\n", "a.csv:2: is not UTF-8 text"),
        ("a.csv", f'id,b\n1,2\n2,"{CANARY}\n'.encode(), "a.csv:3: has a quote that is not closed"),
        ("a.csv", f'id,b\n1,2\n2,"{CANARY}"x\n'.encode(), "a.csv:3: has text after a closing quote"),
        ("a.csv", f"id,b\n1,{CANARY}\r\n3,4\n".encode() * 40, "do all lines end in the same way"),
        ("a.csv", b"id,b\n1," + b"x" * 1_200_000 + b"\n", "a.csv:2: "),
        ("a.csv.gz", b"not packed", "a.csv.gz: cannot be unpacked"),
        ("a.jsonl", b"", "a.jsonl: is empty"),
        ("a.jsonl", b"\n\n", "is empty"),
        ("a.jsonl", f'{{"id": 1}}\n[1, "{CANARY}"]\n'.encode(), "a.jsonl:2: is not a JSON object"),
        ("a.jsonl", f'{{"id": 1}}\n\n{{"id": "{CANARY}"\n'.encode(), "a.jsonl:3: is not a JSON object"),
        ("a.jsonl", f'{{"id": 1}}\n{{"id": 2}} "{CANARY}"\n'.encode(), "a.jsonl:2: is not a JSON object"),
        ("a.jsonl", b'{"id": "\xff"}\n', "a.jsonl:1: is not a JSON object"),
        ("a.jsonl", b'{"id": 1}\n{"id": NaN}\n', "a.jsonl:2: is not a JSON object"),
        ("a.jsonl", b'{"id": 1}\n{"id": 1.5}\n', "row 2: id: a key must be text or a whole number"),
        ("a.jsonl", b'{"id": true}\n', "row 1: id: a key must be text"),
        ("a.jsonl", b'{"id": [1]}\n', "row 1: id: a key must be text"),
        ("a.jsonl", f'{{"id": 1, "id": "{CANARY}"}}\n'.encode(), "row 1: id: stands twice"),
        ("a.parquet", b"PAR1 no", "a.parquet: is not a readable Parquet file"),
    ],
)
def test_broken_files(tmp_path, refused, name, content, said):
    (tmp_path / name).write_bytes(content)
    assert said in refused(name)


@pytest.mark.parametrize("line", [f"[{CANARY!r}]", f'{{"id": "{CANARY}", "v": }}', "\x01{}", '{"id":\x01"x"}', "7"])
def test_a_broken_json_line_after_the_first_thousand_is_named(tmp_path, refused, line):
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n' + "".join(f'{{"id": "x{n}"}}\n' for n in range(1500)) + line + "\n")
    assert refused("a.jsonl") == "a.jsonl:1502: is not a JSON object"


def test_a_line_that_is_no_object_is_no_blank_key(tmp_path, scratch):
    (tmp_path / "a.jsonl").write_text("".join(f'{{"id": {n}}}\n' for n in range(1000)) + f'["{CANARY}"]\n')
    with (
        Audience(base_dir=tmp_path, source="a.jsonl", sql=None, key="id", scratch_dir=scratch) as audience,
        pytest.raises(JobError, match=r"^a.jsonl:1001: is not a JSON object$"),
    ):
        audience.check_keys()


def test_a_broken_csv_line_far_down_is_named(tmp_path, refused):
    (tmp_path / "a.csv").write_text("id,b\n" + '1,"x\ny"\n' * 100_000 + f"{CANARY}\n" + "1,2\n" * 10)
    assert refused("a.csv") == "a.csv:200002: expected 2 columns, found 1"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("none.csv", "none.csv: file not found"),
        ("none-*.csv", "none-*.csv: no file matches"),
        ("data", "is a directory"),
        ("data/x.txt", "accepted are .csv .csv.gz .jsonl .jsonl.gz .ndjson .parquet"),
        ("https://example.com/a.csv", "is a URL"),
        ("s3://bucket/a.csv", "is a URL"),
        ("~/a.csv", "begins with ~"),
        ("", "is not a file name"),
        ("a\0.csv", "not a file name"),
        ("mixed.*", "several kinds (csv, jsonl)"),
        ("differ-*.csv", "differ-2.csv:1: its header is not the same as that of differ-1.csv"),
        ("good-*.csv", "good-2.csv:3: expected 1 columns, found 2"),
    ],
)
def test_sources_that_name_no_table(tmp_path, refused, source, said):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.txt").write_text("id\n1\n")
    (tmp_path / "mixed.csv").write_text("id\n1\n")
    (tmp_path / "mixed.jsonl").write_text('{"id": 1}\n')
    (tmp_path / "differ-1.csv").write_text("id,b\n1,2\n")
    (tmp_path / "differ-2.csv").write_text("b,id\n1,2\n")
    (tmp_path / "good-1.csv").write_text("id\n1\n")
    (tmp_path / "good-2.csv").write_text(f"id\n2\n3,{CANARY}\n")
    assert said in refused(source)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(files, refused):
    (files / "a.csv").chmod(0)
    assert refused("a.csv") == "a.csv: cannot be read: Permission denied"


def test_parquet_files_of_a_glob_must_be_alike(tmp_path, refused):
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"copy (select 1 as id) to '{tmp_path}/p1.parquet'")
        connection.execute(f"copy (select 'x' as id) to '{tmp_path}/p2.parquet'")
    assert "p2.parquet: its columns are not the same as those of p1.parquet" in refused("p*.parquet")


def test_columns_that_are_not_there(files, refused, scratch):
    assert "has no key column 'ID'; did you mean 'id'? (its columns: id, city)" in refused("a.csv", key="ID")
    assert "sql: has no key column 'idd'; did you mean 'id'?" in refused(sql="from 'a.csv'", key="idd")
    with Audience(base_dir=files, source="a.csv", sql=None, key="id", scratch_dir=scratch) as audience:
        for ask in (
            lambda: audience.rows(["citi"]),
            lambda: audience.distinct(["citi"], 3),
            lambda: audience.chunk_rows(["citi"], scratch / "m.csv"),
        ):
            with pytest.raises(JobError, match="no column 'citi'; did you mean 'city'"):
                ask()


def test_exactly_one_of_source_and_sql(tmp_path, scratch):
    for source, sql in ((None, None), ("a.csv", "select 1 as id")):
        with pytest.raises(JobError, match="either"):
            Audience(base_dir=tmp_path, source=source, sql=sql, key="id", scratch_dir=scratch)


# SQL


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("select id, city from 'a.csv' where id = '2'", [("2", "x")]),
        ("from 'a.csv' order by id desc limit 1;", [("2", "x")]),
        ("values (1), (2)", None),
        (
            "with t as (select id from 'a.csv') select t.id, b.v.w from t join 'b.jsonl' b on b.id = t.id::int",
            [("1", [1]), ("2", None)],
        ),
        ("select id from 'a.csv' where id in (select id::varchar from 'b.jsonl') -- ; done", [("1",), ("2",)]),
        (
            "select id, (select max(id) from 'a.csv') as m from 'a.csv' union all select 'z', null",
            [("1", "2"), ("2", "2"), ("z", None)],
        ),
        (
            "select id from './a.csv' x where exists (from 'b.jsonl' y where y.id::varchar = x.id) order by 1",
            [("1",), ("2",)],
        ),
        ("with recursive r as (select 1 as id union all select id + 1 from r where id < 3) from r", [(1,), (2,), (3,)]),
        ("select range as id from range(3)", [(0,), (1,), (2,)]),
        ("select unnest([1, 2]) as id", [(1,), (2,)]),
        ("select count(*) as id from 'a*.csv'", [(2,)]),
        ('with "a.csv" as (select 9 as id) from "a.csv"', [(9,)]),
        ("select 1 as id, 2 as id", None),
        ("select 1 as id, timestamptz '2026-01-01 00:00:00+00' as t", None),
    ],
)
def test_one_select_over_the_files_it_names(files, scratch, sql, rows):
    key = "col0" if sql.startswith("values") else "id"
    with Audience(base_dir=files, source=None, sql=sql, key=key, scratch_dir=scratch) as audience:
        found = [row for batch in audience.rows(audience.columns) for row in batch]
        assert audience.label == "sql"
        assert audience.check_keys().rows == len(found)
    if rows is not None:
        assert found == rows


def test_sql_gives_the_same_rows_every_time(files, scratch):
    sql = "select random()::varchar as id from range(100)"
    with Audience(base_dir=files, source=None, sql=sql, key="id", scratch_dir=scratch) as audience:
        assert list(audience.rows(["id"])) == list(audience.rows(["id"]))


SECRET = "/etc/passwd"


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("", "holds no statements"),
        ("select 1 as id; select 2 as id", "holds 2 statements"),
        ("selec 1", "is not valid SQL"),
        ("select 1 as id,, 2", "is not valid SQL"),
        *(
            (sql, "is not a SELECT")
            for sql in (
                "insert into 'a.csv' values (1, 2)",
                "copy (select 1 as id) to 'out.csv'",
                "copy 'a.csv' to 'out.csv'",
                "attach 'other.db'",
                "install httpfs",
                "load httpfs",
                "pragma version",
                "set memory_limit = '1GB'",
                "reset memory_limit",
                "create table t as select 1 as id",
                "create view v as from 'a.csv'",
                "export database 'x'",
                "import database 'x'",
                "call pragma_version()",
                "explain select 1 as id",
                "delete from 'a.csv'",
                "update 'a.csv' set id = 1",
                "drop table x",
                "checkpoint",
                "use memory",
                "begin",
                "vacuum",
                "prepare p as select 1",
                "execute p",
                "detach x",
            )
        ),
        ("with t as (insert into x values (1) returning *) from t", "changes something (INSERT)"),
        ("describe select 1 as id", "only SELECT may be used"),
        ("summarize 'a.csv'", "only SELECT may be used"),
        ("show tables", "only SELECT may be used"),
        ("from (describe 'a.csv')", "only SELECT may be used"),
        ("select ? as id", "has a parameter"),
        ("select $1 as id", "has a parameter"),
        ("from 'https://example.com/a.csv'", "reaches for the URL"),
        ("from 's3://bucket/a.parquet'", "reaches for the URL"),
        ("select * from 'a.csv' join 'http://h/b.csv' using (id)", "reaches for the URL"),
        ("from 'file:///etc/passwd.csv'", "reaches for the URL"),
        ("from '~/a.csv'", "without ~"),
        (f"from '{SECRET}'", "names a table /etc/passwd, which is not known"),
        ("from 'none.csv'", "none.csv: file not found"),
        ("select (select max(id) from 'none.csv') as id", "none.csv: file not found"),
        ("from 'none-*.csv'", "no file matches"),
        ("from stores", "names a table stores, which is not known"),
        ("from a.csv", "a file name stands in quotes: 'a.csv'"),
        ("from information_schema.tables", "is not known"),
        ("from sqlite_master", "is not known"),
        ("from pg_catalog.pg_tables", "is not known"),
        ("from duckdb_settings", "is not known"),
        ("from 'other.db'", "is not known"),
        ("from memory.main.x", "is not known"),
        *(
            (f"select * from {call}", "which is not accepted")
            for call in (
                f"read_csv('{SECRET}')",
                "read_csv_auto('a.csv')",
                f"read_text('{SECRET}')",
                f"read_blob('{SECRET}')",
                "glob('*')",
                "parquet_scan('x.parquet')",
                "read_parquet('x.parquet')",
                "parquet_metadata('x.parquet')",
                "sniff_csv('a.csv')",
                "read_json('b.jsonl')",
                "read_ndjson_objects('b.jsonl')",
                "read_duckdb('x.db')",
                "duckdb_settings()",
                "duckdb_secrets()",
                "query('select 1')",
                "query_table('x')",
                "json_execute_serialized_sql('{}')",
                "pragma_version()",
                "test_all_types()",
                "sqlite_scan('x.db', 't')",
                "checkpoint()",
                "'a.csv', lateral (select * from read_text('a.csv'))",
            )
        ),
        (f"select (select content from read_text('{SECRET}')) as id", "read_text"),
        ("with t as (from read_csv('a.csv')) from t", "calls read_csv()"),
        ("select getenv('HOME') as id", "calls getenv()"),
        ("select GETENV('HOME') as id", "calls getenv()"),
        ("select id from 'a.csv' where city = current_setting('home_directory')", "calls current_setting()"),
        ("select id from 'a.csv' order by write_log('x')", "calls write_log()"),
        ("select idd from 'a.csv'", 'Referenced column "idd" not found in FROM clause'),
        ("select nofunction(id) as id from 'a.csv'", "nofunction"),
        ("select st_point(1, 2) as id", "st_point"),
        ("select id from 'a.csv' where city::int = 1", "Conversion error while reading sql"),
        ("select id, city::int as n from 'a.csv'", "Conversion error while reading sql"),
        ("select id, error(city) as n from 'a.csv'", "error while reading sql"),
        ("select city as other from 'a.csv'", "no key column 'id'"),
        ("from 'broken.csv'", "broken.csv:3: expected 2 columns, found 1"),
        ("from 'a.csv', 'broken.csv'", "broken.csv:3: expected 2 columns, found 1"),
        ("from 'broken.jsonl'", "broken.jsonl:2: is not a JSON object"),
        ("select a.id from 'a.csv' a, 'A.csv' b", "does not tell them apart"),
        ("from 'text.parquet'", "cannot be read as parquet"),
    ],
)
def test_sql_that_is_refused(files, refused, sql, said):
    (files / "A.csv").write_text("id\n1\n")
    (files / "broken.csv").write_text(f"id,b\n1,2\n{CANARY}\n")
    (files / "broken.jsonl").write_text(f'{{"id": 1}}\n{{"id": "{CANARY}"\n')
    (files / "text.parquet").write_text(CANARY)
    before = sorted(files.iterdir())
    assert said in refused(sql=sql)
    assert sorted(files.iterdir()) == before


def test_nothing_else_is_reachable_even_behind_the_check_of_the_text(files, scratch, monkeypatch):
    """DuckDB itself refuses what the syntax tree should have shown."""
    from bulksend.job import audience as module

    (files / "other.csv").write_text(f"id\n{CANARY}\n")
    for sql in (
        "select * from read_csv('other.csv')",
        f"select * from read_csv('{files}/other.csv')",
        f"select content as id from read_text('{SECRET}')",
        "from 'other.csv'",
        "select file as id from glob('/etc/*')",
    ):
        monkeypatch.setattr(module, "tables_of", lambda _tree: ["a.csv"])
        with pytest.raises(JobError) as caught:
            Audience(base_dir=files, source=None, sql=sql, key="id", scratch_dir=scratch)
        assert "Permission error" in str(caught.value)


def test_settings_are_locked_once_sql_has_run(files, scratch):
    import duckdb

    with Audience(base_dir=files, source=None, sql="from 'a.csv'", key="id", scratch_dir=scratch) as audience:
        for setting in ("enable_external_access = true", "allowed_paths = ['/etc/passwd']", "threads = 4"):
            with pytest.raises(duckdb.Error):
                audience._connection.execute(f"set {setting}")


def test_a_scratch_directory_that_cannot_be_written_is_no_fault_of_the_job(tmp_path):
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "m.csv").write_text("0,1\n")
    nowhere = tmp_path / "a.csv" / "below"
    with (
        Audience(base_dir=tmp_path, source="a.csv", sql=None, key="id", scratch_dir=nowhere) as audience,
        pytest.raises(RunError, match="temporary file"),
    ):
        list(audience.chunk_rows(["id"], tmp_path / "m.csv"))
