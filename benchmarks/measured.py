"""What a command takes: wall and CPU seconds, and the peak of its memory.

python benchmarks/measured.py COMMAND … prints these and what the command printed as a line of JSON, and ends with its
exit code. It is a process of its own because Linux counts to a new process what the one that makes it had in memory:
this one has next to nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

__all__ = ["measured"]


def measured(command: Sequence[str]) -> dict[str, Any]:
    """Run a command of Python's or another; returns `wall_s`, `cpu_s`, `peak_mib` and `printed`.

    Where it starts others, CPU is that of all, and the peak that of the largest.
    """
    done = subprocess.run([sys.executable, "-I", "-S", __file__, *command], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"exit {done.returncode}: {' '.join(command)}")
    taken: dict[str, Any] = json.loads(done.stdout)
    return taken


def _measure(command: Sequence[str]) -> int:
    started_s = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    printed = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started_s
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = usage.ru_utime + usage.ru_stime
    taken = {"wall_s": wall_s, "cpu_s": cpu_s, "peak_mib": usage.ru_maxrss / 1024, "printed": printed}
    sys.stdout.write(json.dumps(taken))
    return process.returncode


if __name__ == "__main__":
    sys.exit(_measure(sys.argv[1:]))
