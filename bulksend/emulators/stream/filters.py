"""The vendor's query language: `{"field": {"$operator": value}}`, with $and and $or."""

from __future__ import annotations

import operator as python
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from bulksend.emulators.stream.answers import RefusedError
from bulksend.emulators.stream.moments import read_moment

__all__ = ["RANGE", "Field", "as_any", "as_flag", "as_moment", "as_text", "build_filter"]

T = TypeVar("T")
Test = Callable[[object], bool]

RANGE: Final = frozenset({"$eq", "$exists", "$gt", "$gte", "$in", "$lt", "$lte"})


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """What a filter may ask of a field: its operators, how an operand is read, and the field's value.

    `rank` is what strings are compared by where that is not their code points.
    """

    operators: frozenset[str]
    read: Callable[[str, object], object]
    get: Callable[[T], object]
    rank: Callable[[str], Any] | None = None


def build_filter(given: object, find: Callable[[str], Field[T] | None]) -> Callable[[T], bool]:
    """Return what tells whether a thing passes. `find` knows the fields that there are.

    UNCONFIRMED: an unknown field or operator is answered 400.
    """
    if not isinstance(given, dict):
        raise RefusedError("filter must be an object")
    tests = [_build_entry(key, value, find) for key, value in given.items()]
    return lambda thing: all(test(thing) for test in tests)


def _build_entry(key: str, value: object, find: Callable[[str], Field[T] | None]) -> Callable[[T], bool]:
    if key in ("$and", "$or", "$nor"):
        if not isinstance(value, list) or not value:
            raise RefusedError(f"{key} must be an array of filters")
        parts = [build_filter(each, find) for each in value]
        if key == "$and":
            return lambda thing: all(part(thing) for part in parts)
        wanted = key == "$or"
        return lambda thing: any(part(thing) for part in parts) is wanted
    field = find(key)
    if field is None:
        raise RefusedError(f'filter on field "{key}" is not supported')
    asked = value if isinstance(value, dict) else {"$eq": value}
    tests = [_build_test(key, operator, operand, field) for operator, operand in asked.items()]

    def passes(thing: T) -> bool:
        got = field.get(thing)
        return all(test(got) for test in tests)

    return passes


def _build_test(key: str, operator: str, operand: object, field: Field[T]) -> Test:
    if operator not in field.operators or operator not in _TESTS:
        raise RefusedError(f'operator {operator} is not supported for field "{key}"')
    if operator == "$exists":
        if not isinstance(operand, bool):
            raise RefusedError(f"{key}: $exists takes a boolean")
        return lambda got: (got is not None) is operand
    if operator in ("$in", "$nin"):
        if not isinstance(operand, list):
            raise RefusedError(f"{key}: {operator} takes an array")
        return _TESTS[operator]([field.read(key, each) for each in operand])
    read = field.read(key, operand)
    if field.rank is not None and operator in _COMPARISONS and isinstance(read, str):
        return _build_comparison(operator, read, field.rank)
    return _TESTS[operator](read)


def _build_comparison(operator: str, operand: str, rank: Callable[[str], Any]) -> Test:
    holds, bound = _COMPARISONS[operator], rank(operand)
    return lambda got: isinstance(got, str) and holds(rank(got), bound)


def _equal(operand: object) -> Test:
    return lambda got: got == operand or (isinstance(got, tuple) and operand in got)


def _among(operand: object) -> Test:
    choices = operand if isinstance(operand, list) else []
    strings = frozenset(each for each in choices if isinstance(each, str))  # quick for thousands of ids

    def is_in(got: object) -> bool:
        return got in strings if isinstance(got, str) else got in choices

    return lambda got: any(map(is_in, got)) if isinstance(got, tuple) else is_in(got)


def _no(build: Callable[[object], Test]) -> Callable[[object], Test]:
    def build_opposite(operand: object) -> Test:
        test = build(operand)
        return lambda got: not test(got)

    return build_opposite


def _less(left: object, right: object) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left < right  # by code point, where the field has no rank; UNCONFIRMED: the vendor's collation
    return isinstance(left, int | float) and isinstance(right, int | float) and left < right


_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = MappingProxyType(
    {"$gt": python.gt, "$gte": python.ge, "$lt": python.lt, "$lte": python.le}
)
_TESTS: Final[Mapping[str, Callable[[object], Test]]] = MappingProxyType(
    {
        "$eq": _equal,
        "$ne": _no(_equal),
        "$in": _among,
        "$nin": _no(_among),
        "$gt": lambda operand: lambda got: _less(operand, got),
        "$gte": lambda operand: lambda got: got == operand or _less(operand, got),
        "$lt": lambda operand: lambda got: _less(got, operand),
        "$lte": lambda operand: lambda got: got == operand or _less(got, operand),
        "$contains": lambda operand: lambda got: isinstance(got, tuple) and operand in got,
        "$autocomplete": lambda operand: lambda got: isinstance(got, str) and got.startswith(str(operand)),
        "$exists": lambda operand: lambda got: (got is not None) is operand,
    }
)


def as_text(key: str, operand: object) -> object:
    """Read an operand that must be a string."""
    if not isinstance(operand, str):
        raise RefusedError(f"{key} is compared with strings")
    return operand


def as_flag(key: str, operand: object) -> object:
    """Read an operand that must be true or false."""
    if not isinstance(operand, bool):
        raise RefusedError(f"{key} is compared with booleans")
    return operand


def as_moment(key: str, operand: object) -> object:
    """Read an operand that must be a date-time."""
    moment = read_moment(operand) if isinstance(operand, str) else None
    if moment is None:
        raise RefusedError(f"{key} is compared with RFC 3339 date-times")
    return moment


def as_any(_key: str, operand: object) -> object:
    """Read an operand of a field whose type is the customer's; an array becomes a tuple, as the values are."""
    return tuple(operand) if isinstance(operand, list) else operand
