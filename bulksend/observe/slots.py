"""A run's time axis: slots that are as wide as they must be for there to be only so many of them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from bulksend.engine.stats import Latencies

__all__ = ["SLOTS_MOST", "Slot", "Slots"]

SLOTS_MOST = 240
"""Points on the time axis: with more, two become one."""


@dataclass(slots=True)
class Slot:
    """What happened within a slot; calls and latencies are by endpoint."""

    sends: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    throttled: Counter[str] = field(default_factory=Counter)
    latencies: dict[str, Latencies] = field(default_factory=dict)

    def add(self, other: Slot) -> None:
        """Take over what a later slot has."""
        self.sends += other.sends
        self.reasons += other.reasons
        self.calls += other.calls
        self.throttled += other.throttled
        for name, latencies in other.latencies.items():
            if name in self.latencies:
                self.latencies[name].merge(latencies)
            else:
                self.latencies[name] = latencies


class Slots:
    """The slots of a run that began at `began_at`, in seconds since the epoch."""

    def __init__(self, began_at: float) -> None:
        self.began_at = began_at
        self.width_s = 1.0
        self.all: list[Slot] = [Slot()]

    def at(self, now: float) -> tuple[Slot, float, float]:
        """Return the slot of a moment, when it begins and when it ends; slots become wider where they grow too many."""
        number = max(0, int((now - self.began_at) / self.width_s))
        while number >= SLOTS_MOST:
            for index in range(0, len(self.all) - 1, 2):
                self.all[index].add(self.all[index + 1])
            self.all = self.all[::2]
            self.width_s *= 2
            number //= 2
        while len(self.all) <= number:
            self.all.append(Slot())
        begins = self.began_at + number * self.width_s if number else -math.inf
        return self.all[number], begins, self.began_at + (number + 1) * self.width_s
