"""The DAG that `init --scheduler airflow` writes, in Airflow itself."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import bulksend
from tests.airflow.conftest import PYTHON
from tests.end_to_end.vendor import Folder, Vendor

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 280
PROVIDERS = ("batch", "insider", "stream", "usercom")
STORES = ["0001", "0002", "0003", "0004", "0005"]
pytestmark = pytest.mark.timeout(TIMEOUT_S + 20)


class Scene:
    """A folder of DAGs, an emulator of the vendor, and what Airflow made of them; each has a day of its own."""

    said: dict[str, Any]

    def __init__(self, path: Path, vendor: Vendor, day: str, *ways: str) -> None:
        path.mkdir()
        self.vendor, self.day, self.ways = vendor, day, ways
        self.dags = path / "dags"
        self.dags.mkdir()
        self.ledger = f"sqlite://{path / 'ledger.db'}"
        self.init("insider")
        self.edit("insider.toml", '"100000001" ', f'"{vendor.partner_id}"\nbase_url = "{vendor.url}" ')
        self.edit("insider_dag.py", "timedelta(minutes=1)", "timedelta(seconds=0)")

    def init(self, provider: str) -> None:
        assert Folder(self.dags).command("init", provider, "--scheduler", "airflow").code == 0

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.dags / name
        text = path.read_text("utf-8")
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), "utf-8")

    @property
    def told(self) -> dict[str, Any]:
        """What the process with Airflow in it needs to know."""
        env = {"BULKSEND_LEDGER": self.ledger, "INSIDER_TOKEN": self.vendor.token}
        return {"dags": str(self.dags), "day": self.day, "env": env, "ways": self.ways}

    @property
    def runs(self) -> list[tuple[str, str, list[str]]]:
        """The state of each run and of its task, and the days for which `bulksend.run` was called."""
        return [(one["run"], one["task"], one["days"]) for one in self.said["runs"]]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Scene]]:
    """All of them, in one Airflow: to start one takes longer than to run its DAGs."""
    path = tmp_path_factory.mktemp("scenes")
    home = path / "airflow"
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "BULKSEND"))},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(
            path / "whole" / "dags"
        ),  # where Airflow 3 finds what it writes down of a DAG
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    with ExitStack() as stack:
        vendors = [stack.enter_context(Vendor()) for _ in range(3)]
        failing = stack.enter_context(Vendor("--fault", "insider.launch=424:100%"))
        scenes = {
            "whole": Scene(path / "whole", vendors[0], "2026-04-01", "whole", "whole"),
            "stopped": Scene(path / "stopped", vendors[1], "2026-04-02", "stopped"),
            "failing": Scene(path / "failing", failing, "2026-04-03", "whole"),
            "wrong": Scene(path / "wrong", vendors[2], "2026-04-04", "whole"),
        }
        for provider in PROVIDERS:
            if provider != "insider":
                scenes["whole"].init(provider)
        for line in ("canary     = 2", 'stop_after = "5%"'):
            scenes["failing"].edit("insider.toml", line, f"# {line}")
        scenes["wrong"].edit("insider.toml", "c_store_id", "zz_store_id")

        command = [PYTHON, str(Path(__file__).with_name("drive.py")), json.dumps([one.told for one in scenes.values()])]
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        (said,) = (line.removeprefix("SAID ") for line in done.stdout.splitlines() if line.startswith("SAID "))
        for scene, one in zip(scenes.values(), json.loads(said), strict=True):
            scene.said = one
        yield scenes


def test_airflow_reads_the_dag_of_each_provider(scenes: Mapping[str, Scene]) -> None:
    said = scenes["whole"].said
    assert (said["import_errors"], said["dags"]) == ({}, [f"bulksend_{provider}" for provider in PROVIDERS])


def test_a_run_sends_and_a_second_run_of_the_day_sends_nothing(scenes: Mapping[str, Scene]) -> None:
    scene = scenes["whole"]
    assert scene.runs == [("success", "success", [scene.day])] * 2
    assert scene.vendor.launches() == dict.fromkeys(STORES, 1)


def test_a_retry_after_a_stop_goes_on(scenes: Mapping[str, Scene]) -> None:
    scene = scenes["stopped"]
    assert scene.runs == [("success", "success", [scene.day, scene.day])]
    assert scene.vendor.launches() == dict.fromkeys(STORES, 1)


def test_sends_that_are_not_accepted_fail_the_task_without_a_retry(scenes: Mapping[str, Scene]) -> None:
    scene = scenes["failing"]
    assert scene.runs == [("failed", "failed", [scene.day])]
    seen = bulksend.status(scene.dags / "insider.toml", vars={"day": scene.day}, ledger=scene.ledger)
    assert (seen.total, seen.accepted, seen.pending) == (5, 0, 0)


def test_a_job_file_that_is_wrong_fails_the_task_without_a_retry(scenes: Mapping[str, Scene]) -> None:
    scene = scenes["wrong"]
    assert scene.runs == [("failed", "failed", [scene.day])]
    assert scene.vendor.launches() == {}
