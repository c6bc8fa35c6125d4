"""The time axis: how many slots become one step of a plot, and what a step amounts to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Axis", "axis_of", "unit_of"]

STEPS_MOST = 120
CALLS_PER_STEP = 20
"""A step is wide enough for so many: with fewer, a rate would show how slots happen to fall."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Steps of a plot: `edges_s`, from the run's beginning, is one longer than the number of steps."""

    edges_s: tuple[float, ...]
    slots: tuple[range, ...]

    def rates_per_min(self, counts: Sequence[int]) -> list[float]:
        """Return what the counts of the slots are a minute, by step."""
        widths = zip(self.edges_s, self.edges_s[1:], strict=False)
        return [60 * total / (end - start) for total, (start, end) in zip(self.totals(counts), widths, strict=True)]

    def totals(self, counts: Sequence[int]) -> list[int]:
        """Return the counts by step."""
        return [sum(counts[index] for index in slots) for slots in self.slots]

    @property
    def step_s(self) -> float:
        """Return how wide a step is; the last one may be a little more or less."""
        return self.edges_s[1] - self.edges_s[0]


def axis_of(slots: int, slot_s: float, covered_s: float, rate_per_s: float) -> Axis:
    """Return the finest axis on which a rate of `rate_per_s` is smooth; the last, cut-off slot keeps its own width.

    Of the last step at least half was lived through: a shorter one belongs to the step before it.
    """
    wanted = CALLS_PER_STEP / rate_per_s / slot_s if rate_per_s > 0 else 1.0
    wide = max(1, math.ceil(wanted - 1e-9), -(-slots // STEPS_MOST))
    starts = list(range(0, slots, wide)) or [0]
    end_s = max(covered_s, slot_s / 100)
    if len(starts) > 1 and end_s - starts[-1] * slot_s < wide * slot_s / 2:
        starts.pop()
    edges = [start * slot_s for start in starts]
    ranges = [range(start, end) for start, end in zip(starts, [*starts[1:], slots], strict=True)]
    return Axis((*edges, max(end_s, edges[-1] + slot_s / 100)), tuple(ranges))


def unit_of(covered_s: float) -> tuple[float, str]:
    """Return in which unit a time axis is labelled."""
    if covered_s < 180:
        return 1.0, "seconds"
    return (60.0, "minutes") if covered_s < 3 * 3600 else (3600.0, "hours")
