"""`status --rejected --out FILE`: the rows that failed, as they stood in the audience, as an audience."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import os
import tracemalloc
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import duckdb
import pytest

import bulksend
from bulksend.job.render import chunk_key
from bulksend.ledger.base import Change, Intent, Member, Scope
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import State
from tests.end_to_end.test_resolving import TEXT
from tests.end_to_end.vendor import Done, Folder, Vendor

OURS = ["bulksend_state", "bulksend_reason", "bulksend_status"]
ODD = [
    ("0007", 'say "hi"', "1.0"),
    ("1e3", "two\nlines", ""),
    ("ünï ☃", "a,b;c", "  padded "),
    ("fine", "", "007"),
    ("k5", "carriage\rreturn", "x"),
    ("k6", "'", "-"),
]


def fill(folder: Path, states: Mapping[str, State], *, chunk: int = 0, reason: str = "HTTP 400: no") -> None:
    """Make a ledger in which these keys, or the chunks of them, have these states."""

    async def work() -> None:
        ledger = SqliteLedger(folder / "bulksend.db")
        await ledger.open(create=True)
        job, _ = await ledger.start_job("sale", "a test")
        sends = dict(states)
        if chunk:
            keys, sends = list(states), {}
            for number, start in enumerate(range(0, len(keys), chunk), 1):
                some = keys[start : start + chunk]
                name = chunk_key(some)
                await ledger.add_members(job.id, [Member(key, name, number) for key in some])
                sends[name] = states[some[0]]
        await asyncio.gather(
            *(ledger.record(job.id, Intent(Scope.SEND, key, "default", row, 0, 0)) for row, key in enumerate(sends, 1))
        )
        changes = (
            Change(Scope.SEND, key, State.SENDING, to, 0, reason=f"{reason} {key}", status=400)
            for key, to in sends.items()
        )
        await asyncio.gather(*(ledger.record(job.id, one) for one in changes))
        await ledger.end_job(job.id, bulksend.JobState.DONE, {}, counts_as_finish=True)
        await ledger.close()

    asyncio.run(work())


def job(path: Path, source: str, *, sql: bool = False, **edits: str) -> Folder:
    text = TEXT.replace('from = "rows.csv"', f"sql = '''{source}'''" if sql else f'from = "{source}"')
    folder = Folder(path, text, INSIDER_TOKEN="t")
    for old, new in edits.items():
        folder.edit(old, new)
    return folder


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(columns)
        writer.writerows(rows)


def read_csv(path: Path, delimiter: str = ",") -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter=delimiter, strict=True))


def out(folder: Folder, file: str, *flags: str) -> Done:
    done = folder.command("status", "job.toml", *(flags or ("--rejected",)), "--out", file, "--json")
    assert done.code == 0, done.err
    return done


def mixed(keys: Iterable[str], *, accepted: str = "fine") -> dict[str, State]:
    return {key: State.ACCEPTED if key == accepted else State.REJECTED for key in keys}


# The rows as they were


@pytest.mark.parametrize(("delimiter", "ending"), [(",", ".csv"), (";", ".csv.gz"), ("\t", ".csv")])
def test_csv_rows_come_out_as_they_went_in(tmp_path: Path, delimiter: str, ending: str) -> None:
    write_csv(tmp_path / "rows.csv", ["id", "text", "more, or less"], ODD, delimiter)
    folder = job(tmp_path, "rows.csv")
    fill(tmp_path, mixed(key for key, *_ in ODD))
    told = out(folder, f"failed{ending}").json["out"]
    assert told == {"file": f"failed{ending}", "rows": 5, "sends": 5, "missing": 0, "missing_keys": []}
    path = tmp_path / f"failed{ending}"
    if ending.endswith(".gz"):
        (tmp_path / "failed.csv").write_bytes(gzip.decompress(path.read_bytes()))
        path = tmp_path / "failed.csv"
    header, *rows = read_csv(path, delimiter)
    assert header == ["id", "text", "more, or less", *OURS]
    assert rows == [[*row, "rejected", f"HTTP 400: no {row[0]}", "400"] for row in map(list, ODD) if row[0] != "fine"]
    assert path.stat().st_mode & 0o777 == 0o600 or ending.endswith(".gz")


def test_json_lines_keep_every_value_as_it_was_written(tmp_path: Path) -> None:
    lines = [
        '{"id": "0007", "n": 1.0, "big": 12345678901234567890123, "e": 1e3, "in": {"b": [1,  null], "a": "\\u00e9"}}',
        '{"id":"fine"}',
        '{"other": null, "id": "x\\n\\"y", "t": true}',
        '{"id": 12, "bulksend_reason": "earlier", "bulksend_state": "unknown", "bulksend_status": 5, "z": -0.0}',
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    folder = job(tmp_path, "rows.jsonl")
    fill(tmp_path, mixed(["0007", "fine", "12"]))
    told = out(folder, "failed.ndjson").json["out"]
    assert (told["rows"], told["missing"]) == (2, 0)
    first, second = (tmp_path / "failed.ndjson").read_text("utf-8").splitlines()
    for piece in ('"n":1.0', '"big":12345678901234567890123', '"e":1e3', '{"b": [1,  null], "a": "\\u00e9"}'):
        assert piece in first
    assert list(json.loads(first)) == ["id", "n", "big", "e", "in", *OURS]
    assert second.startswith('{"id":12,"z":-0.0,"bulksend_state":"rejected","bulksend_reason":"HTTP 400: no 12"')
    assert second.endswith('"bulksend_status":400}')


def test_parquet_keeps_types_and_nulls(tmp_path: Path) -> None:
    select = (
        "select 'k' || i as id, case when i % 3 = 0 then null else i end as n, i::decimal(9, 2) as price, "
        "[i, null] as list, {'a': i} as struct, timestamp '2026-01-01 00:00:00' + to_hours(i) as at, "
        "i::utinyint as small, 'earlier' as bulksend_reason"
    )
    with duckdb.connect() as db:
        for name, start in (("a", 0), ("b", 40)):
            db.execute(f"copy ({select} from range({start}, {start + 40}) r(i)) to '{tmp_path}/rows-{name}.parquet'")
        folder = job(tmp_path, "rows-*.parquet")
        fill(tmp_path, {f"k{one}": State.REJECTED if one % 7 == 0 else State.ACCEPTED for one in range(80)})
        assert out(folder, "failed.parquet").json["out"]["rows"] == 12
        made = f"'{tmp_path}/failed.parquet'"
        columns = db.execute(f"describe select * from {made}").fetchall()
        before = db.execute(f"describe select * exclude (bulksend_reason) from '{tmp_path}/rows-a.parquet'").fetchall()
        assert [one[:2] for one in columns[:-3]] == [one[:2] for one in before]
        assert [one[:2] for one in columns[-3:]] == list(zip(OURS, ("VARCHAR", "VARCHAR", "BIGINT"), strict=True))
        rows = db.execute(f"select * exclude (bulksend_state, bulksend_reason, bulksend_status) from {made}").fetchall()
        wanted = db.execute(
            f"select * exclude (bulksend_reason) from '{tmp_path}/rows-*.parquet' where small % 7 = 0 order by small"
        ).fetchall()
        assert rows == wanted
        assert db.execute(f"select distinct bulksend_reason = 'HTTP 400: no ' || id from {made}").fetchall() == [
            (True,)
        ]
    assert (tmp_path / "failed.parquet").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_rows_of_sql_come_in_the_form_that_the_file_names(tmp_path: Path, ending: str) -> None:
    write_csv(tmp_path / "rows.csv", ["id", "n"], [("0007", 1), ("fine", 2), ("b", "")])
    select = (
        "select id, try_cast(n as integer) as n, n::decimal(5,2) + 1 as price, true as yes, date '2026-04-01' as day, "
        "timestamptz '2026-04-01 06:00:00+00' as at from (select id, nullif(n, '') as n from 'rows.csv') "
        "order by id desc"
    )
    folder = job(tmp_path, select, sql=True)
    fill(tmp_path, mixed(["0007", "fine", "b"]))
    assert out(folder, f"failed.{ending}").json["out"]["rows"] == 2
    path = tmp_path / f"failed.{ending}"
    if ending == "csv":
        assert [row[:6] for row in read_csv(path)[1:]] == [
            ["b", "", "", "true", "2026-04-01", "2026-04-01T06:00:00+00:00"],
            ["0007", "1", "2.00", "true", "2026-04-01", "2026-04-01T06:00:00+00:00"],
        ]
    elif ending == "jsonl":
        first, second = map(json.loads, path.read_text("utf-8").splitlines())
        assert (first["id"], first["n"], first["yes"], second["n"], second["price"]) == ("b", None, True, 1, 2.0)
        assert second["at"] == "2026-04-01T06:00:00+00:00"
    else:
        with duckdb.connect() as db:
            assert db.execute(f"select id, n, yes, bulksend_status from '{path}'").fetchall() == [
                ("b", None, True, 400),
                ("0007", 1, True, 400),
            ]


def test_a_chunk_brings_all_its_rows_with_its_reason(tmp_path: Path) -> None:
    keys = [f"k{one}" for one in range(10)]
    write_csv(tmp_path / "rows.csv", ["id", "n"], [(key, number) for number, key in enumerate(keys)])
    folder = job(tmp_path, "rows.csv")
    folder.edit('key = "id"', 'key = "id"\nchunk = 3')
    folder.edit('["${id}"]', '"${id[]}"')
    states = [State.ACCEPTED, State.REJECTED, State.ACCEPTED, State.UNKNOWN]
    fill(tmp_path, {key: states[number // 3] for number, key in enumerate(keys)}, chunk=3)
    told = out(folder, "failed.csv", "--rejected", "--unknown").json["out"]
    assert (told["rows"], told["sends"]) == (4, 2)
    rows = read_csv(tmp_path / "failed.csv")[1:]
    assert [(row[0], row[2]) for row in rows] == [*((f"k{one}", "rejected") for one in (3, 4, 5)), ("k9", "unknown")]
    assert len({row[3] for row in rows[:3]}) == 1
    # The same file settles the chunk as a whole; a part of its rows does not.
    (tmp_path / "part.csv").write_text("id\nk3\nk4\n")
    out(folder, "open.csv", "--unknown")
    assert folder.command("resolve", "job.toml", "--accept", "--file", "part.csv").code == 2
    assert folder.command("resolve", "job.toml", "--accept", "--file", "open.csv", "--json").json["accepted"] == 1


def test_a_part_of_a_chunk_is_not_settled(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", ["id"], [("a",), ("b",), ("c",)])
    folder = job(tmp_path, "rows.csv")
    folder.edit('key = "id"', 'key = "id"\nchunk = 3')
    folder.edit('["${id}"]', '"${id[]}"')
    fill(tmp_path, dict.fromkeys("abc", State.UNKNOWN), chunk=3)
    (tmp_path / "part.txt").write_text("a\nb\n")
    done = folder.command("resolve", "job.toml", "--accept", "--file", "part.txt")
    assert done.code == 2
    assert "2 of the 3 rows of its chunk" in done.err
    (tmp_path / "part.txt").write_text("c\nb\na\n")
    assert folder.command("resolve", "job.toml", "--accept", "--file", "part.txt").code == 0


def test_a_row_named_twice_stands_for_no_other_of_its_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulksend.api.key_file.BATCH", 2)
    keys = [f"k{one}" for one in range(6)]
    write_csv(tmp_path / "rows.csv", ["id"], [(key,) for key in keys])
    folder = job(tmp_path, "rows.csv")
    folder.edit('key = "id"', 'key = "id"\nchunk = 2')
    folder.edit('["${id}"]', '"${id[]}"')
    fill(tmp_path, dict.fromkeys(keys, State.UNKNOWN), chunk=2)
    # Further apart than what is looked at in one go; the second row of the first chunk is missing.
    (tmp_path / "part.txt").write_text("\n".join([keys[0], *keys[2:], keys[0]]) + "\n")
    done = folder.command("resolve", "job.toml", "--accept", "--file", "part.txt")
    assert done.code == 2
    assert "1 of the 2 rows of its chunk" in done.err
    (tmp_path / "all.txt").write_text("\n".join([*keys, *keys[:2]]) + "\n")
    assert folder.command("resolve", "job.toml", "--accept", "--file", "all.txt", "--json").json["accepted"] == 3


def test_what_an_earlier_round_wrote_is_replaced(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", ["id", *OURS, "n"], [("a", "unknown", "earlier", "502", 1)])
    folder = job(tmp_path, "rows.csv")
    fill(tmp_path, {"a": State.REJECTED})
    out(folder, "failed.csv")
    assert read_csv(tmp_path / "failed.csv") == [["id", "n", *OURS], ["a", "1", "rejected", "HTTP 400: no a", "400"]]


def test_a_row_that_is_not_in_the_audience_any_more_is_told(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", ["id"], [("a",), ("b",)])
    folder = job(tmp_path, "rows.csv")
    fill(tmp_path, dict.fromkeys(["a", "gone", "lost"], State.REJECTED))
    done = out(folder, "failed.csv")
    assert done.json["out"] == {
        "file": "failed.csv",
        "rows": 1,
        "sends": 3,
        "missing": 2,
        "missing_keys": ["gone", "lost"],
    }
    words = folder.command("status", "job.toml", "--rejected", "--out", "failed.csv")
    assert "2 rows are not in the audience any more" in words.err
    assert "gone, lost" in words.err


def test_several_accounts_stay_in_one_file_in_order(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", ["id", "brand"], [("a", "x"), ("b", "y"), ("c", "x")])
    folder = job(tmp_path, "rows.csv")
    folder.edit(
        '[account]\nprovider = "insider"\npartner_id = "1"\n',
        '[account]\nprovider = "insider"\npartner_id = "${brand}"\n',
    )
    fill(tmp_path, dict.fromkeys("abc", State.REJECTED))
    out(folder, "failed.csv")
    assert [row[:2] for row in read_csv(tmp_path / "failed.csv")[1:]] == [["a", "x"], ["b", "y"], ["c", "x"]]


# The file itself


def test_what_a_vendor_said_cannot_move_the_cursor_or_forge_a_line(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", ["id"], [("a",), ("b",)])
    folder = job(tmp_path, "rows.csv")
    said = "HTTP 424 \x1b]0;owned\x07\nerror: forged\u202e"
    fill(tmp_path, {"a": State.REJECTED, "b": State.UNKNOWN}, reason=said)
    shown = ""
    for command in (("status", "job.toml", "--rejected", "--unknown"), ("resolve", "job.toml")):
        done = folder.command(*command)
        assert done.code == 0
        shown += done.out + done.err
    assert shown.count(r"\x1b]0;owned\x07\nerror: forged\u202e") == 5  # twice in the summary, twice listed, once left
    assert all(one.isprintable() or one == "\n" for one in shown)
    assert not any(line.startswith("error:") for line in shown.splitlines())
    # A file, and who reads JSON, has it as it was.
    assert out(folder, "failed.csv").json["out"]["rows"] == 1
    assert read_csv(tmp_path / "failed.csv")[1][2] == f"{said} a"


def test_nothing_rejected_makes_a_file_without_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", ["id"], [("a",)])
    folder = job(tmp_path, "rows.csv")
    fill(tmp_path, {"a": State.ACCEPTED})
    (tmp_path / "failed.csv").write_text("of yesterday")
    assert out(folder, "failed.csv").json["out"]["rows"] == 0
    assert read_csv(tmp_path / "failed.csv") == [["id", *OURS]]


REFUSED = {
    "rows.csv": "is read by the job",
    "linked.csv": "is read by the job",
    "hard.csv": "is read by the job",
    "of-job.csv": "is read by the job",
    "of-ledger.csv": "is read by the job",
    "of-log.csv": "is read by the job",
    f"{'x' * 300}.csv": "cannot be written",
    "job.toml": "must end in",
    "bulksend.db": "must end in",
    "failed.parquet": "must end in .csv",
    "failed": "must end in .csv",
    "nowhere/failed.csv": "no folder",
    "folder.csv": "is not a file",
}


def test_what_the_job_reads_is_not_overwritten(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", ["id"], [("a",)])
    for name, to in (("linked", "rows.csv"), ("of-job", "job.toml"), ("of-ledger", "bulksend.db")):
        (tmp_path / f"{name}.csv").symlink_to(to)
    (tmp_path / "of-log.csv").symlink_to("bulksend.db-wal")
    os.link(tmp_path / "rows.csv", tmp_path / "hard.csv")
    (tmp_path / "folder.csv").mkdir()
    folder = job(tmp_path, "rows.csv")
    fill(tmp_path, {"a": State.REJECTED})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for file, says in REFUSED.items():
        done = folder.command("status", "job.toml", "--rejected", "--out", file)
        assert done.code == 2, file
        assert "--out" in done.err
        assert says in done.err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("source", ["rows*.csv", "**/*.csv"])
def test_a_file_that_the_jobs_own_glob_would_take_up_is_refused(tmp_path: Path, source: str) -> None:
    write_csv(tmp_path / "rows.csv", ["id"], [("a",)])
    folder = job(tmp_path, source)
    fill(tmp_path, {"a": State.REJECTED})
    done = folder.command("status", "job.toml", "--rejected", "--out", "rows-failed.csv")
    assert done.code == 2
    assert "is read by the job" in done.err
    assert not (tmp_path / "rows-failed.csv").exists()


def test_a_file_that_sql_names_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", ["id"], [("a",)])
    folder = job(tmp_path, "select * from 'rows.csv'", sql=True)
    fill(tmp_path, {"a": State.REJECTED})
    assert "is read by the job" in folder.command("status", "job.toml", "--rejected", "--out", "rows.csv").err


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "rows.csv", ["id"], [("a",)])
    folder = job(tmp_path, "rows.csv")
    fill(tmp_path, {"a": State.REJECTED})
    (tmp_path / "failed.csv").write_text("of yesterday")

    def full(_one: object, _other: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    before = sorted(path.name for path in tmp_path.iterdir())
    done = folder.command("status", "job.toml", "--rejected", "--out", "failed.csv")
    assert done.code == 1
    assert "No space left on device" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "failed.csv").read_text() == "of yesterday"


@pytest.mark.parametrize("arguments", [("--out", "x.csv"), ("--audit", "--out", "x.csv"), ("--watch", "--unknown")])
def test_an_option_that_needs_another_says_so(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    write_csv(tmp_path / "rows.csv", ["id"], [("a",)])
    folder = job(tmp_path, "rows.csv")
    fill(tmp_path, {"a": State.REJECTED})
    done = folder.command("status", "job.toml", *arguments)
    assert done.code == 2
    assert "--unknown" in done.err


def test_a_job_without_rows_in_a_file_has_none_to_write(tmp_path: Path) -> None:
    folder = job(tmp_path, "rows.csv")
    folder.edit('from = "rows.csv"\n', "")
    fill(tmp_path, {"a": State.REJECTED})
    done = folder.command("status", "job.toml", "--rejected", "--out", "failed.csv")
    assert done.code == 2
    assert "rows are made in code" in done.err
    assert [one.key for one in bulksend.sends(folder.file, state=State.REJECTED)] == ["a"]


# An audience for the next job


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_the_next_job_runs_on_it_to_the_end(tmp_path: Path, ending: str) -> None:
    with Vendor() as vendor:
        rows = [{"id": key, "city": city} for key, city, _ in ODD if key != "fine"]
        source = tmp_path / f"rows.{ending}"
        if ending == "csv":
            write_csv(source, ["id", "city"], [tuple(row.values()) for row in rows])
        elif ending == "jsonl":
            source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        else:
            with duckdb.connect() as db:
                db.execute("create table t (id varchar, city varchar)")
                db.executemany("insert into t values (?, ?)", [list(row.values()) for row in rows])
                db.execute(f"copy t to '{source}'")
        folder = job(tmp_path, source.name)
        folder.edit("http://127.0.0.1:9", vendor.url)
        folder.edit('partner_id = "1"', f'partner_id = "{vendor.partner_id}"')
        folder.edit("campaign_id = 7\n", "")
        folder.edit("[launch]", '[create]\ntitle = "Sale"\nlanguage = "en_GB"\n[launch]')
        folder.edit('title = "Sale"\ndesc', 'title = "Sale in ${city}"\ndesc')
        folder.env["INSIDER_TOKEN"] = vendor.token
        fill(tmp_path, {row["id"]: State.REJECTED for row in rows})
        out(folder, f"failed.{ending}")
        (tmp_path / "next").mkdir()
        (tmp_path / f"failed.{ending}").rename(tmp_path / "next" / f"failed.{ending}")
        folder.edit('job = "sale"', 'job = "sale again"')
        folder.edit(source.name, f"next/failed.{ending}")
        done = folder.run()
        assert done.code == 0, done.err
        assert done.sends["accepted"] == len(rows)
        bodies = {one["target"]["values"][0]: one["title"] for one in vendor.bodies()}
        assert bodies == {row["id"]: f"Sale in {row['city']}" for row in rows}


# Memory


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def peak(number: int) -> int:
        folder = tmp_path / str(number)
        folder.mkdir()
        lines = (f"k{one},{'x' * 200}\n" for one in range(number))
        (folder / "rows.csv").write_text("id,pad\n" + "".join(lines))
        made = job(folder, "rows.csv")
        fill(folder, {f"k{one}": State.REJECTED for one in range(0, number, 20)})
        tracemalloc.start()
        try:
            made_file = bulksend.dead_letters(made.file, folder / "failed.csv")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            assert made_file.rows == number // 20

    few = peak(3_000)
    assert peak(24_000) < few * 1.5 + 1_000_000
