"""What the `sql` of a job may be: one SELECT over files that it names. Judged by DuckDB's syntax tree, run nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from bulksend.errors import JobError, Problem
from bulksend.job.tables import ENDINGS

__all__ = ["first_sentence", "tables_of"]

_QUERIES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_SOURCES = frozenset(
    {"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "EMPTY_FROM", "PIVOT"}
)
_TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "repeat", "unnest"})
"""Those that make rows out of values; all others read files, settings or other tables."""
_DENIED = frozenset(
    {"current_query", "current_setting", "disable_profile", "enable_profile", "getenv", "which_secret", "write_log"}
)


def tables_of(tree: dict[str, Any]) -> list[str]:
    """Return the files that a SELECT names, as written, in order and once each.

    `tree` is what DuckDB's `json_serialize_sql` makes of the text. Raises JobError for anything but one SELECT, and for
    whatever it could reach that is not a file named as a table.
    """
    if tree.get("error"):
        if tree.get("error_type") == "parser":
            raise _wrong(f"is not valid SQL: {tree.get('error_message')}")
        raise _wrong("is not a SELECT; exactly one is accepted, and nothing that changes or sets anything")
    statements = tree.get("statements", [])
    if len(statements) != 1:
        raise _wrong(f"holds {len(statements) or 'no'} statements; exactly one SELECT is accepted")
    nodes = list(_nodes(statements[0]))
    local = {
        str(name).casefold()
        for node in nodes
        for name in (
            *(entry.get("key", "") for entry in (node.get("cte_map") or {}).get("map", [])),
            node.get("cte_name", ""),
            node.get("ctename", ""),
        )
        if name
    }
    files: dict[str, None] = {}
    for node in nodes:
        kind = str(node.get("type", ""))
        if kind.endswith("_NODE") and kind not in _QUERIES:
            what = kind.removesuffix("_NODE").removesuffix("_QUERY")
            raise _wrong(f"holds a statement that changes something ({what}); only SELECT may be used")
        if "sample" in node and "alias" in node and kind not in _SOURCES:
            raise _wrong("uses DESCRIBE, SHOW or SUMMARIZE; only SELECT may be used")
        if kind == "BASE_TABLE":
            name = _table(node)
            if name.casefold() not in local:
                files[_checked(name)] = None
        elif kind == "TABLE_FUNCTION":
            function = str((node.get("function") or {}).get("function_name", ""))
            if function.lower() not in _TABLE_FUNCTIONS:
                raise _wrong(f"calls {function}(), which is not accepted; write a file as the table: from 'stores.csv'")
        elif node.get("class") == "FUNCTION" and str(node.get("function_name", "")).lower() in _DENIED:
            raise _wrong(f"calls {node['function_name']}(), which is not accepted")
        elif node.get("class") == "PARAMETER":
            raise _wrong("has a parameter (? or $); use ${var.NAME}")
    folded: dict[str, str] = {}
    for name in files:
        if folded.setdefault(name.casefold(), name) != name:
            raise _wrong(f"names {folded[name.casefold()]!r} and {name!r}: SQL does not tell them apart")
    return list(files)


def _wrong(text: str) -> JobError:
    return JobError(Problem(text, file="sql"))


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Yield every object of the tree, outer before inner, in the order of the text."""
    stack = [tree]
    while stack:
        top = stack.pop()
        if isinstance(top, dict):
            yield top
            stack.extend(reversed(list(top.values())))
        elif isinstance(top, list):
            stack.extend(reversed(top))


def _table(node: dict[str, Any]) -> str:
    path = [str(part) for part in (node.get("qualified_name") or {}).get("path", [])] or [
        str(node[part]) for part in ("catalog_name", "schema_name", "table_name") if node.get(part)
    ]
    if len(path) > 1:
        dotted = ".".join(path)
        raise _wrong(f"names a table {dotted}, which is not known; a file name stands in quotes: '{dotted}'")
    return path[0]


def _checked(name: str) -> str:
    """Refuse at once what cannot be a file of this machine; whether it is there is seen when it is opened."""
    if "://" in name:
        raise _wrong(f"reaches for the URL {name}; only files of this machine are read")
    if name.startswith("~"):
        raise _wrong(f"names {name}; write the path from the job file, or the whole path, without ~")
    if not name.lower().endswith(tuple(ENDINGS)):
        raise _wrong(f"names a table {name}, which is not known; accepted are files that end in {' '.join(ENDINGS)}")
    return name


def first_sentence(message: str) -> str:
    """Return what a message about names or syntax says first, and which columns it proposes."""
    lines = message.splitlines() or [""]
    first = re.sub(r"^[A-Z]\w+ Error: ", "", lines[0]).rstrip("!")
    proposed = [line for line in lines[1:3] if line.startswith(("Candidate", "Did you mean"))]
    return "; ".join([first, *proposed])
