"""After each test: end what it has started and, having failed, not ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.vendor import STARTED


@pytest.fixture(autouse=True)
def _end_what_is_left() -> Iterator[None]:
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()
