"""Declared tables: each field's rules, and that every fault is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bulksend.fields import Fault, Field, Kind, Zone, did_you_mean, json_schema, read_table, unknown_fields


def no_x(text: str) -> None:
    if "x" in text:
        raise ValueError("must not hold an x")


NOT_WHOLE = "must be a whole number, not text"


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
        (DURATION, 3600, 'must be a duration in words such as "1 day", not a number: for seconds write "3600 s"'),
        (DURATION, True, 'must be a duration in words such as "1 day", not true or false'),
        (Field(Kind.DURATION, whole_s=True), "1.5 s", "must be whole seconds"),
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
        (INTEGER, 7.5, ["must be a whole number, and has a fraction"]),
        (INTEGER, "9" * 30, ["is too large a number"]),
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


# Lists, and tables within them

IDS = Field(Kind.LIST, item=Field(Kind.TEXT, most_chars=3), most_items=3)
COUNTS = Field(Kind.LIST, item=Field(Kind.INTEGER, least=0, most=9))
PEOPLE = Field(
    Kind.LIST,
    fields={
        "name": Field(Kind.TEXT, required=True),
        "age": Field(Kind.INTEGER),
        "tags": Field(Kind.LIST, item=Field(Kind.TEXT)),
        "home": Field(Kind.TABLE, fields={"city": Field(Kind.TEXT, required=True), "own": Field(Kind.BOOLEAN)}),
    },
)


def read_list(spec: Field, value: object, *, loose: bool = False) -> tuple[object, dict[str, str]]:
    values, faults = read_table({"f": spec}, {"f": value}, "t", loose=["f"] if loose else ())
    return values["f"], {fault.path: fault.text for fault in faults}


@pytest.mark.parametrize(
    ("spec", "value", "faults"),
    [
        (IDS, ["a", "bcd", "e"], {}),
        (IDS, ["a"] * 4, {"t.f": "has 4 items, at most 3 are allowed"}),
        (IDS, [], {"t.f": "must not be empty"}),
        (IDS, "abc", {"t.f": "must be a list, not text"}),
        (
            IDS,
            ["abcd", 7, ""],
            {
                "t.f[1]": "has 4 characters, at most 3 are allowed",
                "t.f[2]": "must be text, not a number",
                "t.f[3]": "must not be blank",
            },
        ),
        (IDS, [["a"]], {"t.f[1]": "must be text, not a list"}),
        (Field(Kind.LIST, most_items=2), [1, None], {}),
        (Field(Kind.LIST, most_items=12_345), [1] * 12_346, {"t.f": "has 12,346 items, at most 12,345 are allowed"}),
        (COUNTS, [0, 9], {}),
        (COUNTS, [-1, 10, "3"], {"t.f[1]": "must be at least 0", "t.f[2]": "must be at most 9", "t.f[3]": NOT_WHOLE}),
        (PEOPLE, [{"name": "a", "age": 1, "tags": ["x"], "home": {"city": "c", "own": True}}], {}),
        (PEOPLE, [{"name": "a"}, {}], {"t.f[2].name": "is required"}),
        (PEOPLE, ["a", None], {"t.f[1]": "must be a table, not text", "t.f[2]": "must be a table, not nothing"}),
        (
            PEOPLE,
            [{"name": "a"}, {"name": "b", "tags": ["x", 7], "home": {"own": 1}}],
            {
                "t.f[2].tags[2]": "must be text, not a number",
                "t.f[2].home.city": "is required",
                "t.f[2].home.own": "must be true or false, not a number",
            },
        ),
    ],
)
def test_each_item_of_a_list_is_read_and_counted_from_one(spec: Field, value: object, faults: dict[str, str]) -> None:
    before = repr(value)
    found, told = read_list(spec, value)
    assert told == faults
    assert repr(value) == before
    if not faults:
        assert found == value


def test_items_are_read_in_their_own_type() -> None:
    spec = Field(Kind.LIST, fields={"for": DURATION, "at": DATETIME, "items": Field(Kind.LIST, item=DURATION)})
    found, told = read_list(spec, [{"for": "1 day", "at": "2026-04-01T12:00:00Z", "items": ["1 s", "1 min"]}])
    assert (found, told) == ([{"for": 86_400.0, "at": NOON.timestamp(), "items": [1.0, 60.0]}], {})


def test_what_a_column_holds_is_converted_within_lists_too() -> None:
    assert read_list(IDS, [7, "a"], loose=True) == (["7", "a"], {})
    assert read_list(COUNTS, ["3", 4.0], loose=True) == ([3, 4], {})
    people: list[object] = [{"name": 7, "age": "30", "tags": [1], "home": {"city": 2, "own": "yes"}}]
    read = [{"name": "7", "age": 30, "tags": ["1"], "home": {"city": "2", "own": True}}]
    assert read_list(PEOPLE, people, loose=True) == (read, {})
    assert set(read_list(PEOPLE, people)[1]) == {
        "t.f[1].name",
        "t.f[1].age",
        "t.f[1].tags[1]",
        "t.f[1].home.city",
        "t.f[1].home.own",
    }
    assert read_list(COUNTS, ["three", 4.5], loose=True)[1] == {
        "t.f[1]": NOT_WHOLE,
        "t.f[2]": "must be a whole number, and has a fraction",
    }


def test_unknown_fields_within_lists_are_named_with_their_place() -> None:
    body = {"people": [{"name": "a"}, {"nam": 1, "home": {"town": 2}}, "x"]}
    assert [fault.path for fault in unknown_fields({"people": PEOPLE}, body, "t")] == [
        "t.people[2].nam",
        "t.people[2].home.town",
    ]


@pytest.mark.parametrize(
    ("spec", "value", "read"),
    [
        (Field(Kind.TEXT, least_chars=3), "abc", "abc"),
        (Field(Kind.TEXT, least_chars=3), "ab", ["has 2 characters, at least 3 are needed"]),
        (Field(Kind.TEXT, least_chars=3), "   ", ["must not be blank"]),
        (Field(Kind.TEXT, least_chars=3), "春春春", "春春春"),
        (Field(Kind.INTEGER, most=1000), 1000, 1000),
        (Field(Kind.INTEGER, most=1000), 1001, ["must be at most 1,000"]),
        (Field(Kind.INTEGER, least=0), 0, 0),
        (Field(Kind.INTEGER, least=0), -1, ["must be at least 0"]),
        (Field(Kind.INTEGER), -(10**30), -(10**30)),
    ],
)
def test_the_least_and_the_most(spec: Field, value: object, read: object) -> None:
    assert one(spec, value) == read


# Dates and their zones

UTC_OR_NOW = Field(Kind.DATETIME, zone=Zone.UTC, choices=("now",))
LOCAL = Field(Kind.DATETIME, zone=Zone.LOCAL)
NAIVE = datetime(2026, 4, 1, 12)  # noqa: DTZ001  # as TOML has a local time
LATE = "is past what a date can be"
OWN_TIME = 'is each receiver\'s own time and has no zone: write it as "2026-04-01T06:00:00"'


@pytest.mark.parametrize(
    ("spec", "value", "read"),
    [
        (DATETIME, NAIVE, ["has no time zone; end it with Z for UTC, or with an offset such as +02:00"]),
        (UTC_OR_NOW, NAIVE, NOON.timestamp()),
        (UTC_OR_NOW, "2026-04-01T12:00:00", NOON.timestamp()),
        (UTC_OR_NOW, "2026-04-01T12:00:00Z", NOON.timestamp()),
        (UTC_OR_NOW, "2026-04-01T14:00:00+02:00", NOON.timestamp()),
        (UTC_OR_NOW, "now", "now"),
        (UTC_OR_NOW, "Now", ['is not a date and time such as "2026-04-01T06:00:00Z", nor "now"']),
        (UTC_OR_NOW, ["now"], ['must be a date and time such as "2026-04-01T06:00:00Z", not a list']),
        (DATETIME, "now", ['is not a date and time such as "2026-04-01T06:00:00Z"']),
        (LOCAL, NAIVE, "2026-04-01T12:00:00"),
        (LOCAL, "2026-04-01 12:00", "2026-04-01T12:00:00"),
        (LOCAL, "2026-04-01T12:00:00.75", "2026-04-01T12:00:00"),
        (LOCAL, "2026-04-01T12:00:00Z", [OWN_TIME]),
        (LOCAL, NOON, [OWN_TIME]),
        (LOCAL, "now", ['is not a date and time such as "2026-04-01T06:00:00"']),
        # The last and first moments that a date can be, somewhere else already past.
        (DATETIME, "9999-12-31T23:59:59-01:00", [LATE]),
        (UTC_OR_NOW, "9999-12-31T23:59:59-01:00", [LATE]),
        (DATETIME, "0001-01-01T00:00:00+01:00", [LATE]),
        (DATETIME, "9999-12-31T23:59:59Z", 253_402_300_799.0),
        (DATETIME, "9999-12-31T23:59:59.999999Z", [LATE]),
    ],
)
def test_what_a_time_without_a_zone_means(spec: Field, value: object, read: object) -> None:
    found = one(spec, value)
    assert found == read
    assert type(found) is type(read)


@given(
    at=st.datetimes(timezones=st.timezones() | st.just(UTC) | st.none()) | st.text(max_size=30),
    zone=st.sampled_from(list(Zone)),
)
@example(at=datetime.max.replace(tzinfo=UTC), zone=Zone.UTC)
def test_a_time_that_is_read_can_be_written_in_utc(at: object, zone: Zone) -> None:
    values, faults = read_table({"f": Field(Kind.DATETIME, zone=zone)}, {"f": at}, "t")
    if not faults and zone is Zone.LOCAL:
        assert datetime.fromisoformat(str(values["f"])).tzinfo is None
    elif not faults:
        seconds = values["f"]
        assert isinstance(seconds, float)
        assert datetime.fromtimestamp(seconds, UTC).tzinfo is UTC


def test_json_schema_of_lists_and_their_items() -> None:
    template = {"type": "string", "pattern": r"^\$\{[^}]+\}$"}
    people = {"people": Field(Kind.LIST, "Who.", fields={"name": Field(Kind.TEXT, required=True)}, most_items=2)}
    properties = json_schema({"ids": IDS, **people, "at": UTC_OR_NOW, "count": Field(Kind.INTEGER, least=0, most=9)})[
        "properties"
    ]
    assert isinstance(properties, dict)
    ids, again = properties["ids"]["anyOf"]
    assert again == template
    assert (ids["type"], ids["maxItems"], ids["items"]["type"]) == ("array", 3, "string")
    assert properties["people"]["description"] == "Who."
    items = properties["people"]["anyOf"][0]["items"]
    assert (items["required"], items["additionalProperties"]) == (["name"], False)
    # A word may stand in place of a time.
    assert properties["at"]["anyOf"][0] == {"type": "string"}
    assert properties["count"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": 9}


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
