"""Job files: valid ones of every provider, written as TOML again with something in them changed."""

from __future__ import annotations

import json
import tomllib
from importlib import resources
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.odd import TEXTS, changed_bytes, paths_of, put

__all__ = ["JOBS", "SECRETS", "STARTERS", "Raw", "changed_jobs", "toml_of"]

STARTERS = {
    name: tomllib.loads(resources.files("bulksend.cli").joinpath("starters", f"{name}.toml").read_text("utf-8"))
    for name in ("insider", "usercom", "stream", "batch")
}
SECRETS = ("INSIDER_TOKEN", "USERCOM_TOKEN", "STREAM_SECRET", "BATCH_REST_KEY")


class Raw(str):
    """TOML as it is to be written."""

    __slots__ = ()


def _with(name: str, **tables: dict[str, Any] | None) -> dict[str, Any]:
    """Return a starter with other fields in some of its tables; None for a table that goes, or a field."""
    tree = {**STARTERS[name]}
    for table, fields in tables.items():
        if fields is None:
            tree.pop(table, None)
        else:
            merged = {**tree.get(table, {}), **fields}
            tree[table] = {field: value for field, value in merged.items() if value is not None}
    return tree


ACCOUNTS = {"partner_id": "1", "token": "env:INSIDER_TOKEN"}
JOBS: list[dict[str, Any]] = [
    *STARTERS.values(),
    _with("insider", create={"title": "Sale in ${city}", "per": "row"}, launch={"banner": "https://example.com/b"}),
    _with("insider", launch={"campaign_id": 7, "ttl": "4 h", "include_unengaged": True}, create=None),
    _with(
        "insider",
        audience={"account": "${city}"},
        account={"partner_id": None, "token": None, "Leeds": ACCOUNTS, "York": ACCOUNTS},
        limits={"insider.launch": "600/6s", "insider.create": "30/min, 10/s"},
    ),
    _with(
        "stream",
        audience={"chunk": 25},
        launch={"segment_ids": "${segment_id[]}", "name": "Sale", "message_template": {"text": "Sale"}},
        start={"scheduled_for": "2099-04-01T12:00:00+02:00"},
    ),
    _with(
        "stream",
        audience=None,
        segment={"name": "users", "create": True, "filter": {"country": "USA", "age": {"$gt": 7}}},
        launch={"segment_ids": ["${segment.id}"], "name": "Sale", "message_template": {"text": "Sale"}},
    ),
    _with("batch", launch={"send": "direct", "push_time": "2099-01-01T00:00:00Z", "custom_payload": '{"a": 1}'}),
    _with("usercom", launch={"eta": "2099-01-01T00:00:00+02:00"}, policy={"due": "2026-04-01T06:00:00Z"}),
    _with(
        "usercom",
        audience={"from": None, "sql": "select segment_id, segment from 'usercom-segments.csv' order by 1"},
        policy={"deadline": "2h", "max_lateness": "30m", "due": "2099-04-01T06:00:00Z", "on_unknown": "resend"},
    ),
]
ODD_RAW = [
    *("1979-05-27", "07:32:00", "1979-05-27T07:32:00", "1979-05-27T07:32:00.999999-07:00", "0001-01-01T00:00:00+14:00"),
    *(
        "9999-12-31T23:59:59-23:59",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "0x" + "f" * 5000,
        "9" * 30,
        "9" * 5000,
        "-" + "9" * 19,
    ),
    *(
        "{}",
        "[]",
        "[[]]",
        "[{}]",
        '[{a = 1}, "x", 2]',
        "true",
        "0.5",
        "0",
        "-1",
        "''",
        '["${city}"]',
        '{x = "${city}"}',
    ),
    *(
        "[" * 90 + "]" * 90,
        "[" * 200 + "]" * 200,
        "[" * 300 + "]" * 300,
        "[" * 400 + "]" * 400,
        "[" * 450 + "]" * 450,
        "[" * 3000 + "]" * 3000,
        "{a=" * 90 + "1" + "}" * 90,
    ),
    *(
        "{a=" * 200 + "1" + "}" * 200,
        "{a=" * 300 + "1" + "}" * 300,
        '"""\n${city}\n"""',
        "'''\n'''",
        '"\\u0000"',
        '"\\ud800"',
        '"\\U0010ffff"',
        "1 2",
    ),
]
_VALUES = st.sampled_from(ODD_RAW).map(Raw) | TEXTS
_NAMES = st.sampled_from(
    ["from", "sql", "key", "chunk", "account", "id", "name", "token", "base_url", "values", "a.b", "", "default"]
) | TEXTS.filter(lambda text: text != "desired")  # a segment is read by `plan`, which is a call


def toml_of(value: object) -> str:
    """Write a value as TOML."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(name)} = {toml_of(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    if isinstance(value, str):
        return _text(value)
    return json.dumps(value)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _file(tree: dict[str, Any]) -> str:
    """Write a job file: tables under their headers, an array of tables as one where it is a table's own."""
    lines = [f"{_text(name)} = {toml_of(value)}" for name, value in tree.items() if not isinstance(value, dict)]
    for name, table in tree.items():
        if isinstance(table, dict):
            lines += ["", f"[{_text(name)}]"]
            lines += [f"{_text(field)} = {toml_of(value)}" for field, value in table.items()]
    return "\n".join([*lines, ""])


@st.composite
def changed_jobs(draw: st.DrawFn) -> tuple[str, bytes]:
    """Give a provider and a job file of its that has one to three things changed, or its bytes."""
    tree = draw(st.sampled_from(JOBS))
    provider = tree["account"]["provider"]
    if draw(st.integers(0, 3)) == 0:
        return provider, draw(changed_bytes(_file(tree).encode()))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(paths_of(tree))))
        kind, value = draw(st.integers(0, 9)), draw(_VALUES)
        new = draw(_NAMES) if kind in (1, 2) else ""

        def change(holder: Any, name: Any, kind: int = kind, value: object = value, new: str = new) -> None:
            match kind:
                case 0:
                    del holder[name]
                case 1 if isinstance(holder, dict):
                    holder[new] = holder.pop(name)
                case 2 if isinstance(holder, dict):
                    holder[new] = value
                case 3:
                    holder[name] = [holder[name], holder[name]]
                case 4:
                    holder[name] = {"x": holder[name]}
                case 5 if isinstance(holder[name], str) and not isinstance(holder[name], Raw):
                    holder[name] += str(value) if not isinstance(value, Raw) else "${city}"
                case _:
                    holder[name] = value

        tree = put(tree, path, change)
    return provider, _file(tree).encode("utf-8", "surrogatepass")
