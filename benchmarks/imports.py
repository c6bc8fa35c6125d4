"""How long `import bulksend` and `bulksend --help` take, beside `import aiohttp`."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.frame import Aim, Result, Row

__all__ = ["measure"]

_NOTHING = "python -c pass"
_PEER = 'python -c "import aiohttp"'
_MOST = 1.3


def measure(*, full: bool) -> Result:
    """Start each so many times, in turns, so that what else the machine does falls on all alike."""
    rounds = 41 if full else 15
    script = Path(sys.executable).with_name("bulksend")
    bulksend = [str(script)] if script.is_file() else [sys.executable, "-m", "bulksend"]
    commands = {
        _NOTHING: [sys.executable, "-c", "pass"],
        _PEER: [sys.executable, "-c", "import aiohttp"],
        'python -c "import bulksend"': [sys.executable, "-c", "import bulksend"],
        "bulksend --help": [*bulksend, "--help"],
        "bulksend run --help": [*bulksend, "run", "--help"],
    }
    took: dict[str, list[float]] = {who: [] for who in commands}
    for number in range(rounds + 1):
        for who, command in commands.items():
            took_ms = _time_ms(command)
            if number:  # the first time compiles, and brings files into the page cache
                took[who].append(took_ms)
    medians = {who: statistics.median(times) for who, times in took.items()}
    rows = [
        Row(who, {"median ms": medians[who], "least ms": min(times), "x import aiohttp": medians[who] / medians[_PEER]})
        for who, times in took.items()
    ]
    aims = [
        Aim(f"{who} ≤ {_MOST} x import aiohttp", medians[who] <= _MOST * medians[_PEER], _ratio(medians, who))
        for who in ('python -c "import bulksend"', "bulksend --help")
    ]
    return Result("imports", f"Wall time of a whole process, {rounds} of each in turns, after one of each.", rows, aims)


def _ratio(medians: dict[str, float], who: str) -> str:
    return f"{medians[who] / medians[_PEER]:.2f} x"


def _time_ms(command: list[str]) -> float:
    # As installed, modules are compiled; without the variable that is so for a working copy too.
    env = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started_s = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=env)
    return (time.perf_counter() - started_s) * 1000
