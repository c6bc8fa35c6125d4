"""The texts with columns in a provider's table, each with its field's rules, judged for many rows at a time.

What is found here of a row is "fine" or "look closer"; what is wrong with it, the row's own rendering says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

from bulksend.fields import Field, Fields, Kind, read_text
from bulksend.job.template import Hole, pieces_of, placeholders

__all__ = ["Columns", "NotTextError", "Text", "texts_of"]

Columns = Sequence[Sequence[str]]
"""The cells of some rows, column by column; none is blank."""


class NotTextError(ValueError):
    """A column stands where more than a text is read from it, such as a number or a date."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text with columns, `pieces` being what stands in it and the columns' places in a row.

    Without a `spec` nothing is asked of it but that it is not blank.
    """

    path: str
    pieces: tuple[str | int, ...]
    spec: Field | None

    def doubtful(self, columns: Columns) -> set[int]:
        """Return the rows for which the text may break a rule."""
        if self.spec is None:
            return set()
        if self._is_read(self.spec):
            parts = (repeat(piece) if isinstance(piece, str) else columns[piece] for piece in self.pieces)
            texts = list(map("".join, zip(*parts)))  # noqa: B905 - `repeat` has no end
            wrong = {text for text in set(texts) if not _is_fit(self.spec, text)}
            return {row for row, text in enumerate(texts) if text in wrong} if wrong else set()
        return self._of_wrong_length(self.spec, columns)

    def _is_read(self, spec: Field) -> bool:
        """Say whether more than the length counts."""
        begun = self.pieces[0]
        proven = isinstance(begun, str) and spec.https and read_https(begun)
        return bool(spec.choices or spec.pattern or spec.check or (spec.https and not proven))

    def _of_wrong_length(self, spec: Field, columns: Columns) -> set[int]:
        given = sum(len(piece) for piece in self.pieces if isinstance(piece, str))
        holes = [columns[piece] for piece in self.pieces if isinstance(piece, int)]
        least, most = spec.least_chars - given, None if spec.most_chars is None else spec.most_chars - given
        enough = least <= len(holes) or sum(min(map(len, cells)) for cells in holes) >= least
        if enough and (most is None or sum(max(map(len, cells)) for cells in holes) <= most):
            return set()
        lengths = (sum(map(len, cells)) for cells in zip(*holes, strict=True))
        return {row for row, length in enumerate(lengths) if length < least or (most is not None and length > most)}


def read_https(begun: str) -> bool:
    """Say whether whatever begins so is an https address."""
    return re.match(r"https://[^\s/]", begun) is not None


def _is_fit(spec: Field, text: str) -> bool:
    try:
        read_text(spec, text, loose=True)
    except ValueError:
        return False
    return True


def texts_of(
    fields: Fields, table: Mapping[str, object], path: str, *, order: Mapping[str, int], bounds: Mapping[str, int]
) -> list[Text]:
    """Return the texts with columns; `order` gives each column's place in a row.

    `bounds` are the most characters for a field at the top that are sure to be fine for more than the field's own
    rules. Raises NotTextError.
    """
    texts = list(_texts(Field(Kind.TABLE, fields=fields), table, path, order))
    for index, text in enumerate(texts):
        top = text.path.removeprefix(f"{path}.")
        name = re.split(r"[.\[]", top)[0]
        if name not in bounds:
            continue
        if name != top or text.spec is None or not bounds[name]:
            raise NotTextError
        most = text.spec.most_chars
        narrow = replace(text.spec, most_chars=bounds[name] if most is None else min(most, bounds[name]))
        texts[index] = replace(text, spec=narrow)
    return texts


def _texts(spec: Field | None, value: object, path: str, order: Mapping[str, int]) -> Iterator[Text]:
    """Walk as `read_table` does; where a table or list has no fields, whatever is in it is free of rules."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(_field_of(spec, name), item, f"{path}.{name}", order)
    elif isinstance(value, list):
        for number, item in enumerate(value, 1):
            yield from _texts(_item_of(spec), item, f"{path}[{number}]", order)
    elif isinstance(value, str) and placeholders(value):
        if spec is not None and spec.kind not in (Kind.TEXT, Kind.ANY):
            raise NotTextError
        pieces = tuple(order[piece.name] if isinstance(piece, Hole) else piece for piece in pieces_of(value))
        yield Text(path, pieces, None if spec is None or spec.kind is Kind.ANY else spec)


_UNKNOWN = Field(Kind.BOOLEAN)
"""For what no rule is known of: no text may stand in it."""


def _field_of(spec: Field | None, name: str) -> Field | None:
    if spec is None or spec.kind is Kind.ANY:
        return None
    if spec.kind is not Kind.TABLE:
        return _UNKNOWN
    return spec.fields.get(name, _UNKNOWN) if spec.fields else None


def _item_of(spec: Field | None) -> Field | None:
    if spec is None or spec.kind is Kind.ANY:
        return None
    if spec.kind is not Kind.LIST:
        return _UNKNOWN
    return Field(Kind.TABLE, fields=spec.fields) if spec.fields else spec.item
