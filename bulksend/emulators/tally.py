"""What an emulator tells of its calls: the log of those that took effect, and the counts of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bulksend.emulators.window import Window

__all__ = ["Effect", "Tally", "sum_up"]


@dataclass(frozen=True, slots=True)
class Effect:
    """A call that changed something; `body` is the call's, or what the provider has logged in its place."""

    seq: int
    at_s: float
    endpoint: str
    account: str
    ref: int | str
    body: object


@dataclass(slots=True)
class Tally:
    """The counts of one account at one endpoint, and the window that they are held against."""

    window: Window | None
    calls: int = 0
    admitted: int = 0
    throttled: int = 0
    effects: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, object]:
        return {**sum_up([self]), "limit": self.window.limit.text if self.window else None}


def sum_up(tallies: Sequence[Tally]) -> dict[str, object]:
    """Add accounts up; `max_in_window` is that of the account that came nearest, rate by rate."""
    most = [tally.window.max_in_window for tally in tallies if tally.window]
    return {
        "calls": sum(tally.calls for tally in tallies),
        "admitted": sum(tally.admitted for tally in tallies),
        "throttled": sum(tally.throttled for tally in tallies),
        "effects": sum(tally.effects for tally in tallies),
        "faults": sum((tally.faults for tally in tallies), Counter[str]()),
        "rejected": sum((tally.rejected for tally in tallies), Counter[str]()),
        "max_in_window": [max(each) for each in zip(*most, strict=True)],
    }
