"""What the calls of a load test come to: in all, and second by second."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bulksend.loadtest.latency import Histogram
from bulksend.loadtest.shot import Shot, outcome_name
from bulksend.observe.timeline import Timeline

__all__ = ["LATE_S", "Tally"]

LATE_S = 0.010
"""A call that left more than this after it was due is late: the generator's fault, or its connection's."""
SLOTS_MOST = 240
"""Points on the time axis: with more, two become one."""
_LISTED = ("planned", "sent", "late", "dropped", "unsent", "accepted", "rejected", "unknown", "throttled")
_HAPPENED = ("left", "replied", "told")


@dataclass(slots=True)
class _Slot:
    counts: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    latency: Histogram = field(default_factory=lambda: Histogram(2))

    def add(self, other: _Slot) -> None:
        self.counts += other.counts
        self.happened += other.happened
        self.in_flight = max(self.in_flight, other.in_flight)
        self.latency.merge(other.latency)


class Tally:
    """Counts calls; times are seconds after the start. `planned = sent + dropped + unsent`, and late ones were sent.

    Latency is counted from when a call was due to the end of its reply, or to when it was given up as lost: waiting
    that the vendor or the generator caused is in it. `wire` counts from when it left, as most tools do.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.latency = Histogram()
        self.wire = Histogram()
        self.last_due_s = 0.0
        self.last_done_s = 0.0
        self._slot_s = 1.0
        self._slots: list[_Slot] = []

    def planned(self, due_s: float, in_flight: int) -> None:
        """Count a call whose time has come."""
        slot = self._count("planned", due_s)
        slot.in_flight = max(slot.in_flight, in_flight)
        self.last_due_s = max(self.last_due_s, due_s)

    def dropped(self, due_s: float) -> None:
        """Count a call that was not made, since too many were under way."""
        self._count("dropped", due_s)

    def ended(self, shot: Shot, due_s: float, start_s: float = 0.0) -> None:
        """Count a call that has its outcome; the shot's own times are of a clock that showed `start_s` at the start."""
        self.last_done_s = max(self.last_done_s, shot.done_s - start_s)
        if shot.left_s is None:
            self._count("unsent", due_s)
            self._told(shot)
            return
        self._count("sent", due_s)
        if shot.left_s - start_s - due_s > LATE_S:
            self._count("late", due_s)
        outcome = outcome_name(shot.outcome)
        self._count(outcome, due_s)
        self._slot(shot.left_s - start_s).happened["left"] += 1
        replied = self._slot(shot.done_s - start_s)
        replied.happened["replied"] += 1
        replied.happened["told"] += outcome == "throttled"
        self._told(shot)
        took_s = shot.done_s - start_s - due_s
        self.latency.add(took_s)
        self._slot(due_s).latency.add(took_s)  # the slots may be others by now
        self.wire.add(shot.done_s - shot.left_s)

    def _told(self, shot: Shot) -> None:
        reason = getattr(shot.outcome, "reason", None)
        self.statuses[str(shot.status) if shot.status is not None else "no answer"] += 1
        if reason is not None and (reason in self.reasons or len(self.reasons) < 30):
            self.reasons[reason] += 1

    def _count(self, name: str, due_s: float) -> _Slot:
        self.counts[name] += 1
        slot = self._slot(due_s)
        slot.counts[name] += 1
        return slot

    def _slot(self, at_s: float) -> _Slot:
        number = max(0, int(at_s / self._slot_s))
        while number >= SLOTS_MOST:
            for index in range(0, len(self._slots) - 1, 2):
                self._slots[index].add(self._slots[index + 1])
            self._slots = self._slots[::2]
            self._slot_s *= 2
            number //= 2
        while len(self._slots) <= number:
            self._slots.append(_Slot())
        return self._slots[number]

    def timeline(self) -> Timeline:
        """Return the test over time."""
        slots = self._slots
        told: dict[str, Any] = {name: [slot.counts[name] for slot in slots] for name in _LISTED}
        told |= {name: [slot.happened[name] for slot in slots] for name in _HAPPENED}
        for name, percent in (("p50_ms", 50.0), ("p90_ms", 90.0), ("p99_ms", 99.0), ("max_ms", 100.0)):
            told[name] = [slot.latency.percentile_ms(percent) for slot in slots]
        return Timeline(
            slot_s=self._slot_s,
            in_flight=[slot.in_flight for slot in slots],
            due_until_s=self.last_due_s,
            until_s=self.last_done_s,
            **told,
        )
