"""Declared tables: the fields of a job file's table or a vendor's body, read one by one so that every fault is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from math import isfinite

from bulksend.duration import parse_duration

__all__ = [
    "Fault",
    "Field",
    "Fields",
    "Kind",
    "Zone",
    "did_you_mean",
    "json_schema",
    "read_table",
    "read_text",
    "unknown_fields",
]


class Kind(StrEnum):
    """What a field holds."""

    TEXT = "text"
    INTEGER = "a whole number"
    BOOLEAN = "true or false"
    DURATION = 'a duration such as "1 day"'
    DATETIME = 'a date and time such as "2026-04-01T06:00:00Z"'
    LIST = "a list"
    TABLE = "a table"
    AMOUNT = 'a whole number, or a share such as "10%"'
    ANY = "a value"


class Zone(StrEnum):
    """What a date and time without a zone means."""

    REQUIRED = "required"
    """Nothing: it is refused."""
    UTC = "utc"
    LOCAL = "local"
    """The receiver's own time; one with a zone is refused, and the value stays a text."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its kind and the rules that hold for it alone. `about` is the line that `schema` and `init` show.

    `choices` of a date and time are words that may stand in its place. `fields` are those of a table, or of each item
    of a list; `item` is what each item of a list of plain values is.
    """

    kind: Kind
    about: str = ""
    required: bool = False
    most_chars: int | None = None
    least_chars: int = 1
    least: int | None = None
    most: int | None = None
    https: bool = False
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    pattern_text: str = ""
    """What `pattern` asks for, in words."""
    check: Callable[[str], object] | None = None
    """Raises ValueError with a sentence when the text is wrong."""
    most_s: float | None = None
    least_s: float | None = None
    whole_s: bool = False
    fields: Mapping[str, Field] = field(default_factory=dict)
    item: Field | None = None
    most_items: int | None = None
    zone: Zone = Zone.REQUIRED
    refused: str = ""
    """Why it cannot be given, where a person would look for it."""
    fixed: bool = False
    """True where the value decides how the whole job is sent, so that it cannot differ from row to row."""


Fields = Mapping[str, Field]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one field; `path` is dotted, from the table on: `launch.target.values`."""

    path: str
    text: str
    late: bool = False
    """True where only time has made it wrong: it was right once."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean "x"?` for the nearest known name, or the names that there are."""
    import difflib

    names = list(known)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known here: {', '.join(names)}" if names else ""


def unknown_fields(fields: Fields, body: Mapping[str, object], path: str) -> list[Fault]:
    """Name every key that the table does not have, in its own tables too."""
    faults = []
    for name, value in body.items():
        known = fields.get(name)
        if known is None:
            faults.append(Fault(f"{path}.{name}", f"unknown field{did_you_mean(name, fields)}"))
        elif known.refused:
            faults.append(Fault(f"{path}.{name}", known.refused))
        elif known.fields and isinstance(value, Mapping):
            faults += unknown_fields(known.fields, value, f"{path}.{name}")
        elif known.fields and isinstance(value, list):
            for number, item in enumerate(value, 1):
                if isinstance(item, Mapping):
                    faults += unknown_fields(known.fields, item, f"{path}.{name}[{number}]")
    return faults


def read_table(
    fields: Fields,
    body: Mapping[str, object],
    path: str,
    *,
    loose: Collection[str] = (),
    only: Collection[str] | None = None,
) -> tuple[dict[str, object], list[Fault]]:
    """Read a table by its fields: the values in the field's own type, and every fault.

    A field named in `loose` came from a column or a variable, where a number or a boolean may stand as text, and a
    number where text is asked for. With `only`, just these fields are looked at; the others are passed on as they are.
    """
    values: dict[str, object] = dict(body)
    faults: list[Fault] = []
    for name in fields if only is None else only:
        spec = fields.get(name)
        if spec is None:
            continue
        if name not in body:
            if spec.required:
                faults.append(Fault(f"{path}.{name}", "is required"))
            continue
        value = body[name]
        if spec.kind is Kind.TABLE and spec.fields and isinstance(value, Mapping):
            values[name], inner = read_table(
                spec.fields, value, f"{path}.{name}", loose=spec.fields if name in loose else ()
            )
            faults += inner
            continue
        try:
            values[name] = _read(spec, value, loose=name in loose)
        except ValueError as wrong:
            faults.append(Fault(f"{path}.{name}", str(wrong)))
            continue
        if isinstance(items := values[name], list) and (spec.fields or spec.item):
            values[name], inner = _read_items(spec, items, f"{path}.{name}", loose=name in loose)
            faults += inner
    return values, faults


def _read_items(spec: Field, items: list[object], path: str, *, loose: bool) -> tuple[list[object], list[Fault]]:
    """Read each item of a list; they are counted from 1."""
    values: list[object] = []
    faults: list[Fault] = []
    for number, item in enumerate(items, 1):
        where = f"{path}[{number}]"
        if spec.fields and isinstance(item, Mapping):
            value, inner = read_table(spec.fields, item, where, loose=spec.fields if loose else ())
            values.append(value)
            faults += inner
            continue
        read: object = item
        try:
            read = _read(spec.item or Field(Kind.TABLE), item, loose=loose)
        except ValueError as wrong:
            faults.append(Fault(where, str(wrong)))
        values.append(read)
    return values, faults


def _read(spec: Field, value: object, *, loose: bool) -> object:
    match spec.kind:
        case Kind.TEXT:
            return read_text(spec, value, loose=loose)
        case Kind.INTEGER:
            return _read_integer(spec, value, loose=loose)
        case Kind.BOOLEAN:
            return _read_boolean(value, loose=loose)
        case Kind.DURATION:
            return _read_duration(spec, value)
        case Kind.AMOUNT:
            return read_text(spec, value, loose=True)
        case Kind.DATETIME:
            return _read_datetime(spec, value)
        case Kind.LIST:
            if not isinstance(value, list):
                raise ValueError(f"must be a list, not {_called(value)}")
            if not value:
                raise ValueError("must not be empty")
            if spec.most_items is not None and len(value) > spec.most_items:
                raise ValueError(f"has {len(value):,} items, at most {spec.most_items:,} are allowed")
            return value
        case Kind.TABLE:
            if not isinstance(value, Mapping):
                raise ValueError(f"must be a table, not {_called(value)}")
            return value
        case Kind.ANY:
            return value


def read_text(spec: Field, value: object, *, loose: bool) -> str:
    """Read a text by its field's own rules; raises ValueError with what is wrong."""
    if loose and isinstance(value, int | Decimal) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {_called(value)}")
    if not value.strip():
        raise ValueError("must not be blank")
    if spec.most_chars is not None and len(value) > spec.most_chars:
        raise ValueError(f"has {len(value)} characters, at most {spec.most_chars} are allowed")
    if len(value) < spec.least_chars:
        raise ValueError(f"has {len(value)} characters, at least {spec.least_chars} are needed")
    if spec.https and not re.match(r"https://[^\s/]", value):
        raise ValueError("must be an https:// address")
    if spec.choices and value not in spec.choices:
        raise ValueError(f"must be one of {', '.join(spec.choices)}")
    if spec.pattern is not None and not re.fullmatch(spec.pattern, value):
        raise ValueError(f"must be {spec.pattern_text}")
    if spec.check is not None:
        spec.check(value)
    return value


def _read_integer(spec: Field, value: object, *, loose: bool) -> int:
    if loose and isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,18}\s*", value):
        value = int(value)
    if loose and isinstance(value, float | Decimal) and isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, float | Decimal) and isfinite(value) and value != int(value):
        raise ValueError("must be a whole number, and has a fraction")
    if loose and isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+\s*", value):
        raise ValueError("is too large a number")
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, not {_called(value)}")
    if spec.least is not None and value < spec.least:
        raise ValueError(f"must be at least {spec.least}")
    if spec.most is not None and value > spec.most:
        raise ValueError(f"must be at most {spec.most:,}")
    return value


_TRUTH = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


def _read_boolean(value: object, *, loose: bool) -> bool:
    if loose and isinstance(value, str | int):
        value = _TRUTH.get(str(value).strip().lower(), value)
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {_called(value)}")
    return value


def _read_duration(spec: Field, value: object) -> float:
    if not isinstance(value, str):
        hint = f': for seconds write "{value} s"' if isinstance(value, int) and not isinstance(value, bool) else ""
        raise ValueError(f'must be a duration in words such as "1 day", not {_called(value)}{hint}')
    seconds = parse_duration(value)
    if spec.whole_s:
        if abs(seconds - round(seconds)) > 1e-6:
            raise ValueError("must be whole seconds")
        seconds = float(round(seconds))  # "4.1 min" is a hair off
    if spec.least_s is not None and seconds < spec.least_s:
        raise ValueError(f"must be at least {spec.least_s:g} s")
    if spec.most_s is not None and seconds > spec.most_s:
        hours = spec.most_s / 3600
        raise ValueError(f"is longer than {hours:g} hours" if hours <= 240 else f"is longer than {hours / 24:g} days")
    return seconds


def _read_datetime(spec: Field, value: object) -> float | str:
    """Return seconds since the epoch; a word of `choices`, or a receiver's local time, as text."""
    from datetime import UTC, datetime

    example = "2026-04-01T06:00:00" if spec.zone is Zone.LOCAL else "2026-04-01T06:00:00Z"
    if isinstance(value, str):
        if value in spec.choices:
            return value
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            words = "".join(f', nor "{word}"' for word in spec.choices)
            raise ValueError(f'is not a date and time such as "{example}"{words}') from None
    if not isinstance(value, datetime):
        raise ValueError(f'must be a date and time such as "{example}", not {_called(value)}')
    if spec.zone is Zone.LOCAL:
        if value.tzinfo is not None:
            raise ValueError(f'is each receiver\'s own time and has no zone: write it as "{example}"')
        return value.isoformat(timespec="seconds")
    if value.tzinfo is None and spec.zone is Zone.UTC:
        value = value.replace(tzinfo=UTC)
    if value.tzinfo is None:
        raise ValueError("has no time zone; end it with Z for UTC, or with an offset such as +02:00")
    seconds = value.timestamp()
    try:
        datetime.fromtimestamp(seconds, UTC)  # as it is written for a vendor
    except (OverflowError, ValueError):
        raise ValueError("is past what a date can be") from None
    return seconds


def _called(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    for kind, name in ((str, "text"), (int, "a number"), (float, "a number"), (Mapping, "a table"), (list, "a list")):
        if isinstance(value, kind):
            return name
    return "nothing" if value is None else type(value).__name__


_SCHEMA_TYPE: Mapping[Kind, Mapping[str, object]] = {
    Kind.TEXT: {"type": "string", "minLength": 1},
    Kind.INTEGER: {"type": "integer"},
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.DURATION: {"type": "string", "minLength": 1},
    Kind.AMOUNT: {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}]},
    Kind.DATETIME: {"type": "string", "format": "date-time"},
    Kind.LIST: {"type": "array", "minItems": 1},
    Kind.TABLE: {"type": "object"},
    Kind.ANY: {},
}


_TEMPLATED = (Kind.INTEGER, Kind.BOOLEAN, Kind.LIST, Kind.TABLE, Kind.DATETIME)
_TEMPLATE = {"type": "string", "pattern": r"^\$\{[^}]+\}$"}


def _schema_of(spec: Field) -> dict[str, object]:
    one: dict[str, object] = dict(_SCHEMA_TYPE[spec.kind])
    if spec.most_chars is not None:
        one["description"] = f"{spec.about} At most {spec.most_chars} characters once rendered.".strip()
    elif spec.about:
        one["description"] = spec.about
    one |= {name: value for name, value in (("minimum", spec.least), ("maximum", spec.most)) if value is not None}
    if spec.choices:
        one.pop("format", None)
    if spec.choices and spec.kind is Kind.TEXT:
        one["enum"] = list(spec.choices)
    if spec.kind is Kind.TABLE and spec.fields:
        one |= json_schema(spec.fields)
    elif spec.fields:
        one["items"] = json_schema(spec.fields)
    elif spec.item is not None:
        one["items"] = _schema_of(spec.item)
    if spec.most_items is not None:
        one["maxItems"] = spec.most_items
    if spec.kind in _TEMPLATED or "enum" in one:
        told = {"description": one.pop("description")} if "description" in one else {}
        return {"anyOf": [one, _TEMPLATE], **told}
    return one


def json_schema(fields: Fields) -> dict[str, object]:
    """Return the JSON Schema of a table; what is not plain text may also be written as a `${…}` text."""
    required = [name for name, spec in fields.items() if spec.required]
    return {
        "type": "object",
        "properties": {name: _schema_of(spec) for name, spec in fields.items() if not spec.refused},
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }
