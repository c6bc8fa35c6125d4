"""`${column}`: what is filled in, in which type, and what passes as it is."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.job.template import Template, escape, is_blank, placeholders, substitute_vars, unescape

UUID_TEXT = "12345678-1234-5678-1234-567812345678"


def rendered(value: object, cells: dict[str, object], *, chunked: bool = False) -> object:
    """Render one field; the cells are given by column."""
    template = Template({"field": value}, chunked=chunked)
    table, blanks = template.render([cells[name] for name in template.columns])
    assert blanks == []
    return table["field"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("no column", []),
        ("$", []),
        ("$5 {and} more", []),
        ("${a}", ["a"]),
        ("${ a b }", ["a b"]),
        ("x ${a} y ${b}${a}", ["a", "b", "a"]),
        ("$${a}", []),
        ("$${a} ${b}", ["b"]),
        ("$$${a}", []),
        ("${a}}", ["a"]),
        ("${var.day}", ["var.day"]),
        ("${id[]}", ["id[]"]),
        ("{{ receiver.name }}", []),
    ],
)
def test_placeholders(text: str, found: list[str]) -> None:
    assert placeholders(text) == found


@pytest.mark.parametrize("text", ["${", "${}", "${ }", "${a", "x ${a} ${", "$${a} ${b"])
def test_a_placeholder_without_a_name_or_an_end(text: str) -> None:
    with pytest.raises(ValueError, match=r"\$\{ without a name and a closing \}; write \$\$\{"):
        placeholders(text)
    with pytest.raises(ValueError, match="without a name"):
        Template({"field": text})


@pytest.mark.parametrize(
    ("cell", "typed", "as_text"),
    [
        ("0007", "0007", "0007"),
        (" x ", " x ", " x "),
        (7, 7, "7"),
        (-(2**63), -(2**63), str(-(2**63))),
        # JSON's readers do not agree on larger numbers.
        (2**63, str(2**63), str(2**63)),
        (1.5, 1.5, "1.5"),
        (True, True, "true"),
        (False, False, "false"),
        (0, 0, "0"),
        (Decimal("12.50"), 12.5, "12.50"),
        (Decimal("12.00"), 12, "12.00"),
        (Decimal("1E+3"), 1000, "1000"),
        (date(2026, 4, 1), "2026-04-01", "2026-04-01"),
        (datetime(2026, 4, 1, 6, tzinfo=UTC), "2026-04-01T06:00:00+00:00", "2026-04-01T06:00:00+00:00"),
        (time(6, 30), "06:30:00", "06:30:00"),
        (UUID(UUID_TEXT), UUID_TEXT, UUID_TEXT),
    ],
)
def test_a_value_alone_keeps_its_type_and_within_a_text_it_is_text(cell: object, typed: object, as_text: str) -> None:
    alone = rendered("${a}", {"a": cell})
    assert alone == typed
    assert type(alone) is type(typed)
    assert rendered("x${a}y", {"a": cell}) == f"x{as_text}y"
    assert rendered("${a}${a}", {"a": cell}) == as_text * 2


def test_a_list_or_an_object_stands_alone_only() -> None:
    cell = [1, Decimal("2.5"), [date(2026, 4, 1)], {"n": Decimal(3)}]
    assert rendered("${a}", {"a": cell}) == [1, 2.5, ["2026-04-01"], {"n": 3}]
    template = Template({"field": "x ${a}"})
    assert template.render([cell]) == ({"field": "x "}, ["a"])


@pytest.mark.parametrize("cell", [None, "", " ", "\t\n", "\u00a0\u2003", float("nan"), float("inf")])
def test_a_blank_value_is_named(cell: object) -> None:
    assert is_blank(cell)
    template = Template({"x": "${a}", "y": "in ${b} and ${a}", "z": "${b}"})
    assert template.columns == ("a", "b")
    _, blanks = template.render([cell, "here"])
    assert set(blanks) == {"a"}
    _, blanks = template.render([cell, cell])
    assert set(blanks) == {"a", "b"}


@pytest.mark.parametrize("cell", [0, 0.0, False, "0", "x", [], {}])
def test_what_is_no_blank(cell: object) -> None:
    assert not is_blank(cell)


def test_a_tree_is_filled_in_at_every_depth() -> None:
    tree = {
        "title": "In ${city}",
        "fixed": "50% $${off}",
        "number": 7,
        "flag": True,
        "target": {"attribute": "c_store_id", "values": ["${store}", "x-${store}", 5, "$${lit}"]},
        "deep": [[{"a": "${city}"}]],
        "plain": {"text": "$${b}", "list": [1, 2]},
    }
    template = Template(tree)
    assert template.columns == ("city", "store")
    assert template.dynamic == {"title", "target", "deep"}
    table, blanks = template.render(["Łódź", "0007"])
    assert blanks == []
    assert table == {
        "title": "In Łódź",
        "fixed": "50% ${off}",
        "number": 7,
        "flag": True,
        "target": {"attribute": "c_store_id", "values": ["0007", "x-0007", 5, "${lit}"]},
        "deep": [[{"a": "Łódź"}]],
        "plain": {"text": "${b}", "list": [1, 2]},
    }
    # Rows share nothing.
    other, _ = template.render(["Gdańsk", "0008"])
    assert table["title"] == "In Łódź"
    assert other["target"] != table["target"]


def test_a_value_is_never_read_as_a_placeholder() -> None:
    assert rendered("${a}", {"a": "${b}"}) == "${b}"
    assert rendered("x ${a}", {"a": "$${b} ${a}"}) == "x $${b} ${a}"
    assert rendered("${a}", {"a": ["${b}"]}) == ["${b}"]


def test_columns_keep_the_order_that_they_are_given_in() -> None:
    template = Template({"x": "${c} ${a}"}, columns=["a", "b"])
    assert template.columns == ("a", "b", "c")
    assert template.render([1, 2, 3])[0] == {"x": "3 1"}


def test_a_chunk_gives_lists() -> None:
    assert rendered("${id[]}", {"id": ["a", "b"]}, chunked=True) == ["a", "b"]
    assert rendered("${ id [] }", {"id": [Decimal(1), 2]}, chunked=True) == [1, 2]
    template = Template({"values": "${id[]}"}, chunked=True)
    assert template.columns == ("id",)
    assert template.render([["a", None, "b"]])[1] == ["id"]


@pytest.mark.parametrize(
    ("text", "chunked", "match"),
    [
        ("${id[]}", False, "set chunk in"),
        ("x ${id[]}", False, "must stand alone"),
        ("${id}", True, r"write \$\{id\[\]\}"),
        ("x ${id}", True, r"write \$\{id\[\]\}"),
        ("x ${id[]}", True, "must stand alone"),
        ("${a[]}${b[]}", True, "must stand alone"),
    ],
)
def test_lists_and_single_values_are_not_mixed_up(text: str, chunked: bool, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Template({"field": text}, chunked=chunked)


texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("${}[] ab."), max_size=30)
pieces = st.lists(st.sampled_from(["$", "{", "}", "${", "$${", "${a}", "$${a}", "a", " ", "[]"]), max_size=8).map(
    "".join
)


@given(text=texts.filter(lambda text: "${" not in text))
def test_a_text_without_an_opening_passes_unchanged(text: str) -> None:
    assert rendered(text, {}) == text


@given(text=texts | pieces)
def test_an_escaped_text_comes_out_as_it_was(text: str) -> None:
    assert unescape(escape(text)) == text
    assert rendered(escape(text), {}) == text
    assert rendered([escape(text)], {}) == [text]
    assert placeholders(escape(text)) == []


cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.decimals(allow_nan=False, allow_infinity=False, places=2),
    st.dates(),
    st.times(),
    st.datetimes(),
    st.uuids(),
    st.lists(st.integers(), max_size=2),
    st.binary(max_size=3),
)


@given(text=texts | pieces, chunked=st.booleans(), cell=cells)
def test_any_text_compiles_or_is_refused_and_any_value_renders_or_is_blank(
    text: str,
    chunked: bool,
    cell: object,
) -> None:
    try:
        template = Template({"field": text, "list": [text]}, chunked=chunked)
    except ValueError as wrong:
        assert "$" in text
        assert str(wrong)  # noqa: PT017
        return
    table, blanks = template.render([[cell] if chunked else cell] * len(template.columns))
    assert set(blanks) <= set(template.columns)
    assert set(table) == {"field", "list"}
    if template.columns and is_blank(cell):
        assert set(blanks) == set(template.columns)


@given(before=texts.filter(lambda text: "$" not in text), cell=st.text(min_size=1).filter(lambda text: text.strip()))
def test_a_text_value_is_put_in_as_it_is(before: str, cell: str) -> None:
    assert rendered(before + "${a}", {"a": cell}) == before + cell


# Variables


def test_variables_are_filled_in_and_columns_stay() -> None:
    assert substitute_vars("sale-${var.day} ${city} $${var.day}", {"day": "2026-04-01"}) == (
        "sale-2026-04-01 ${city} $${var.day}"
    )
    assert substitute_vars("${ var.day }${var.day}", {"day": "1"}) == "11"


def test_a_variable_without_a_value_is_named() -> None:
    with pytest.raises(ValueError, match=r"\$\{var\.day\} has no value; give it with --var day=VALUE"):
        substitute_vars("x ${var.day}", {"night": "1"})
    with pytest.raises(ValueError, match="without a name"):
        substitute_vars("${var.day", {"day": "1"})


@given(value=texts | pieces)
def test_a_variables_value_is_never_read_as_a_placeholder(value: str) -> None:
    filled = substitute_vars("a ${var.x} b", {"x": value})
    assert placeholders(filled) == []
    assert rendered(filled, {}) == f"a {value} b"
