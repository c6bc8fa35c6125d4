"""What makes a load test fail: `p99 > 500ms`, `429 > 0`, `late >= 1%`, `rate < 5900/min`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bulksend.duration import parse_duration
from bulksend.fields import did_you_mean
from bulksend.loadtest.profile import parse_rate

__all__ = ["COUNTS", "Figures", "Threshold", "Verdict"]

COUNTS = ("429", "accepted", "rejected", "unknown", "errors", "late", "dropped", "unsent", "sent", "planned")
"""Numbers of calls; `errors` are those rejected, unknown or unsent, and 429s are none of them."""
KNOWN = ("p50", "p90", "p99", "p99.9", "max", "mean", "rate", *COUNTS)
_EXPRESSION = re.compile(r"\s*([a-z0-9.]+)\s*(>=|<=|==|!=|>|<)\s*(\S.*?)\s*", re.IGNORECASE)
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {
        ">": operator.gt,
        ">=": operator.ge,
        "<": operator.lt,
        "<=": operator.le,
        "==": operator.eq,
        "!=": operator.ne,
    }
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What thresholds are held against. `latency_s` gives a percentile (0 to 100), None where nothing was measured."""

    counts: Mapping[str, int]
    rate_per_s: float
    latency_s: Callable[[float], float | None]
    mean_s: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One threshold after the test; `said` is the figure in the threshold's own unit."""

    text: str
    failed: bool
    said: str

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {"fail_if": self.text, "failed": self.failed, "was": self.said}


@dataclass(frozen=True, slots=True)
class Threshold:
    """One expression; the test fails where it is true, and where nothing was measured that could make it false."""

    text: str
    metric: str
    compare: str
    bound: float
    is_share: bool = False

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """Read the text form; raises ValueError with a sentence that says what is known."""
        found = _EXPRESSION.fullmatch(text)
        if found is None:
            raise ValueError(f'{text!r} is not a threshold such as "p99 > 500ms"; known here: {", ".join(KNOWN)}')
        metric, compare, value = found[1].lower(), found[2], found[3]
        if _percent(metric) is not None or metric == "mean":
            return cls(text.strip(), metric, compare, _duration_s(text, value))
        if metric == "rate":
            try:
                return cls(text.strip(), metric, compare, parse_rate(value))
            except ValueError as wrong:
                raise ValueError(f"{text!r}: {wrong}") from None
        if metric not in COUNTS:
            raise ValueError(f"{text!r}: there is no figure {metric}{_meant(metric)}")
        number = re.fullmatch(r"(\d+(?:[_,]\d{3})*(?:\.\d+)?)\s*(%?)", value)
        if number is None:
            raise ValueError(f'{text!r}: {metric} is a number of calls such as 10, or a share such as "1%"')
        amount = float(re.sub("[_,]", "", number[1]))
        return cls(text.strip(), metric, compare, amount / 100 if number[2] else amount, bool(number[2]))

    def judge(self, figures: Figures) -> Verdict:
        """Hold the threshold against the figures."""
        value, said = self._figure(figures)
        failed = value is None or _OPERATORS[self.compare](value, self.bound)
        return Verdict(self.text, failed, said)

    def _figure(self, figures: Figures) -> tuple[float | None, str]:
        percent = _percent(self.metric)
        if percent is not None or self.metric == "mean":
            seconds = figures.mean_s if percent is None else figures.latency_s(percent)
            return seconds, "no reply came" if seconds is None else f"{seconds * 1000:.1f} ms"
        if self.metric == "rate":
            return figures.rate_per_s, f"{figures.rate_per_s * 60:,.1f}/min"
        count = figures.counts[self.metric]
        if not self.is_share:
            return count, f"{count:,}"
        planned = figures.counts["planned"]
        if not planned:
            return None, "no call was due"
        return count / planned, f"{count / planned:.2%} of the planned calls"


def _percent(metric: str) -> float | None:
    """Read `p99.9` as 99.9, and `max` as 100; None for anything else."""
    if metric == "max":
        return 100.0
    found = re.fullmatch(r"p(\d{1,2}(?:\.\d{1,4})?|100)", metric)
    return None if found is None else float(found[1])


def _duration_s(text: str, value: str) -> float:
    try:
        return parse_duration(value)
    except ValueError as wrong:
        unit = f'; write the unit, such as "{value}ms"' if re.fullmatch(r"[\d.]+", value) else ""
        raise ValueError(f"{text!r}: {value} {'has no unit' if unit else wrong}{unit}") from None


def _meant(metric: str) -> str:
    near = did_you_mean(metric, KNOWN)
    return near if "known here" in near else f"{near} known here: {', '.join(KNOWN)}"
