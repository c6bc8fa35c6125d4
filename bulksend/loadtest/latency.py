"""The only door to hdrhistogram: latencies to three digits, from 10 µs to an hour, in constant memory."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

from bulksend.errors import JobError

__all__ = ["HOW_TO_INSTALL", "Histogram", "need_histograms"]

HOW_TO_INSTALL = "a load test needs hdrhistogram, which is not installed: pip install 'bulksend[loadtest]'"
UNIT_S = 10e-6
MOST_S = 3600.0
LISTED = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)


def need_histograms() -> ModuleType:
    """Import hdrhistogram; raises JobError with the command that installs it."""
    try:
        from hdrh import histogram  # type: ignore[import-untyped]
    except ImportError:
        raise JobError(HOW_TO_INSTALL) from None
    module: ModuleType = histogram
    return module


class Histogram:
    """Latencies of any number of calls; `digits` of precision."""

    __slots__ = ("_counts",)

    def __init__(self, digits: int = 3) -> None:
        self._counts: Any = need_histograms().HdrHistogram(1, round(MOST_S / UNIT_S), digits)

    def add(self, seconds: float) -> None:
        """Count one latency; what is longer than an hour counts as an hour."""
        self._counts.record_value(max(1, round(min(seconds, MOST_S) / UNIT_S)))

    def merge(self, other: Histogram) -> None:
        """Count the other's latencies too."""
        self._counts.add(other._counts)

    @property
    def count(self) -> int:
        """Return how many were counted."""
        return int(self._counts.get_total_count())

    def percentile_s(self, percent: float) -> float | None:
        """Return the latency that this percentage of the calls did not pass; None without calls."""
        return float(self._counts.get_value_at_percentile(percent)) * UNIT_S if self.count else None

    @property
    def mean_s(self) -> float | None:
        """Return the mean; None without calls."""
        return float(self._counts.get_mean_value()) * UNIT_S if self.count else None

    def percentile_ms(self, percent: float) -> float | None:
        """Return a percentile in milliseconds, rounded for reading."""
        seconds = self.percentile_s(percent)
        return None if seconds is None else round(seconds * 1000, 2)

    def summary_ms(self) -> dict[str, float | None]:
        """Return the percentiles that a summary tells, in milliseconds."""
        told = {f"p{percent:g}": self.percentile_ms(percent) for percent in (50.0, 90.0, 99.0, 99.9)}
        mean_s = self.mean_s
        return {**told, "max": self.percentile_ms(100.0), "mean": None if mean_s is None else round(mean_s * 1000, 2)}

    def curve_ms(self) -> list[tuple[float, float]]:
        """Return percentiles and their latencies, from 0 to 100, so close together that they can be drawn.

        Each halving of the rest is five steps, as far as there are calls to tell apart: never more than 150 points.
        """
        if not self.count:
            return []
        halvings = math.ceil(math.log2(self.count))
        steps = [100 * (1 - 0.5**number * (1 - part / 10)) for number in range(halvings) for part in range(5)]
        asked = sorted({*steps, *LISTED, 100.0})
        values = self._counts.get_percentile_to_value_dict(asked)
        return [(percent, round(values[percent] * UNIT_S * 1000, 2)) for percent in asked]

    def encoded(self) -> str:
        """Return the whole histogram in HdrHistogram's own portable form (V2, compressed, base 64); unit 10 µs."""
        return str(self._counts.encode().decode())
