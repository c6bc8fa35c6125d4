"""A folder for each test, in memory where there is such a place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reconcile.rig import a_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder for the files of one segment, and of its ledger."""
    with a_folder() as made:
        yield made
