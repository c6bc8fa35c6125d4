"""Declared tables: each field's rules, and that every fault is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.fields import Fault, Field, Kind, did_you_mean, json_schema, read_table, unknown_fields


def no_x(text: str) -> None:
    if "x" in text:
        raise ValueError("must not hold an x")


def one(spec: Field, value: object, *, loose: bool = False) -> object:
    """Read one field; a fault comes back as its text in a list."""
    values, faults = read_table({"f": spec}, {"f": value}, "t", loose=["f"] if loose else ())
    assert all(fault.path == "t.f" for fault in faults)
    return [fault.text for fault in faults] if faults else values["f"]


TEXT = Field(Kind.TEXT)
INTEGER = Field(Kind.INTEGER, least=1)
BOOLEAN = Field(Kind.BOOLEAN)
DURATION = Field(Kind.DURATION, least_s=1, most_s=864_000)
DATETIME = Field(Kind.DATETIME)
NOON = datetime(2026, 4, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spec", "value", "read"),
    [
        (TEXT, "x", "x"),
        (TEXT, " x ", " x "),
        (Field(Kind.TEXT, most_chars=3), "春春春", "春春春"),
        (Field(Kind.TEXT, https=True), "https://example.com/a", "https://example.com/a"),
        (Field(Kind.TEXT, choices=("a", "b")), "b", "b"),
        (Field(Kind.TEXT, pattern="[a-z]{2}"), "ab", "ab"),
        (Field(Kind.TEXT, check=no_x), "abc", "abc"),
        (INTEGER, 7, 7),
        (BOOLEAN, False, False),
        (DURATION, "1 day", 86_400.0),
        (DURATION, "240h", 864_000.0),
        (DATETIME, "2026-04-01T12:00:00Z", NOON.timestamp()),
        (DATETIME, "2026-04-01T14:00:00+02:00", NOON.timestamp()),
        (DATETIME, NOON, NOON.timestamp()),
        (DATETIME, NOON.astimezone(timezone(timedelta(hours=5))), NOON.timestamp()),
        (Field(Kind.LIST), [1], [1]),
        (Field(Kind.TABLE), {"any": 1}, {"any": 1}),
        (Field(Kind.ANY), None, None),
    ],
)
def test_what_fits_is_read_in_the_fields_own_type(spec: Field, value: object, read: object) -> None:
    found = one(spec, value)
    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize(
    ("spec", "value", "text"),
    [
        (TEXT, 7, "must be text, not a number"),
        (TEXT, True, "must be text, not true or false"),
        (TEXT, ["x"], "must be text, not a list"),
        (TEXT, {"x": 1}, "must be text, not a table"),
        (TEXT, None, "must be text, not nothing"),
        (TEXT, "", "must not be blank"),
        (TEXT, " \t\u00a0", "must not be blank"),
        (Field(Kind.TEXT, most_chars=3), "abcd", "has 4 characters, at most 3 are allowed"),
        (Field(Kind.TEXT, https=True), "http://example.com", "must be an https:// address"),
        (Field(Kind.TEXT, https=True), "https://", "must be an https:// address"),
        (Field(Kind.TEXT, https=True), "https:///path", "must be an https:// address"),
        (Field(Kind.TEXT, https=True), " https://example.com", "must be an https:// address"),
        (Field(Kind.TEXT, choices=("a", "b")), "c", "must be one of a, b"),
        (Field(Kind.TEXT, pattern="[a-z]{2}", pattern_text="two letters"), "abc", "must be two letters"),
        (Field(Kind.TEXT, pattern="[a-z]{2}", pattern_text="two letters"), "ab\n", "must be two letters"),
        (Field(Kind.TEXT, check=no_x), "x", "must not hold an x"),
        (INTEGER, "7", "must be a whole number, not text"),
        (INTEGER, 7.0, "must be a whole number, not a number"),
        (INTEGER, True, "must be a whole number, not true or false"),
        (INTEGER, 0, "must be at least 1"),
        (BOOLEAN, "true", "must be true or false, not text"),
        (BOOLEAN, 1, "must be true or false, not a number"),
        (DURATION, 3600, 'must be a duration in words such as "1 day", not a number'),
        (DURATION, "0s", "must be at least 1 s"),
        (DURATION, "241 hours", "is longer than 240 hours"),
        (DURATION, "soon", 'is not a duration such as "30 minutes" or "1h 30m"'),
        (DATETIME, "yesterday", 'is not a date and time such as "2026-04-01T06:00:00Z"'),
        (DATETIME, 7, 'must be a date and time such as "2026-04-01T06:00:00Z", not a number'),
        (DATETIME, "2026-04-01T12:00:00", "has no time zone; end it with Z for UTC, or with an offset such as +02:00"),
        (Field(Kind.LIST), "x", "must be a list, not text"),
        (Field(Kind.LIST), [], "must not be empty"),
        (Field(Kind.TABLE), [1], "must be a table, not a list"),
    ],
)
def test_what_does_not_fit_is_said(spec: Field, value: object, text: str) -> None:
    assert one(spec, value) == [text]


@pytest.mark.parametrize(
    ("spec", "value", "read"),
    [
        (TEXT, 7, "7"),
        (TEXT, Decimal("1.50"), "1.50"),
        (TEXT, True, ["must be text, not true or false"]),
        (INTEGER, "7", 7),
        (INTEGER, " +07 ", 7),
        (INTEGER, 7.0, 7),
        (INTEGER, Decimal("7.00"), 7),
        (INTEGER, "-7", ["must be at least 1"]),
        (INTEGER, "7.5", ["must be a whole number, not text"]),
        (INTEGER, "seven", ["must be a whole number, not text"]),
        (INTEGER, 7.5, ["must be a whole number, not a number"]),
        (INTEGER, "9" * 30, ["must be a whole number, not text"]),
        *[(BOOLEAN, text, True) for text in ("true", "TRUE", " yes ", "1", 1)],
        *[(BOOLEAN, text, False) for text in ("false", "No", "0", 0)],
        (BOOLEAN, "maybe", ["must be true or false, not text"]),
        (BOOLEAN, 2, ["must be true or false, not a number"]),
    ],
)
def test_what_a_column_holds_is_converted(spec: Field, value: object, read: object) -> None:
    found = one(spec, value, loose=True)
    assert found == read
    assert type(found) is type(read)


FIELDS = {
    "title": Field(Kind.TEXT, "The title.", required=True, most_chars=5),
    "count": Field(Kind.INTEGER, least=1),
    "target": Field(
        Kind.TABLE,
        fields={"attribute": Field(Kind.TEXT, required=True), "values": Field(Kind.LIST, required=True)},
    ),
}


def test_every_fault_is_told_in_the_order_of_the_fields() -> None:
    body = {"count": 0, "target": {"values": []}}
    values, faults = read_table(FIELDS, body, "launch")
    assert faults == [
        Fault("launch.title", "is required"),
        Fault("launch.count", "must be at least 1"),
        Fault("launch.target.attribute", "is required"),
        Fault("launch.target.values", "must not be empty"),
    ]
    assert body == {"count": 0, "target": {"values": []}}
    assert values["count"] == 0


def test_only_some_fields() -> None:
    values, faults = read_table(FIELDS, {"count": "7", "other": 1}, "launch", loose=["count"], only=["count", "other"])
    assert (values, faults) == ({"count": 7, "other": 1}, [])


def test_an_inner_table_of_a_loose_one_is_loose() -> None:
    values, faults = read_table(
        FIELDS, {"title": "t", "target": {"attribute": 7, "values": [1]}}, "x", loose=["target"]
    )
    assert faults == []
    assert values["target"] == {"attribute": "7", "values": [1]}


def test_unknown_fields_are_named_with_what_may_be_meant() -> None:
    found = unknown_fields(FIELDS, {"titel": 1, "target": {"value": 1}, "zzz": 2, "title": 3}, "launch")
    assert found == [
        Fault("launch.titel", "unknown field; did you mean title?"),
        Fault("launch.target.value", "unknown field; did you mean values?"),
        Fault("launch.zzz", "unknown field; known here: title, count, target"),
    ]


def test_did_you_mean() -> None:
    assert did_you_mean("Lanuch", ["create", "launch"]) == "; did you mean launch?"
    assert did_you_mean("x", []) == ""


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    body=st.fixed_dictionaries({}, optional=dict.fromkeys(("title", "count", "target", "on", "for", "at"), anything)),
    loose=st.booleans(),
)
def test_any_table_is_read_or_its_faults_are_told(body: dict[str, object], loose: bool) -> None:
    fields = {**FIELDS, "on": BOOLEAN, "for": DURATION, "at": DATETIME}
    values, faults = read_table(fields, body, "t", loose=fields if loose else ())
    wrong = {fault.path.split(".")[1] for fault in faults}
    for name, kind in (("title", str), ("count", int), ("on", bool), ("for", float), ("at", float), ("target", dict)):
        if name in body and name not in wrong:
            assert isinstance(values[name], kind)
    assert ("title" in wrong) or "title" in body


def test_json_schema() -> None:
    schema = json_schema(FIELDS)
    assert (schema["type"], schema["additionalProperties"], schema["required"]) == ("object", False, ["title"])
    properties = schema["properties"]
    assert isinstance(properties, dict)
    assert properties["title"] == {
        "type": "string",
        "minLength": 1,
        "description": "The title. At most 5 characters once rendered.",
    }
    template = {"type": "string", "pattern": r"^\$\{[^}]+\}$"}
    assert properties["count"] == {"anyOf": [{"type": "integer", "minimum": 1}, template]}
    inner, also = properties["target"]["anyOf"]
    assert also == template
    assert inner["required"] == ["attribute", "values"]
