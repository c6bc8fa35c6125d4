"""When a command that prints a secret is run, and who may read what a job writes."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import bulksend
from bulksend.event import Event
from bulksend.providers import PROVIDERS
from tests.end_to_end.echoing import echoing
from tests.end_to_end.test_secrets_kept import CANARY, job_for
from tests.end_to_end.vendor import Folder

SEGMENT = '[segment]\nid = "vip"\n[desired]\nfrom = "rows.csv"\nkey = "key"\n'


def counted(path: Path, url: str, *, provider: str = "insider", rows: int = 3) -> Folder:
    """Return a job whose secret is printed by a command that counts how often it is run, in its own folder."""
    script = path / "tell.sh"
    script.write_text(
        f"#!/bin/sh\nprintf x >> {shlex.quote(str(path / 'count'))}\n[ -f rows.csv ] && echo '{CANARY}'\n"
    )
    script.chmod(0o700)
    return job_for(path, provider, url, rows=rows, source="cmd:../tell.sh")


def runs(path: Path) -> int:
    return len((path / "count").read_text()) if (path / "count").exists() else 0


def test_it_is_run_once_in_a_run_and_not_where_no_call_is_made(tmp_path: Path) -> None:
    with echoing(404) as vendor:
        folder = counted(tmp_path, vendor.url)
        for command in (["plan"], ["plan", "--json"], ["status"]):
            done = folder.command(command[0], "job.toml", *command[1:])
            assert (done.code, runs(tmp_path)) == (0, 0), (command, done.err)
        assert not vendor.heard
        done = folder.run()
        assert done.sends["rejected"] == 3
        assert len(vendor.heard) == 3
        assert runs(tmp_path) == 1
        assert folder.command("report", "job.toml").code == 0
        assert runs(tmp_path) == 1
        folder.edit('title = "Sale"', "title = 1")
        assert folder.run().code == 2
        assert runs(tmp_path) == 1, "run for a job that is refused"


def test_rows_that_pick_it_run_it_once_for_each_account(tmp_path: Path) -> None:
    with echoing(404) as vendor:
        folder = counted(tmp_path, vendor.url, rows=4)
        folder.edit("cmd:../tell.sh", "cmd:../tell.sh secret/${segment}")
        folder.csv("rows.csv", "key,segment", ((f"k{one}", one % 2) for one in range(4)))
        assert folder.command("plan", "job.toml").code == 0
        assert runs(tmp_path) == 0
        assert folder.run().sends["rejected"] == 4
    assert runs(tmp_path) == 2


def test_a_plan_that_reads_a_segment_runs_it(tmp_path: Path) -> None:
    with echoing(404) as vendor:
        folder = counted(tmp_path, vendor.url, provider="stream")
        text = folder.file.read_text()
        folder.file.write_text(text[: text.index("[audience]")] + SEGMENT)
        folder.command("plan", "job.toml")
        assert vendor.heard
    assert runs(tmp_path) == 1


def test_a_plan_whose_command_fails_reads_no_segment(tmp_path: Path) -> None:
    with echoing(404) as vendor:
        folder = counted(tmp_path, vendor.url, provider="stream")
        text = folder.file.read_text()
        folder.file.write_text(text[: text.index("[audience]")] + SEGMENT)
        folder.edit("cmd:../tell.sh", "cmd:sh -c 'exit 7'")
        done = folder.command("plan", "job.toml")
        assert not vendor.heard
    assert done.code == 0
    assert "the secret's command sh ended with exit code 7" in done.err
    assert "was not read, since a secret is not set" in done.err


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("cmd:no-such-program", "the program no-such-program of the secret's command is not found"),
        ("cmd:sh -c 'exit 7'", "the secret's command sh ended with exit code 7"),
    ],
)
def test_a_command_that_fails_is_told_with_its_line_and_all_else(source: str, said: str, tmp_path: Path) -> None:
    folder = job_for(tmp_path, "insider", "https://api.example.com", source=source)
    folder.csv("rows.csv", "key,segment", [("", 1), ("a", 2)])
    done = folder.run()
    assert done.code == 2
    assert f"job.toml:6: account.token: {said}" in done.err
    assert "the key is blank" in done.err
    planned = folder.command("plan", "job.toml")
    assert ("not found" in planned.err) == ("no-such" in source)


@pytest.fixture
def _everybody_may_read() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_everybody_may_read")
def test_what_a_job_writes_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", CANARY)
    modes: dict[str, int] = {}

    def look(_: Event) -> None:
        modes.update({one.name: stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "job").iterdir()})

    with echoing(404, 500) as vendor:
        folder = job_for(tmp_path, "insider", vendor.url, rows=5)
        for name in ("job-report.html", "rows.csv"):
            (folder.path / name).touch(0o644)
        given = {"job.toml": stat.S_IMODE(folder.file.stat().st_mode), "rows.csv": 0o666, "job-report.html": 0o644}
        bulksend.run(folder.file, observers=[look])
    assert folder.command("report", "job.toml").code == 0
    assert {"bulksend.db", "bulksend.db-wal", "bulksend.db-shm"} <= modes.keys()
    assert any(name.endswith(".lock") for name in modes)
    assert {name: mode for name, mode in modes.items() if name not in given} == dict.fromkeys(
        modes.keys() - given, 0o600
    )
    for name in ("bulksend.db", "job-report.html"):
        assert stat.S_IMODE((folder.path / name).stat().st_mode) == 0o600


def test_the_schema_and_the_starters_name_it() -> None:
    for provider in PROVIDERS.values():
        for field in provider.account_secrets.values():
            assert "cmd:COMMAND" in field.about
