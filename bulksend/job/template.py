"""`${column}` in the tables of a job file: compiled once, rendered per row."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from uuid import UUID

from bulksend.providers.base import SEGMENT

__all__ = ["Hole", "Template", "escape", "pieces_of", "placeholders", "substitute_vars", "unescape"]

_MARK = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
"""`$${` (a literal `${`), `${name}`, or an opening without an end."""

DOLLAR = "\ue000"
"""A `$` that a variable brought, until the text is done; a character of the private use area."""
_LIST = re.compile(r"\$\{[^}]*\[\]\s*\}")

Row = Sequence[object]
Render = Callable[[Row, list[str]], object]


def escape(text: str) -> str:
    """Write a text so that nothing in it, nor in it and what stands beside it, is taken for a placeholder."""
    return text.replace("$", DOLLAR)


def unescape(text: str) -> str:
    """Turn `$${` into `${`, and the dollars of variables into themselves, in a text that has no placeholder left."""
    return text.replace("$${", "${").replace(DOLLAR, "$")


def placeholders(text: str) -> list[str]:
    """Return the names inside `${…}`, in order; raises ValueError for one that does not end or has no name."""
    names = []
    for mark in _MARK.finditer(text):
        if mark[0] == "$${":
            continue
        if mark[1] is None or not mark[1].strip():
            raise ValueError("has a ${ without a name and a closing }; write $${ for a literal ${")
        names.append(mark[1].strip())
    return names


@dataclass(frozen=True, slots=True)
class Hole:
    """A place in a text where a column's value goes; `name` is as written, with the brackets of a list."""

    name: str


def pieces_of(text: str) -> list[str | Hole]:
    """Part a text that `placeholders` has nothing against into what stands in it, as it is to read, and its holes."""
    pieces: list[str | Hole] = []
    at = 0
    for mark in _MARK.finditer(text):
        pieces.append(text[at : mark.start()].replace(DOLLAR, "$"))
        pieces.append("${" if mark[0] == "$${" else Hole(mark[1].strip()))
        at = mark.end()
    pieces.append(text[at:].replace(DOLLAR, "$"))
    return [piece for piece in pieces if piece]


def substitute_vars(text: str, values: Mapping[str, str]) -> str:
    """Fill in every `${var.NAME}`, and a mark for `${segment.id}`; other placeholders stay.

    Raises ValueError for a variable without a value.
    """
    placeholders(text)

    def fill(mark: re.Match[str]) -> str:
        name = (mark[1] or "").strip()
        if name == "segment.id":
            return SEGMENT
        if not name.startswith("var."):
            return mark[0]
        if name[4:] not in values:
            raise ValueError(f"${{{name}}} has no value; give it with --var {name[4:]}=VALUE")
        return escape(values[name[4:]])

    return _MARK.sub(fill, text)


def _as_text(value: object) -> str | None:
    """Return what a value reads like inside a text; None where it has no such form."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | UUID):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    return value.isoformat() if isinstance(value, date | time) else None


def _as_json(value: object) -> object:
    """Return the value as JSON can hold it; its type stays where JSON has it."""
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, date | time | UUID):
        return _as_text(value)
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _as_json(item) for name, item in value.items()}
    return value


def is_blank(value: object) -> bool:
    """Say whether a cell holds nothing that can be sent: NULL, NaN, or text of white space only."""
    if isinstance(value, str):
        return not value or value.isspace()
    if isinstance(value, Decimal):
        return not value.is_finite()
    return value is None or (isinstance(value, float) and not math.isfinite(value))


class Template:
    """A table of the job file whose texts may name columns.

    `columns` are the names used, in the order that `render` takes their values; `dynamic` are the top-level fields that
    differ from row to row. With `chunked`, each value that `render` is given is the list of the column in the chunk,
    written `${column[]}`.
    """

    __slots__ = ("_render", "columns", "dynamic")

    def __init__(self, tree: Mapping[str, object], *, columns: Sequence[str] = (), chunked: bool = False) -> None:
        order = {name: index for index, name in enumerate(columns)}
        self.dynamic = frozenset(name for name, value in tree.items() if any(_names(value)))
        compiler = _Compiler(order, chunked=chunked)
        self._render = compiler.table(tree)
        self.columns = tuple(order)

    def render(self, row: Row) -> tuple[dict[str, object], list[str]]:
        """Return the table with the row's values, and the names of the columns that had none."""
        blanks: list[str] = []
        rendered = self._render(row, blanks)
        assert isinstance(rendered, dict)
        return rendered, blanks


def _names(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield from placeholders(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _names(item)
    elif isinstance(value, list):
        for item in value:
            yield from _names(item)


class _Compiler:
    """Turns values into functions of a row; new columns are given the next index in `order`."""

    def __init__(self, order: dict[str, int], *, chunked: bool) -> None:
        self._order = order
        self._chunked = chunked

    def _index(self, name: str) -> tuple[str, int]:
        column, is_list = (name[:-2].strip(), True) if name.endswith("[]") else (name, False)
        if is_list and not self._chunked:
            raise ValueError(f"${{{name}}} is the list of a chunk; set chunk in [audience], or write ${{{column}}}")
        if self._chunked and not is_list:
            raise ValueError(
                f"${{{name}}} is one row's value, but a send here is a chunk of rows; write ${{{column}[]}}"
            )
        return column, self._order.setdefault(column, len(self._order))

    def value(self, value: object) -> Render:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return self.table(value)
        if isinstance(value, list):
            if any(isinstance(item, str) and _LIST.fullmatch(item) for item in value):
                raise ValueError("a ${column[]} is a list by itself: write it without the brackets around it")
            items = [self.value(item) for item in value]
            return lambda row, blanks: [item(row, blanks) for item in items]
        return lambda _row, _blanks: value

    def table(self, tree: Mapping[str, object]) -> Render:
        constant = {name: unescape(item) if isinstance(item, str) else item for name, item in tree.items()}
        moving = [
            (name, self.value(item))
            for name, item in tree.items()
            if any(_names(item)) or isinstance(item, Mapping | list)
        ]

        def render(row: Row, blanks: list[str]) -> dict[str, object]:
            table = constant.copy()
            for name, item in moving:
                table[name] = item(row, blanks)
            return table

        return render

    def text(self, text: str) -> Render:
        names = placeholders(text)
        if not names:
            literal = unescape(text)
            return lambda _row, _blanks: literal
        if re.fullmatch(r"\$\{[^}]*\}", text):
            return self.whole(names[0])
        if any(name.endswith("[]") for name in names):
            raise ValueError("a ${column[]} is a list and must stand alone in its text")
        return self.mixed(text)

    def whole(self, name: str) -> Render:
        column, index = self._index(name)
        if self._chunked:

            def render_list(row: Row, blanks: list[str]) -> object:
                cells = row[index]
                assert isinstance(cells, list)
                if any(is_blank(cell) for cell in cells):
                    blanks.append(column)
                return [_as_json(cell) for cell in cells]

            return render_list

        def render(row: Row, blanks: list[str]) -> object:
            cell = row[index]
            if is_blank(cell):
                blanks.append(column)
                return ""
            return cell if type(cell) is str else _as_json(cell)

        return render

    def mixed(self, text: str) -> Render:
        pieces = [piece if isinstance(piece, str) else self._index(piece.name) for piece in pieces_of(text)]

        def render(row: Row, blanks: list[str]) -> str:
            said = []
            for piece in pieces:
                if isinstance(piece, str):
                    said.append(piece)
                    continue
                column, index = piece
                cell = row[index]
                as_text = None if is_blank(cell) else _as_text(cell)
                if as_text is None:
                    blanks.append(column)
                    continue
                said.append(as_text)
            return "".join(said)

        return render
