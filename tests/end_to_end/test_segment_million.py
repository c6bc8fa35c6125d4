"""A million targets against a million desired ids, in the memory that ten thousand take."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.segments import (
    ADD,
    DELETE,
    DESIRED,
    SEGMENT,
    TARGET,
    Stream,
    figures,
    measured,
    segment_job,
    tenth,
)

MORE_MOST_MB = 80
SMALL, BIG = 10_000, 1_000_000


@pytest.mark.timeout(240)
def test_a_million_by_a_million_is_exact_and_flat(tmp_path: Path) -> None:
    peaks = {}
    with Stream() as vendor:
        for size in (SMALL, BIG):
            segment = f"of-{size}"
            vendor.make(segment)
            remote, desired = tenth(size)
            vendor.put(remote, segment)
            filled = vendor.calls(ADD), vendor.calls(DELETE)
            text = TARGET.replace(SEGMENT, segment) + DESIRED
            folder = segment_job(tmp_path / segment, vendor, desired, text=text)
            done, peaks[size] = measured(folder, "run", "job.toml", "--json")
            assert done.code == 0, done.err
            assert figures(done) == [len(remote), len(desired), size // 20, size // 20]
            assert (len(remote), len(desired)) == (size, size)
            assert done.json["segment"]["left"] == done.json["segment"]["drift"] == 0
            assert vendor.targets(segment) == desired
            assert vendor.calls(ADD) - filled[0] == -(-size // 20 // 10_000)
            assert vendor.calls(DELETE) - filled[1] == size // 20 // 100
    assert peaks[BIG] - peaks[SMALL] <= MORE_MOST_MB, peaks
