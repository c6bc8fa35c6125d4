"""Files and places that options and tables name: key files, dead letters, ledgers, desired lists, folders for cron."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import strategies as st

from bulksend.cli.scheduler import Scheduler, render
from bulksend.errors import JobError
from bulksend.job.desired import sort_desired
from tests.end_to_end.vendor import Vendor
from tests.fuzz.budget import fuzz
from tests.fuzz.conftest import NAMED, Fuzzed
from tests.fuzz.odd import TEXTS, changed_bytes, changed_text, sentence
from tests.fuzz.tables import changed_csv, changed_jsonl, changed_sql, packed, parquet_of, parquet_queries
from tests.shell.conftest import CELL, JOB

KEYS = ("store_id", "city")
PLACES = [
    "sqlite:kept.toml",
    "sqlite:.",
    "sqlite:stores.csv",
    "sqlite:/dev/null",
    f"sqlite:{'x' * 300}",
    "sqlite:now.db",
]
UNKNOWN = ["0001", "0002", "0003"]


@pytest.fixture(scope="module")
def unsettled(fuzzed: Fuzzed) -> Fuzzed:
    """A job whose three launches have an unknown fate; its ledger is kept aside, and put back for each example."""
    fuzzed.write("job.toml", JOB.format(url=fuzzed.url))
    fuzzed.write("stores.csv", "store_id,city\n" + "".join(f"{key},{CELL}\n" for key in UNKNOWN))
    with Vendor("--fault", "insider.launch=424:100%") as vendor:
        fuzzed.edit(('partner_id = "100000001"', f'partner_id = "{vendor.partner_id}"'))
        fuzzed.env["INSIDER_TOKEN"] = vendor.token
        assert fuzzed.call("run", "job.toml", "--base-url", vendor.url, "--ledger", "sqlite:kept.db").code == 3
    (fuzzed.folder / "job.toml").rename(fuzzed.folder / "kept.toml")
    return fuzzed


def at_first(shell: Fuzzed) -> None:
    shutil.copy(shell.folder / "kept.toml", shell.folder / "job.toml")
    shutil.copy(shell.folder / "kept.db", shell.folder / "now.db")
    for beside in ("now.db-wal", "now.db-shm"):
        (shell.folder / beside).unlink(missing_ok=True)


def kinds_of(columns: tuple[str, ...]) -> st.SearchStrategy[tuple[str, bytes | str]]:
    """Give the ending of a file and its content; for Parquet the query that makes it."""
    text = "\n".join([*UNKNOWN, "0009", "", "é", " 7 "]).encode()
    csv, jsonl = changed_csv(columns), changed_jsonl(columns)
    gzip = st.builds(packed, csv, st.integers(0, 9), st.integers(0, 99))
    return st.one_of(
        st.tuples(st.sampled_from(["txt", "", "keys"]), changed_bytes(text)),
        st.tuples(st.just("csv"), csv),
        st.tuples(st.just("jsonl"), jsonl),
        st.tuples(st.just("csv.gz"), gzip),
        st.tuples(st.just("parquet"), changed_bytes(b"PAR1" + b"\0" * 40 + b"PAR1") | parquet_queries(columns)),
    )


def made(folder: Path, content: bytes | str, name: str) -> bool:
    path = folder / name
    path.unlink(missing_ok=True)
    if isinstance(content, str):
        return parquet_of(content, path)
    path.write_bytes(content)
    return True


@fuzz(short=15, long=1_000, given=kinds_of(KEYS), word=st.sampled_from(["--accept", "--resend"]))
def test_files_of_keys(unsettled: Fuzzed, given: tuple[str, bytes | str], word: str) -> None:
    ending, content = given
    at_first(unsettled)
    if made(unsettled.folder, content, f"keys.{ending}"):
        unsettled.judged("resolve", "job.toml", word, "--file", f"keys.{ending}", "--ledger", "sqlite:now.db")


@fuzz(
    short=12,
    long=1_000,
    given=kinds_of(KEYS),
    keeps=st.booleans(),
    out=changed_text("out.csv")
    | st.sampled_from(["out.csv", "out.jsonl", "out.parquet", f"{'x' * 250}.csv", f"{'x' * 300}.csv", "stores.csv"]),
)
def test_dead_letters(unsettled: Fuzzed, given: tuple[str, bytes | str], keeps: bool, out: str) -> None:
    """The audience is another one now, or the file goes to an odd place."""
    ending, content = given
    at_first(unsettled)
    out = out.replace("\0", "").replace("/", "")
    if not keeps:
        unsettled.edit(('"stores.csv"', f'"now.{ending}"'))
        if not made(unsettled.folder, content, f"now.{ending}"):
            return
    before = set(unsettled.folder.iterdir())
    unsettled.judged("status", "job.toml", "--unknown", "--out", out, "--ledger", "sqlite:now.db")
    for left in set(unsettled.folder.iterdir()) - before:
        if left.is_file() and not left.name.startswith("now.db"):
            left.unlink()


@fuzz(
    short=12,
    long=800,
    url=changed_text("sqlite:now.db") | changed_text("sqlite:///nowhere/a.db") | TEXTS | st.sampled_from(PLACES),
    command=st.sampled_from(["status", "plan", "report", "resolve", "stop"]),
)
def test_ledgers(unsettled: Fuzzed, url: str, command: str) -> None:
    at_first(unsettled)
    given = url.replace("\0", "").encode("utf-8", "replace").decode()
    before = set(unsettled.folder.iterdir())
    unsettled.judged(command, "job.toml", "--ledger", given, *(["--all", "--accept"] if command == "resolve" else []))
    for left in set(unsettled.folder.iterdir()) - before:
        left.unlink() if left.is_file() else shutil.rmtree(left)


@fuzz(short=25, long=2_000, given=kinds_of(KEYS), sql=st.none() | changed_sql(KEYS))
def test_desired_lists(
    tmp_path_factory: pytest.TempPathFactory, given: tuple[str, bytes | str], sql: str | None
) -> None:
    folder = tmp_path_factory.getbasetemp() / "desired"
    folder.mkdir(exist_ok=True)
    ending, content = given
    if not made(folder, content, f"list.{ending}"):
        return
    source = f"list.{ending}" if sql is None else None
    try:
        with sort_desired(
            base_dir=folder, source=source, sql=sql, key="store_id", scratch_dir=folder, most_chars=255
        ) as ids:
            found = [one for number in range(ids.blocks) for one in ids.block(number)]
    except JobError as wrong:
        for line in wrong.lines():
            sentence(ValueError(NAMED.sub("", line)), "\n", CELL)
    else:
        assert found == sorted(set(found))
        assert all(0 < len(one) <= 255 and not one.isspace() for one in found)
    assert not [left for left in folder.iterdir() if not left.name.startswith("list.")]


PLAIN_LINES = render(Scheduler.CRON, "insider", job_file="insider.toml", audience_file="a.csv", directory=Path("/srv"))[
    "insider.crontab"
].count("\n")


@fuzz(short=20, long=3_000, folder=changed_text("/srv/jobs") | TEXTS, scheduler=st.sampled_from(list(Scheduler)))
def test_folders_that_a_scheduler_is_told(folder: str, scheduler: Scheduler) -> None:
    try:
        files = render(
            scheduler, "insider", job_file="insider.toml", audience_file="insider-stores.csv", directory=Path(folder)
        )
    except JobError as wrong:
        sentence(wrong, "\n")
    else:
        for name, text in files.items():
            assert "\0" not in text or "\0" in folder
            if name.endswith(".crontab"):
                assert text.count("\n") == PLAIN_LINES, "a folder's name makes another line of a crontab"
