"""The DAG that `init --scheduler airflow` writes, in Airflow itself.

Airflow's pins fit few environments, so it may stand in one of its own, with bulksend's dependencies:
BULKSEND_AIRFLOW_PYTHON names its interpreter. Skipped where neither that nor this one has Airflow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("BULKSEND_AIRFLOW_PYTHON") or sys.executable
TIMEOUT_S = 280
DAY = "2026-04-01"
if "BULKSEND_AIRFLOW_PYTHON" not in os.environ and find_spec("airflow") is None:
    text = "Airflow is not installed; BULKSEND_AIRFLOW_PYTHON may name an interpreter that has it"
    pytest.skip(text, allow_module_level=True)

pytestmark = pytest.mark.timeout(TIMEOUT_S + 20)


class Scene:
    """An Airflow with nothing in it but the DAG, and an emulator of the vendor."""

    def __init__(self, folder: Path, emulated: dict[str, str]) -> None:
        self.dags = folder / "dags"
        self.dags.mkdir()
        self.url = emulated["url"]
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "BULKSEND"))},
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "BULKSEND_LEDGER": f"sqlite://{folder / 'ledger.db'}",
            "INSIDER_TOKEN": emulated["token"],
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
        }
        self._call([sys.executable, "-m", "bulksend", "init", "insider", "--scheduler", "airflow"], cwd=self.dags)
        self.edit("insider.toml", '"100000001" ', f'"{emulated["partner_id"]}"\nbase_url = "{self.url}" ')
        self.edit("insider_dag.py", "timedelta(minutes=1)", "timedelta(seconds=0)")
        self._call([PYTHON, "-m", "airflow", "db", "migrate"])

    def _call(self, command: list[str], cwd: Path = ROOT) -> str:
        done = subprocess.run(
            command, cwd=cwd, env=self.env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.dags / name
        text = path.read_text("utf-8")
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), "utf-8")

    def drive(self, first_try: str, day: str = DAY) -> dict[str, Any]:
        out = self._call([PYTHON, str(Path(__file__).with_name("drive.py")), day, first_try])
        (said,) = (line.removeprefix("SAID ") for line in out.splitlines() if line.startswith("SAID "))
        data = json.loads(said)
        assert isinstance(data, dict)
        return data

    def status(self) -> dict[str, Any]:
        job = str(self.dags / "insider.toml")
        data = json.loads(
            self._call([sys.executable, "-m", "bulksend", "status", job, "--var", f"day={DAY}", "--json"])
        )
        assert isinstance(data, dict)
        return data

    def launched(self) -> list[str]:
        """Return the stores to which a launch took effect, by the emulator's own log."""
        with urlopen(f"{self.url}/_emulator/effects", timeout=10) as reply:
            effects = json.load(reply)["effects"]
        return [one["body"]["target"]["values"][0] for one in effects if one["endpoint"] == "insider.launch"]


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """Its parameter, where there is one, is a fault of the emulator."""
    faults = ["--fault", request.param] if hasattr(request, "param") else []
    command = [sys.executable, "-m", "bulksend", "emulate", "insider", "--port", "0", *faults]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        try:
            yield Scene(tmp_path, json.loads(child.stdout.readline())["insider"])
        finally:
            child.terminate()


STORES = ["0001", "0002", "0003", "0004", "0005"]


def test_airflow_reads_the_dag(scene: Scene) -> None:
    assert scene.drive("parse") == {"import_errors": {}, "dags": ["bulksend_insider"]}


def test_a_run_sends_and_a_second_run_of_the_day_sends_nothing(scene: Scene) -> None:
    said = scene.drive("whole")
    assert (said["run"], said["task"], said["days"]) == ("success", "success", [DAY])
    assert sorted(scene.launched()) == STORES
    assert scene.drive("whole")["task"] == "success"
    assert sorted(scene.launched()) == STORES


def test_a_retry_after_a_stop_goes_on(scene: Scene) -> None:
    said = scene.drive("stopped")
    assert (said["task"], said["days"]) == ("success", [DAY, DAY])
    assert sorted(scene.launched()) == STORES


@pytest.mark.parametrize("scene", ["insider.launch=424:100%"], indirect=True)
def test_sends_that_are_not_accepted_fail_the_task_without_a_retry(scene: Scene) -> None:
    for line in ("canary     = 2", 'stop_after = "5%"'):
        scene.edit("insider.toml", line, f"# {line}")
    said = scene.drive("whole")
    assert (said["run"], said["task"], said["days"]) == ("failed", "failed", [DAY])
    sends = scene.status()["sends"]
    assert (sends["total"], sends["accepted"], sends["pending"]) == (5, 0, 0)


def test_a_job_file_that_is_wrong_fails_the_task_without_a_retry(scene: Scene) -> None:
    scene.edit("insider.toml", "c_store_id", "zz_store_id")
    said = scene.drive("whole")
    assert (said["run"], said["task"], said["days"]) == ("failed", "failed", [DAY])
    assert scene.launched() == []
