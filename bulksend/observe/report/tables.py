"""Tables, and what can be opened to see the numbers behind a picture. Cells are HTML already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bulksend.observe.report.words import esc

__all__ = ["figure", "grid", "key", "legend", "numbers", "section", "table"]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "", texts: int = 1) -> str:
    """Return a table; its first `texts` columns are texts, the others numbers, to the right.

    Of the kind `wide`, each row becomes a list of its own on a narrow screen, so that cells name their column.
    """
    head = "".join(f'<th scope="col"{_class(at, texts)}>{esc(one)}' for at, one in enumerate(heads))
    names = [f' data-of="{esc(one)}"' if kind == "wide" else "" for one in heads]
    cells = ("<tr>" + "".join(f"<td{_class(at, texts)}{names[at]}>{one}" for at, one in enumerate(row)) for row in rows)
    body = "\n".join(cells)
    classes = f' class="{kind}"' if kind else ""
    return f'<div class="scroll"><table{classes}>\n<thead><tr>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _class(at: int, texts: int) -> str:
    return "" if at < texts else ' class="n"'


def numbers(heads: Sequence[str], rows: Iterable[Sequence[str]], *, note: str = "") -> str:
    """Return the numbers behind a picture, folded away."""
    said = f"<p class=note>{esc(note)}</p>" if note else ""
    return f"<details><summary>The numbers</summary>{said}{table(heads, rows, texts=1)}</details>"


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Return what the colours mean: name of the colour, words."""
    said = "".join(f'<li><i style="background:var(--{colour})"></i>{esc(words)}' for colour, words in entries)
    return f"<ul class=legend>{said}</ul>"


def figure(title: str, drawing: str, key_to: str, data: str, *, note: str = "") -> str:
    """Return a picture under its title, with its legend and its numbers."""
    said = f"<p class=note>{esc(note)}</p>" if note else ""
    return f"<figure><figcaption>{esc(title)}</figcaption>{key_to}\n{drawing}\n{said}{data}</figure>"


def grid(figures: Sequence[str]) -> str:
    """Return pictures side by side where there is room."""
    return f"<div class=grid>{''.join(figures)}</div>" if figures else ""


def section(name: str, title: str, *parts: str) -> str:
    """Return a part of the page; nothing where there is nothing in it."""
    inner = "\n".join(part for part in parts if part)
    return f'<section id="{name}"><h2>{esc(title)}</h2>\n{inner}\n</section>' if inner else ""


def key(text: str) -> str:
    """Return an escaped text as a key, set apart from the words around it."""
    return f"<code>{text}</code>"
