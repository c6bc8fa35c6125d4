"""Values that readers trip over, and changes to valid texts and trees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

__all__ = ["JSON_VALUES", "TEXTS", "changed_bytes", "changed_json", "changed_text", "paths_of", "put", "sentence"]

MEGABYTE = 1 << 20
LONG_TEXTS = ["x" * 300, "9" * 400, "9" * 5000, "é" * 70_000, "x" * MEGABYTE, "${a}" * 5000, "\0" * 1000]
ODD_TEXTS = [
    *(
        "",
        " ",
        "\t",
        "\0",
        "\ufeff",
        "\r\n",
        "a\nb",
        "\u202e",
        "\u2028",
        "\x1b[2J",
        "²",
        "٣",
        "\U0001d54f",
        "é",
        "e\u0301",
    ),
    *(
        "${",
        "${}",
        "${ }",
        "${var.",
        "${var.x}",
        "${city",
        "$${city}",
        "${city[]}",
        "${segment.id}",
        "${a.b}",
        "$",
        "}",
    ),
    *("\ue000", "\ue001", "\ue001segment.id\ue001", "{{ x }}", "%s", "%", "{0}", "\\", "'", '"', "--", ";", "`", "|"),
    *(
        "..",
        ".",
        "/",
        "../../etc/passwd",
        "/dev/null",
        "/dev/stdin",
        "~",
        "*",
        "**",
        "[",
        "?",
        "-",
        "con",
        "a/b",
        "a\\b",
    ),
    *(
        "https://",
        "http://[",
        "http://x@y",
        "file:",
        "env:",
        "env:=",
        "cmd:",
        "file:/",
        "file:\0",
        "file:" + "x" * 300,
        "cmd:",
        "cmd:false",
        "env:HOME",
        "://",
        "sqlite:",
    ),
    *(
        "nan",
        "inf",
        "-inf",
        "1e999",
        "-0",
        "0x10",
        "1_0",
        "true",
        "null",
        "None",
        "now",
        "all",
        "10%",
        "101%",
        "6000/min",
    ),
    *("1 day", "0 s", "1e3 s", "2026-04-01T06:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"),
    *("insider", "usercom", "stream", "batch", "row", "direct", "hold", "en_GB", "code-point"),
]
_LIKELY = st.sampled_from(ODD_TEXTS) | st.text(max_size=12)
TEXTS = st.integers(0, 11).flatmap(lambda dice: _LIKELY if dice else st.sampled_from(LONG_TEXTS))
_INTEGERS = [0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400]
_PLAIN = (
    st.none()
    | st.booleans()
    | st.sampled_from(_INTEGERS)
    | st.sampled_from([0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf")])
    | st.integers()
    | TEXTS
)
_HOLDERS = st.lists(_PLAIN, max_size=3) | st.dictionaries(st.text(max_size=4), _PLAIN, max_size=3)
JSON_VALUES = _PLAIN | _HOLDERS | st.lists(_HOLDERS, max_size=2)
_PIECES = [
    *(
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\r",
        b"\r\n",
        b"\n",
        b'"',
        b"'",
        b'"""',
        b"[",
        b"]",
        b"{",
        b"}",
        b"=",
        b"#",
        b",",
    ),
    *(
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b"\xed\xa0\x80",
        b":",
        b";",
        b"\t",
        b"|",
        b"null",
        b"NaN",
        b"-",
        b"9" * 30,
        b"$",
        b"${",
    ),
    *(b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b" " * 3000, b'"' * 99, b"\n[[launch]]\n", b"\n[launch]\n", b"\n\n"),
]


def paths_of(tree: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where something stands in a tree of dicts and lists, outer before inner, without the root."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, item in items:
        yield (*here, name)
        yield from paths_of(item, (*here, name))


def put(tree: Any, path: tuple[Any, ...], change: Any) -> Any:
    """Return a copy in which `change(container, name)` was done at a place."""
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    if len(path) == 1:
        change(copy, path[0])
    else:
        copy[path[0]] = put(copy[path[0]], path[1:], change)
    return copy


@st.composite
def changed_bytes(draw: st.DrawFn, whole: bytes, most: int = 3) -> bytes:
    """Change a text as bytes: cut, put in, twice, another byte, another line end."""
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, len(whole)))
        match draw(st.integers(0, 6)):
            case 0:
                whole = whole[:at]
            case 1 | 2:
                whole = whole[:at] + draw(st.sampled_from(_PIECES)) + whole[at:]
            case 3:
                whole = whole[:at] + whole[at + draw(st.integers(1, 20)) :]
            case 4:
                whole = whole[:at] + draw(st.binary(min_size=1, max_size=3)) + whole[at + 1 :]
            case 5:
                lines = whole.splitlines(keepends=True) or [b""]
                number = draw(st.integers(0, len(lines) - 1))
                whole = b"".join([*lines[:number], lines[number], *lines[number:]])
            case _:
                whole = draw(
                    st.sampled_from(
                        [b"\xef\xbb\xbf" + whole, whole.replace(b"\n", b"\r\n"), whole.replace(b"\n", b"\r"), whole * 2]
                    )
                )
    return whole


@st.composite
def changed_text(draw: st.DrawFn, whole: str) -> str:
    """Change a short text: as `changed_bytes`, for what has been decoded already."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(whole)))
        end = at + draw(st.integers(0, 4))
        whole = whole[:at] + draw(st.just("") | st.characters() | TEXTS) + whole[end:]
    return whole


def sentence(wrong: Exception, *unsaid: str) -> None:
    """Hold the text of a refusal against what a person can use: our words on one line, and none of what is not said."""
    text = str(wrong)
    assert text.strip()
    for foreign in ("Exceeds the limit", "could not convert", "invalid literal", *unsaid):
        assert foreign not in text


def _twice(value: Any, path: tuple[Any, ...]) -> str:
    """Write JSON in which the name at a place stands twice in its object."""
    if not isinstance(value, dict) or not path:
        return json.dumps(value)
    parts = []
    for name, item in value.items():
        text = f"{json.dumps(name)}: {_twice(item, path[1:]) if name == path[0] else json.dumps(item)}"
        parts += [text, f"{json.dumps(name)}: null"] if path == (name,) else [text]
    return "{" + ", ".join(parts) + "}"


@st.composite
def changed_json(draw: st.DrawFn, good: Any) -> bytes:
    """Change a JSON value at a place or two: gone, of another kind, renamed, twice, deeper; then perhaps as bytes."""
    whole = b""
    for _ in range(draw(st.integers(1, 2))):
        paths = list(paths_of(good))
        if not paths:
            good = draw(JSON_VALUES)
            continue
        path = draw(st.sampled_from(paths))
        kind = draw(st.integers(0, 7))
        match kind:
            case 0:
                good = put(good, path, lambda holder, name: holder.pop(name))
            case 1:
                value = draw(TEXTS)
                good = put(good, path, lambda holder, name, value=value: _rename(holder, name, value))
            case 2:
                good = put(good, path, lambda holder, name: holder.__setitem__(name, [holder[name]]))
            case 3:
                good = put(good, path, lambda holder, name: holder.__setitem__(name, {"id": holder[name]}))
            case 4:
                whole = _twice(good, path).encode()
            case _:
                value = draw(JSON_VALUES)
                good = put(good, path, lambda holder, name, value=value: holder.__setitem__(name, value))
    whole = whole or json.dumps(good).encode()
    return draw(changed_bytes(whole, most=1)) if draw(st.integers(0, 3)) == 0 else whole


def _rename(holder: Any, name: Any, new: str) -> None:
    value = holder.pop(name)
    if isinstance(holder, dict):
        holder[new] = value
    else:
        holder.insert(0, value)
