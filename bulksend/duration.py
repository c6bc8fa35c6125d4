"""Durations in words: `"1 day"`, `"2h"`, `"1h 30m"`, `"90 seconds"`."""

from __future__ import annotations

import re

__all__ = ["format_duration", "parse_duration"]

MOST_S = 1000 * 365.25 * 86400
_UNIT_S = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}
_PART = re.compile(r"\s*(\d+(?:_\d+)*(?:\.\d+)?)\s*([a-zA-Z]+)\s*,?")


def parse_duration(text: str) -> float:
    """Return the seconds of a duration in words; every number needs a unit.

    Raises ValueError with a sentence for the user.
    """
    total_s, at = 0.0, 0
    stripped = text.strip()
    while at < len(stripped):
        part = _PART.match(stripped, at)
        if part is None:
            break
        unit_s = _UNIT_S.get(part[2].lower())
        if unit_s is None:
            raise ValueError(f"unknown unit {part[2]!r}: use seconds, minutes, hours, days or weeks")
        total_s += float(part[1]) * unit_s
        if total_s > MOST_S:
            raise ValueError("is longer than a thousand years")
        at = part.end()
    if at == 0 or at < len(stripped):
        hint = f'; write the unit, such as "{stripped} seconds"' if re.fullmatch(r"\d+(\.\d+)?", stripped) else ""
        raise ValueError(f'is not a duration such as "30 minutes" or "1h 30m"{hint}')
    return total_s


def format_duration(seconds: float) -> str:
    """Say a duration in at most two units, rounded for reading: `1 h 5 min`, `12.3 s`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next(index for index, (amount, _) in enumerate(parts) if amount)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount)
