"""Numbers, times and other people's texts, as a page says them."""

from __future__ import annotations

import html
from datetime import datetime

from bulksend.duration import format_duration

__all__ = ["NONE", "at", "clipped", "esc", "ms", "number", "share", "span", "times"]

NONE = "\N{EN DASH}"
"""Stands where there is no number."""
TEXT_MOST = 300


def esc(text: object) -> str:
    """Return a text that can stand anywhere in HTML; what cannot be seen is written as `\\x07`."""
    said = "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in str(text))
    return html.escape(said, quote=True)


def clipped(text: object, most: int = TEXT_MOST) -> str:
    """Do the same with a text that may be long: its end is left out."""
    said = str(text)
    return esc(said if len(said) <= most else f"{said[:most]}…")


def number(value: float | None) -> str:
    """Write a number of things, or a dash."""
    return NONE if value is None else f"{value:,.0f}"


def times(value: float) -> str:
    """Write a rate: with a decimal where it is small."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:,.1f}"


def share(value: float | None) -> str:
    """Write a share of 1 as a percentage; what is not quite all is not written as all."""
    if value is None:
        return NONE
    return f"{min(value, 0.9999):.2%}" if 0.999 <= value < 1 else f"{value:.1%}"


def ms(value: float | None) -> str:
    """Write a latency."""
    if value is None:
        return NONE
    return f"{value / 1000:,.2f} s" if value >= 1000 else f"{value:,.3g} ms"


def span(seconds: float | None) -> str:
    """Write a duration, or a dash."""
    return NONE if seconds is None else format_duration(seconds)


def at(epoch_s: float | None) -> str:
    """Write a time as the machine that makes the report has it, with the offset."""
    return NONE if epoch_s is None else datetime.fromtimestamp(epoch_s).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
