"""Four processes on one ledger and one account: together they keep the limit, also when one dies and comes back.

How much of the limit they use together is measured in `python -m benchmarks share_of_limit --full`.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.end_to_end.vendor import JobFolder, Vendor, finish

NAMES = "abcd"
ROWS = 300
LIMIT = "600/6s"
CAMPAIGN = "1"
ALL_AT_WORK = 350
"""Calls of all, by which each has had its share several times."""
LOOK_S = 3.0


def test_four_processes_keep_one_limit_and_share_what_a_dead_one_leaves(tmp_path: Path) -> None:
    flags = ("--limit", f"insider.launch={LIMIT}", "--latency", "20ms±10ms", "--campaign", CAMPAIGN)
    with Vendor(*flags) as vendor:
        folders = {name: job_of(tmp_path, vendor, name) for name in NAMES}
        arguments = ("run", "job.toml", "--json", "--ledger", f"sqlite://{tmp_path / 'shared.db'}")
        running = {name: folder.start(*arguments) for name, folder in folders.items()}
        vendor.wait_for_launches(ALL_AT_WORK)
        running["a"].send_signal(signal.SIGKILL)
        running["a"].communicate()
        died_s = calls_of(vendor)[-1][0]
        while calls_of(vendor)[-1][0] < died_s + 1 + LOOK_S:
            time.sleep(0.1)
        # By now the vendor's window is as full as it gets: who comes back starts none of its own.
        running["a"] = folders["a"].start(*arguments)
        done = {name: finish(process) for name, process in running.items()}

        calls, stats = calls_of(vendor), vendor.stats()
        assert stats["throttled"] == 0
        assert stats["max_in_window"][0] <= 600
        assert stats["max_in_window"][0] >= 450, "no window was ever full, so that nothing was shown"
        assert max(Counter(key for _, key in calls).values()) == 1
        for name, one in done.items():
            unknown = one.sends["unknown"]
            assert one.sends["accepted"] + unknown == ROWS
            assert unknown == 0 or name == "a"
            assert one.json["endpoints"]["insider.launch"]["max_in_window"] <= 600

        survivors = [at for at, key in calls if not key.startswith("a")]
        before = within(survivors, died_s - LOOK_S, died_s)
        after = within(survivors, died_s + 1, died_s + 1 + LOOK_S)
        # A quarter of the limit was the dead one's: of three quarters, the others come to the whole.
        assert after >= 1.1 * before, (before, after)


def job_of(path: Path, vendor: Vendor, name: str) -> JobFolder:
    (path / name).mkdir()
    folder = JobFolder(path / name, vendor, job=name, rows=1, extra=f'[limits]\n"insider.launch" = "{LIMIT}"\n')
    folder.edit(f'[create]\ntitle = "{name}"\nlanguage = "en_GB"\n', "")
    folder.edit("[launch]", f"[launch]\ncampaign_id = {CAMPAIGN}")
    folder.csv("stores.csv", "store_id,city", ((f"{name}{one:05}", "Oslo") for one in range(1, ROWS + 1)))
    return folder


def calls_of(vendor: Vendor) -> list[tuple[float, str]]:
    return [(one["at_s"], one["body"]["target"]["values"][0]) for one in vendor.effects("insider.launch")]


def within(times: Iterable[float], since_s: float, until_s: float) -> int:
    return sum(since_s < at <= until_s for at in times)
