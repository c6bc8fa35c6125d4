"""What a report says of a segment, and the files of a difference, which never cost the job a file that it reads."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from bulksend.api.diff_files import DiffFiles
from bulksend.api.forecast import segment_plan
from bulksend.api.report import Report, SegmentReport
from bulksend.api.segment import check_limit
from bulksend.errors import JobError, SendsFailedError
from bulksend.job.file import load_job
from bulksend.job.spec import Job
from bulksend.model import JobState
from bulksend.reconcile.difference import Line
from bulksend.reconcile.sync import Verified


def job_of(folder: Path, desired: dict[str, str] | None = None, **tables: object) -> Job:
    tree = {
        "job": "sale",
        "account": {"provider": "stream", "api_key": "k", "api_secret": "env:X"},
        "segment": {"id": "vip"},
        "desired": {"from": "ids.csv", "key": "id"} if desired is None else desired,
        **tables,
    }
    with contextlib.chdir(folder):
        return load_job(tree)


# The report


@pytest.mark.parametrize(
    ("drift", "left", "desired", "applied", "is_right"),
    [
        (0, 0, 1000, True, True),
        (None, 0, 1000, True, True),
        (5, 0, 1000, True, True),
        (6, 0, 1000, True, False),
        (1, 0, 3, True, True),
        (2, 0, 3, True, False),
        (1, 0, 0, True, False),
        (0, 1, 1000, True, False),
        (None, 0, 1000, False, False),
    ],
)
def test_a_segment_is_right_but_for_a_little_drift(drift, left, desired, applied, is_right):
    one = SegmentReport("vip", 1000, desired, 10, 10, "0" * 16, drift=drift, left=left, applied=applied)
    assert one.is_right is is_right
    report = Report("sale", JobState.DONE, segment=one)
    assert report.exit_code == (0 if is_right else 3)
    if is_right:
        report.raise_for_failures()
    else:
        number = left or drift or 20
        with pytest.raises(SendsFailedError, match=f"{number} ids of segment vip differ"):
            report.raise_for_failures()


def test_a_sample_is_foreseen(folder):
    job = job_of(folder, guard={"verify": "sample"})
    found = SegmentReport("vip", 1000, 1000, 70, 20, "0" * 16)
    assert segment_plan(job, found, is_read=True)["stream.targets.exists"].calls == 50 + 20
    assert "stream.targets.exists" not in segment_plan(job_of(folder), found, is_read=True)


def test_a_limit_is_for_rows_and_not_for_a_desired_list(folder):
    job = job_of(folder)
    check_limit(job, None)
    with pytest.raises(JobError, match="what it left out would be removed"):
        check_limit(job, 1)


# The files


@pytest.mark.parametrize(
    "desired",
    [
        {"from": "added.csv"},
        {"from": "./added.csv"},
        {"from": "../{folder}/added.csv"},
        {"from": "{path}/added.csv"},
        {"from": "*.csv"},
        {"from": "re*.csv"},
        {"from": "d?ffering.csv"},
        {"from": "**/added.csv"},
        {"sql": "select id from 'removed.csv'"},
        {"sql": "select id from read_csv('{path}/differing.csv')"},
        {"sql": 'select id from "added.csv"'},
        {"sql": "select id from 'other.csv' union all select id from '*.csv'"},
    ],
)
def test_a_folder_where_the_job_would_lose_what_it_reads_is_refused(folder, desired):
    filled = {name: text.format(folder=folder.name, path=folder) for name, text in desired.items()}
    with pytest.raises(JobError, match="is read by the job, and would be overwritten"):
        DiffFiles(folder, job_of(folder, {**filled, "key": "id"})).open()
    assert list(folder.iterdir()) == []
    DiffFiles(None, job_of(folder, {**filled, "key": "id"})).open()


@pytest.mark.parametrize("by_link", ["the folder", "the job"])
def test_the_same_folder_by_another_name_is_refused_too(folder, by_link):
    (folder / "real").mkdir()
    (folder / "link").symlink_to(folder / "real")
    base, out = ("real", "link") if by_link == "the folder" else ("link", "real")
    (folder / "job.toml").write_text(
        f'job = "s"\n[account]\nprovider = "stream"\napi_key = "k"\napi_secret = "env:X"\n[segment]\nid = "vip"\n'
        f'[desired]\nfrom = "{folder}/{base}/added.csv"\nkey = "id"\n'
    )
    with pytest.raises(JobError, match="would be overwritten"):
        DiffFiles(folder / out, load_job(folder / "job.toml")).open()


@pytest.mark.parametrize("desired", [{"from": "ids.csv"}, {"from": "added.csv"}, {"sql": "select id from 'ids.csv'"}])
def test_another_folder_is_made(folder, desired):
    DiffFiles(folder / "out" / "diff", job_of(folder, {**desired, "key": "id"})).open()
    assert (folder / "out" / "diff").is_dir()


def test_files_take_the_place_of_those_of_the_last_run(folder):
    files = DiffFiles(folder, job_of(folder))
    files.open()
    files.write(lambda: iter([Line(add=["a"], remove=["b", "c"])]))
    files.write_left(Verified(0, 2, ["a"], ["b"]))
    assert (folder / "differing.csv").read_text() == "id,state\na,missing\nb,extra\n"
    files = DiffFiles(folder, job_of(folder))
    files.open()
    files.write(lambda: iter([]))
    files.write_left(Verified(3, 0))
    assert sorted(one.name for one in folder.iterdir()) == ["added.csv", "removed.csv"]
    assert (folder / "removed.csv").read_text() == "id\n"
