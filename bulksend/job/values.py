"""What DuckDB gives, made into rows of Python values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

__all__ = ["NotAnObjectError", "from_objects", "with_utc"]

Row = tuple[object, ...]

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class NotAnObjectError(ValueError):
    """A line is not one JSON object; `offset` is its place in the batch, from 0."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        super().__init__("is not a JSON object")


def from_objects(found: list[Row], columns: Sequence[str]) -> list[Row]:
    """Decode JSON objects, each value with its own type (integers of any size); a name that one lacks is None."""
    rows: list[Row] = []
    for (text,) in found:
        try:
            get = _decode(text).get  # type: ignore[arg-type]
        except (msgspec.DecodeError, RecursionError):
            raise NotAnObjectError(len(rows)) from None
        rows.append(tuple([get(name) for name in columns]))
    return rows


def with_utc(found: list[Row], columns: Sequence[str], instants: Collection[str]) -> list[Row]:
    """Give the values of the columns in `instants` the time zone that they are read in."""
    flags = [name in instants for name in columns]
    return [
        tuple(
            value.replace(tzinfo=UTC) if flag and isinstance(value, datetime) else value
            for value, flag in zip(row, flags, strict=True)
        )
        for row in found
    ]
