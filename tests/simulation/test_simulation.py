"""Some thousand worlds: in each, every row is sent once or known to be unknown, and no window is over the limit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.promises import tell
from tests.simulation.scenario import WAYS, scenario_of

SEEDS = 510
BLOCKS = 3
LONG_SEEDS = 20_000


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("way", WAYS)
def test_what_is_promised_holds_in_every_world(way: str, block: int) -> None:
    first = (list(WAYS).index(way) * BLOCKS + block) * (SEEDS // BLOCKS)
    states: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for seed in range(first, first + SEEDS // BLOCKS):
        story = tell(seed, way)
        states += story.states
        ends.update(story.lives)
    # Much went wrong in them, or they would show nothing.
    assert ends["died"] > SEEDS // BLOCKS // 2
    assert ends["done"] == SEEDS // BLOCKS
    assert states["accepted"] > states["rejected"] > 0
    assert states["unknown"] > 0 or way in ("stream", "batch")


@pytest.mark.long
def test_many_more_worlds() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seeds", str(LONG_SEEDS), "--first", "1000000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_seed_is_one_story(tmp_path: Path) -> None:
    """Whatever the order in which a set of strings comes, in this process and in others."""
    seeds = [seed for seed in range(200) if scenario_of(seed).deaths and len(scenario_of(seed).accounts) > 1][:8]
    code = f"from tests.simulation.promises import tell; print([tell(seed).digest for seed in {seeds}])"
    root = Path(__file__).parents[2]
    for number in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": number}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == str([tell(seed).digest for seed in seeds])
