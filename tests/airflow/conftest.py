"""Whether there is an Airflow to ask.

Airflow's pins fit few environments, so it may stand in one of its own, with bulksend's dependencies:
BULKSEND_AIRFLOW_PYTHON names its interpreter; `.ci/run` makes one. Without any, a run of the whole suite skips this
folder in one word; in CI, a run of this folder by name fails.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PYTHON = os.environ.get("BULKSEND_AIRFLOW_PYTHON") or sys.executable


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> None:
    """Skip where there is no Airflow, unless it must be there."""
    if os.environ.get("BULKSEND_AIRFLOW_PYTHON") or find_spec("airflow") is not None:
        return
    if os.environ.get("CI") and any("airflow" in one for one in parent.config.args):
        return  # the first command that wants it says that it is not there
    text = "Airflow is not installed; BULKSEND_AIRFLOW_PYTHON may name an interpreter that has it"
    pytest.skip(text, allow_module_level=True)
