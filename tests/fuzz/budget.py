"""How many examples a test has, and how long one may take."""

from __future__ import annotations

import faulthandler
import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

__all__ = ["EXAMPLE_MOST_S", "fuzz"]

LONG = float(os.environ.get("FUZZ") or 0)
"""Share of the long budget; 0: the short form."""
EXAMPLE_MOST_S = 20.0
"""Generous, for a machine that does other things too; an example takes milliseconds."""
HANG_S = 120.0
"""After this the process is ended with its stacks on stderr, also where no Python runs any more."""


def fuzz(*, short: int, long: int, **strategies: SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """Give a test its examples: `short` of them that never change, or its share of `long` by the given seed.

    A failure prints what replays it. In the short form pytest's own timeout is what ends a hang.
    """
    budget = settings(
        max_examples=max(1, round(long * LONG)) if LONG else short,
        derandomize=not LONG,
        database=None,
        deadline=None,
        print_blob=True,
        phases=[Phase.explicit, Phase.generate, *([] if LONG else [Phase.shrink])],
        suppress_health_check=list(HealthCheck),
    )

    def decorate(test: Callable[..., None]) -> Any:
        @functools.wraps(test)
        def bounded(**arguments: Any) -> None:
            with _guarded():
                test(**arguments)

        made = pytest.mark.filterwarnings("ignore:Generating overly large repr")(budget(given(**strategies)(bounded)))
        return pytest.mark.timeout(0)(made) if LONG else made

    return decorate


@contextmanager
def _guarded() -> Iterator[None]:
    began = time.monotonic()
    if LONG:
        faulthandler.dump_traceback_later(HANG_S, exit=True)
    try:
        yield
    finally:
        if LONG:
            faulthandler.cancel_dump_traceback_later()
    assert time.monotonic() - began < EXAMPLE_MOST_S, "this takes too long"
