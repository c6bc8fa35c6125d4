"""Standard error that nobody reads: the words are lost, and nothing else."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bulksend.cli.app import app
from tests.end_to_end.vendor import JobFolder, Vendor


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_broken_standard_error_costs_neither_the_run_nor_its_log_file(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=10)
        with Path("/dev/full").open("wb") as full:
            command = [sys.executable, "-m", "bulksend", "run", "job.toml", "--yes", "--json", "--log-file", "log"]
            done = subprocess.run(
                command,
                cwd=folder.path,
                env={**os.environ, "INSIDER_TOKEN": vendor.token},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=full,
                timeout=60,
                check=False,
            )
        assert done.returncode == 0
        assert json.loads(done.stdout)["sends"]["accepted"] == 10
        told = [json.loads(line)["event"] for line in (folder.path / "log").read_text("utf-8").splitlines()]
        assert told.count("send.accepted") == 10
        assert told[-1] == "run.finished"


def test_started_with_everything_closed_it_runs_all_the_same(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=10)
        command = f"exec {sys.executable} -m bulksend run job.toml --log-file log 0<&- 1>&- 2>&-"
        env = {**os.environ, "INSIDER_TOKEN": vendor.token}
        done = subprocess.run(["sh", "-c", command], cwd=folder.path, env=env, timeout=60, check=False)
        assert done.returncode == 0
        assert len(vendor.launches()) == 10
        assert b"run.finished" in (folder.path / "log").read_bytes()


def test_a_display_that_is_asked_for_without_a_terminal_is_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = importlib.import_module("bulksend.cli.run")
    tickers: list[object] = []
    monkeypatch.setattr(command, "_bar", lambda: pytest.fail("there is no terminal to draw on"))
    monkeypatch.setattr(command, "_ticker", lambda _logs: tickers.append)
    with Vendor() as vendor:
        monkeypatch.setenv("INSIDER_TOKEN", vendor.token)
        folder = JobFolder(tmp_path, vendor, rows=3)
        assert CliRunner().invoke(app, ["run", str(folder.file), "--progress"]).exit_code == 0
    assert tickers
