"""What every page begins with: a title, how it ended, a bar of outcomes, and figures that are seen first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bulksend.observe.report.words import clipped, esc, number

__all__ = ["Tile", "bar", "opening", "tiles"]


class Tile(NamedTuple):
    """One figure; `tint` is the class that colours its edge."""

    name: str
    value: str
    note: str
    tint: str = ""


def opening(title: str, state: str, words: str) -> str:
    """Return the title, and how it ended as a word that stands out; `state` decides its colour."""
    return f'<h1>{clipped(title)}</h1><p class="state {esc(state)}">{esc(words)}</p>'


def tiles(shown: Sequence[Tile]) -> str:
    """Return figures side by side."""
    said = "".join(
        f'<div class="tile {one.tint}"><b>{esc(one.value)}</b><span>{esc(one.name)}</span>'
        f"<small>{esc(one.note)}</small></div>"
        for one in shown
    )
    return f"<div class=tiles>{said}</div>"


def bar(counts: Sequence[tuple[str, str, int]]) -> str:
    """Return numbers, each with its name and colour, as one bar; every one that there is can be seen."""
    said = ", ".join(f"{number(count)} {name}" for name, _, count in counts)
    parts = "".join(
        f'<i style="flex:{count} 0 3px;background:var(--{colour})"></i>' for _, colour, count in counts if count
    )
    return f'<div class=bar role="img" aria-label="{esc(said)}">{parts}</div>' if parts else ""
