"""Audiences that are wrong in any way, through the shell: refused by row and key, with nothing else of a row said."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from tests.fuzz.budget import fuzz
from tests.fuzz.conftest import Fuzzed
from tests.fuzz.tables import COLUMNS, changed_csv, changed_jsonl, changed_sql, packed, parquet_of, parquet_queries
from tests.fuzz.toml import JOBS, toml_of

PLAIN = [job for job in JOBS if "audience" in job and "from" in job["audience"]]
jobs = st.integers(0, len(PLAIN) - 1)
VARS = ("--var", "day=2026-04-01")


def columns_of(job: int) -> tuple[str, ...]:
    return COLUMNS[PLAIN[job]["account"]["provider"]]


def judge(fuzzed: Fuzzed, number: int, **audience: str) -> None:
    job = PLAIN[number]
    kept = {name: value for name, value in job["audience"].items() if name not in ("from", "sql")}
    whole = {**job, "audience": {**kept, **audience}}
    fuzzed.write("job.toml", "\n".join(f"{key} = {toml_of(item)}" for key, item in whole.items()))
    fuzzed.judged_twice(*VARS)


def with_content(make):
    """Pair a job with a file's content made for its columns."""
    return jobs.flatmap(lambda job: st.tuples(st.just(job), make(columns_of(job))))


@fuzz(short=20, long=2_000, given=with_content(changed_csv))
def test_csv(fuzzed: Fuzzed, given: tuple) -> None:
    job, content = given
    fuzzed.write("a.csv", content)
    judge(fuzzed, job, **{"from": "a.csv"})


@fuzz(short=20, long=2_000, given=with_content(changed_jsonl))
def test_jsonl(fuzzed: Fuzzed, given: tuple) -> None:
    job, content = given
    fuzzed.write("a.jsonl", content)
    judge(fuzzed, job, **{"from": "a.jsonl"})


@fuzz(
    short=8,
    long=500,
    given=with_content(changed_csv),
    kind=st.sampled_from([".csv", ".jsonl"]),
    cut=st.integers(0, 30),
    flip=st.integers(0, 500),
)
def test_gzip(fuzzed: Fuzzed, given: tuple, kind: str, cut: int, flip: int) -> None:
    job, content = given
    if kind == ".jsonl":
        content = json.dumps(dict.fromkeys(columns_of(job), "7")).encode() * 30
    fuzzed.write(f"a{kind}.gz", packed(content, cut, flip))
    judge(fuzzed, job, **{"from": f"a{kind}.gz"})


@fuzz(short=10, long=1_500, given=with_content(parquet_queries), spoilt=st.none() | st.integers(0, 9999))
def test_parquet(fuzzed: Fuzzed, given: tuple, spoilt: int | None) -> None:
    job, query = given
    path = fuzzed.folder / "a.parquet"
    path.unlink(missing_ok=True)
    if not parquet_of(query, path):
        return
    if spoilt is not None:
        whole = bytearray(path.read_bytes())
        whole[spoilt % len(whole)] ^= 1 << spoilt % 8
        path.write_bytes(whole[:spoilt] if spoilt % 5 == 0 else whole)
    judge(fuzzed, job, **{"from": "a.parquet"})


@fuzz(short=15, long=1_500, given=with_content(changed_sql))
def test_sql(fuzzed: Fuzzed, given: tuple) -> None:
    job, query = given
    judge(fuzzed, job, sql=query)


@fuzz(
    short=8,
    long=500,
    name=st.sampled_from(["stores.csv", "a*.csv", "[a].csv", "**/*.csv", "x" * 300 + ".csv", "a/" * 3000 + "b.csv"])
    | st.text(max_size=20)
    | st.text("./*?[]~\0ab", max_size=8).map(lambda text: f"{text}.csv"),
    key=st.text(max_size=5) | st.sampled_from(["store_id", "STORE_ID", "x" * 3000, "a/b", "~0", '"']),
)
def test_names_of_files_and_columns(fuzzed: Fuzzed, name: str, key: str) -> None:
    (fuzzed.folder / "[a].csv").write_text(f"{'store_id'},city,opens\n1,a,b\n")
    judge(fuzzed, 0, **{"from": name, "key": key})
