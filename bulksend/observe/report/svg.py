"""What matplotlib writes, made fit to stand in a page: the page's colours, no addresses, no dates, nothing to load."""

from __future__ import annotations

import re

from bulksend.observe.report.words import esc

__all__ = ["COLOURS", "fit_in"]

COLOURS = {
    name: f"#0{number:x}0{number:x}d{number:x}"
    for number, name in enumerate(
        (
            *("ink", "grid", "calls", "limit", "told", "p50", "p99", "accepted", "rejected", "unknown"),
            *("p90", "max", "replies", "unsent", "dropped"),
        )
    )
} | {f"reason{number}": f"#0a{number}0e{number}" for number in range(6)}
"""Stand-ins, by the name of the CSS variable that each becomes."""

_HEAD = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_STYLE = re.compile(r"\s*<defs>\s*<style type=\"text/css\">.*?</style>\s*</defs>", re.DOTALL)
_OPENING = re.compile(r"<svg [^>]*?viewBox=\"([^\"]*)\"[^>]*>")
_GROUP = re.compile(r"<g id=\"[^\"]*\"")
_FONT = re.compile(r"font-family: [^;\"]*(?:; )?")
_TURN = re.compile(r" transform=\"rotate\(-?0 [^)]*\)\"")
_LONG = re.compile(r"(\d\.\d\d)\d+")
_LINES = re.compile(r"\s*\n\s*")


def fit_in(svg: str, label: str) -> str:
    """Return the drawing as an element of a page that follows the page's colours; `label` says what it shows."""
    svg = _METADATA.sub("", _HEAD.sub("", svg))
    svg = _STYLE.sub("", svg)
    svg = _OPENING.sub(
        rf'<svg viewBox="\1" role="img" aria-label="{_literal(label)}"><title>{_literal(label)}</title>', svg, count=1
    )
    svg = _GROUP.sub("<g", svg).replace("xlink:href=", "href=")
    svg = _LONG.sub(r"\1", _TURN.sub("", _FONT.sub("", svg)))
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return _LINES.sub(" ", svg.strip()).replace("> <", ">\n<")


def _literal(text: str) -> str:
    """Escape a text for HTML, and for a replacement of `re` too."""
    return esc(text).replace("\\", r"\\")
