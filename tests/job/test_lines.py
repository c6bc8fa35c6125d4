"""Where keys stand in a TOML file, against the standard library's idea of which keys there are."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.job.lines import key_lines

JOB = '''\
job = "spring"   # [not] = "a table"

[account]
provider = "insider"
token    = "env:TOKEN"

[launch]
title = "a [b] {c = 1} # not a comment"
"quoted key" = 'it''s'
target = { attribute = "c_x", values = [
    "a",   # [not.a.table]
    "b = c",
] }
description = """
[audience]
from = "not here"
"""
link = "x" # trailing
[ account . "brand one" ]
a.b.c = 1
[[rows]]
x = 1
[policy] # about it
canary = 20
'''


def test_a_job_file() -> None:
    job = JOB.replace("'it''s'", "'its'")
    tomllib.loads(job)
    found = key_lines(job)
    expected = {
        "job": 1,
        "account": 3,
        "account.provider": 4,
        "account.token": 5,
        "launch": 7,
        "launch.title": 8,
        "launch.quoted key": 9,
        "launch.target": 10,
        "launch.target.attribute": 10,
        "launch.target.values": 10,
        "launch.description": 14,
        "launch.link": 18,
        "account.brand one": 19,
        "account.brand one.a.b.c": 20,
        "rows": 21,
        "rows.x": 22,
        "policy": 23,
        "policy.canary": 24,
    }
    assert {path: found.get(path) for path in expected} == expected
    assert "audience" not in found
    assert "not.a.table" not in found


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", {}),
        ("\n\na = 1", {"a": 3}),
        ("a = 1\r\n\r\n[t]\r\nb = 2\r\n", {"a": 1, "t": 3, "t.b": 4}),
        ("a = '''\nb = 1\n'''\nc = 2", {"a": 1, "c": 4}),
        ("a = '''x''' \nc = 2", {"a": 1, "c": 2}),
        ('a = "\\""\nc = "]"\nd = 1', {"a": 1, "c": 2, "d": 3}),
        ("a = [\n[1, 2],\n[3]\n]\nb = 1", {"a": 1, "b": 5}),
        ("# a = 1\nb = 1", {"b": 2}),
        ("a = 1\n[a2]\na = 2", {"a": 1, "a2": 2, "a2.a": 3}),
        ("  [ t ]  \n  a  =  1", {"t": 1, "t.a": 2}),
    ],
)
def test_lines(text: str, lines: dict[str, int]) -> None:
    tomllib.loads(text)
    assert key_lines(text) == lines


@given(st.text(max_size=200) | st.lists(st.sampled_from(list("[]{}\"'#=,.\\ab1 \n")), max_size=60).map("".join))
def test_any_text_is_read_without_an_error(text: str) -> None:
    found = key_lines(text)
    assert all(1 <= line <= len(text.splitlines()) for line in found.values())


def paths_of(tree: dict[str, object], before: str = "") -> set[str]:
    found = set()
    for name, value in tree.items():
        found.add(before + name)
        if isinstance(value, dict):
            found |= paths_of(value, f"{before}{name}.")
    return found


names = st.text("abcxyz_-019", min_size=1, max_size=4)
words = st.sampled_from(
    ['"x"', "'y'", '"[a]"', '"# b = 1"', "1", "true", "[1, 2]", '["a", "]"]', '"""\nz = 1\n"""', "[\n1\n]"]
)


@given(
    tables=st.dictionaries(names, st.dictionaries(names, words, min_size=1, max_size=4), min_size=1, max_size=4),
    gap=st.integers(0, 2),
)
def test_every_key_is_found_on_its_line(tables: dict[str, dict[str, str]], gap: int) -> None:
    text, expected = "", {}
    for table, keys in tables.items():
        text += "\n" * gap
        expected[table] = text.count("\n") + 1
        text += f"[{table}]\n"
        for key, value in keys.items():
            expected[f"{table}.{key}"] = text.count("\n") + 1
            text += f"{key} = {value} # note\n"
    assert paths_of(tomllib.loads(text)) == set(expected)
    found = key_lines(text)
    assert {path: found.get(path) for path in expected} == expected
