"""Audiences: files of every kind with what rows should not hold, in the columns of the starter jobs."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import duckdb
from hypothesis import strategies as st

from tests.fuzz.odd import JSON_VALUES, TEXTS, changed_bytes
from tests.shell.conftest import CELL

__all__ = ["COLUMNS", "SQL", "changed_csv", "changed_jsonl", "changed_sql", "packed", "parquet_of", "parquet_queries"]

COLUMNS = {
    "insider": ("store_id", "city", "opens"),
    "usercom": ("segment_id", "segment"),
    "stream": ("team", "segment_id"),
    "batch": ("city", "shop"),
}
"""Of each starter's audience, the key first. Cells of the others hold what no message may show."""
_KEYS = st.sampled_from(["0001", "0002", "7", "a", "é", " a", "a b", "1e5", "NULL", "-0", "x" * 512]) | st.integers(
    1, 99
).map(str)
_CELLS = st.sampled_from([CELL, CELL, f"{CELL}\n", f" {CELL} ", f'"{CELL}"', "5", "09:00", "1.5", "true"]) | TEXTS.map(
    lambda text: text.replace("\r", "") + CELL
)


@st.composite
def changed_csv(draw: st.DrawFn, columns: tuple[str, ...]) -> bytes:
    """Write CSV in one of its dialects, ragged or with an odd header now and then, and perhaps change its bytes."""
    header = list(columns)
    match draw(st.integers(0, 9)):
        case 0:
            header[draw(st.integers(0, len(header) - 1))] = draw(TEXTS)
        case 1:
            header.append(draw(st.sampled_from([*header, header[0].upper(), "", " "])))
        case 2:
            header.reverse()
    rows = [
        [draw(_KEYS | TEXTS), *(draw(_CELLS) for _ in header[1:])][:: -1 if header[0] != columns[0] else 1]
        for _ in range(draw(st.integers(0, 4)))
    ]
    if rows and draw(st.integers(0, 4)) == 0:
        ragged = rows[draw(st.integers(0, len(rows) - 1))]
        ragged.append(CELL) if draw(st.booleans()) else ragged.pop()
    text = io.StringIO()
    writer = csv.writer(
        text,
        delimiter=draw(st.sampled_from(",;\t|")),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])),
    )
    writer.writerows([header, *rows])
    encoding = draw(st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "latin-1", "cp1252", "utf-32-le"]))
    whole = text.getvalue().encode(encoding, "ignore")
    return draw(changed_bytes(whole)) if draw(st.integers(0, 2)) == 0 else whole


@st.composite
def changed_jsonl(draw: st.DrawFn, columns: tuple[str, ...]) -> bytes:
    """Write an object per line, with values of any kind, and perhaps change the bytes."""
    lines = []
    for _ in range(draw(st.integers(0, 4))):
        row: dict[str, Any] = {columns[0]: draw(_KEYS | JSON_VALUES)}
        row |= {name: draw(_CELLS | JSON_VALUES) for name in columns[1:]}
        if draw(st.integers(0, 4)) == 0:
            row.pop(draw(st.sampled_from(columns)))
        if draw(st.integers(0, 4)) == 0:
            row |= {draw(TEXTS): CELL, columns[0].upper(): CELL}
        text = json.dumps(row, ensure_ascii=draw(st.booleans()))
        if draw(st.integers(0, 5)) == 0:
            text = draw(
                st.sampled_from(
                    [
                        text[:-1] + f", {json.dumps(draw(st.sampled_from(columns[1:])))}: {json.dumps(CELL)}}}",
                        text[:-1] + ', "deep": ' + "[" * 2000 + "]" * 2000 + "}",
                        text[:-1] + ', "deep": ' + '{"a":' * 600 + "1" + "}" * 600 + "}",
                        text[:-1] + ', "half": "\\ud800"}',
                        text.replace(CELL, "\\ud800" + CELL, 1),
                        f"[{text}]",
                        f'"{CELL}"',
                        "null",
                        text + text,
                        "\x01" + text,
                        " " * 3000 + text,
                    ]
                )
            )
        lines.append(text)
    whole = draw(st.sampled_from(["\n", "\r\n", "\n\n", "\r"])).join([*lines, ""]).encode("utf-8", "surrogatepass")
    return draw(changed_bytes(whole)) if draw(st.integers(0, 2)) == 0 else whole


_CELL = f"('{CELL[:5]}' || '{CELL[5:]}')"
"""The cell as a value that does not stand in the query, which a message may quote: it is the job file's own."""
SQL = [
    *(
        "'x'",
        "null",
        "''",
        "1",
        "-1::tinyint",
        "170141183460469231731687303715884105727::hugeint",
        "18446744073709551615",
    ),
    *("1.5::decimal(38,10)", "1::decimal(18,0)", "0.1::float", "'nan'::double", "'inf'::double", "1e308", "true"),
    *("date '2020-01-01'", "'infinity'::date", "date '290000-01-01'", "date '4713-01-01 (BC)'", "time '12:00'"),
    *("timetz '12:00+02'", "timestamp '2020-01-01'", "'infinity'::timestamp", "timestamp '290000-01-01'"),
    *("timestamptz '2020-01-01 00:00+02'", "'-infinity'::timestamptz", "timestamptz '200000-01-01 00:00+00'"),
    *("'2020-01-01'::timestamp_ns", "'2020-01-01'::timestamp_s", "interval 1 month", "interval 900000 year", "uuid()"),
    *("blob '\\xff\\x00'", "'0101'::bit", "[1, null]", "['a', 'b']", "[[1]]", "{'a': 1, 'b': [1]}", "map {'a': 1}"),
    *("map {[1]: 2}", "{'a': {'b': date '290000-01-01'}}", "[1.5::decimal(4,1)]", "[uuid()]", "[blob '\\xff']", "[]"),
    *(
        "'a'::enum('a', 'b')",
        "union_value(n := 1)",
        "repeat('x', 70000)",
        "repeat('x', 1000000)",
        "chr(0)",
        "chr(0x202e)",
    ),
    *(
        "'7'::json",
        "'[1]'::json",
        "i",
        "i::varchar",
        "'k' || i",
        "[i]::integer[1]",
        "random()",
        "interval 1 day + time '1:00'",
    ),
    *(
        "1/0",
        "i/0",
        "'x'::integer",
        f"error({_CELL})",
        f"({_CELL})::date",
        f"case when i = 2 then ({_CELL})::int else 1 end",
        _CELL,
    ),
]
"""Expressions of every type that DuckDB has, and some that fail as they are run; `i` counts the rows."""


@st.composite
def parquet_queries(draw: st.DrawFn, columns: tuple[str, ...]) -> str:
    """Give a query whose result is written as Parquet."""
    exprs = [draw(st.sampled_from(["'k' || i", "i", *SQL])), *(draw(st.sampled_from(SQL)) for _ in columns[1:])]
    named = [f'{expr} as "{name}"' for expr, name in zip(exprs, columns, strict=True)]
    if draw(st.integers(0, 5)) == 0:
        named.pop(draw(st.integers(0, len(named) - 1)))
    named += draw(st.sampled_from([[], [], [f"{_CELL} as other"]])) or ([] if named else ["1 as x"])
    rows = draw(
        st.sampled_from(["(values (1))", "(values (1), (2))", "(values (1), (2), (3), (2))", "(select 1 where false)"])
    )
    return f"select {', '.join(named)} from {rows} t(i)"


def parquet_of(query: str, path: Path) -> bool:
    """Write what a query gives; False where Parquet cannot hold it, or the query fails by itself."""
    try:
        with duckdb.connect() as db:
            db.execute(f"copy ({query}) to '{path}' (format parquet)")
    except duckdb.Error:
        return False
    return True


@st.composite
def changed_sql(draw: st.DrawFn, columns: tuple[str, ...]) -> str:
    """Give an `sql` of a job: a query of odd values, or one with pieces put in that should not be there."""
    query = draw(parquet_queries(columns))
    if draw(st.booleans()):
        return query
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(query)))
        query = query[:at] + draw(st.sampled_from(_PIECES) | TEXTS) + query[at + draw(st.integers(0, 5)) :]
    return query


_PIECES = [
    *(
        ";",
        "; drop table audience",
        " -- ",
        "/*",
        "'",
        '"',
        "$$",
        "?",
        "$1",
        "(",
        ")",
        " from 'stores.csv'",
        " from 'no.csv'",
    ),
    *(
        " from 'https://example.com/a.csv'",
        " from read_csv('/etc/passwd')",
        " union all select 1",
        " order by 1",
        " limit 0",
    ),
    *("with r as (select 1) ", " from glob('*')", " pragma version", "copy ", "select ", " where getenv('HOME') <> ''"),
    *(
        "(" * 300,
        "(" * 5000,
        "-" * 3000,
        "select * from (" * 50,
        " group by all",
        " using sample 1",
        " qualify true",
        "::json",
    ),
]


def packed(whole: bytes, cut: int, flip: int) -> bytes:
    """Pack as gzip, and spoil it: cut off the end, or turn a byte around."""
    out = bytearray(gzip.compress(whole, mtime=0))
    if flip and len(out) > 10:
        out[10 + flip % (len(out) - 10)] ^= 0x55
    return bytes(out[: len(out) - cut] if cut else out)
