"""A TOML file, and where each key stands in it: the parser of the standard library does not say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from bulksend.errors import JobError, Problem

__all__ = ["key_lines", "read_toml"]

_HEADER = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[\w-]+))*)\s*=""")
_PART = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([\w-]+))\s*\.?""")
_INNER_KEY = re.compile(r"""[{,]\s*((?:"[^"]*"|'[^']*'|[\w-]+))\s*=""")


def _dotted(text: str) -> str:
    return ".".join(part[1] or part[2] or part[3] or "" for part in _PART.finditer(text))


def key_lines(text: str) -> dict[str, int]:
    """Return the line, from 1, of each table and key by dotted path; `text` must be valid TOML.

    Texts over several lines and arrays over several lines are stepped over; a key of an inline table has its own line.
    """
    lines: dict[str, int] = {}
    table, current = "", ""
    depth, quote = 0, None
    for number, line in enumerate(text.split("\n"), 1):
        if depth == 0 and quote is None:
            if header := _HEADER.match(line):
                table = _dotted(header[1])
                lines.setdefault(table, number)
                continue
            if key := _KEY.match(line):
                current = ".".join(filter(None, (table, _dotted(key[1]))))
                lines.setdefault(current, number)
        if quote is None:
            for inner in _INNER_KEY.finditer(line):
                lines.setdefault(f"{current}.{_dotted(inner[1])}", number)
        depth, quote = _after(line, depth, quote)
    return lines


def _long_end(line: str, at: int, quote: str) -> int:
    """Return where a long text ends in this line, -1 when it goes on; a backslash takes the next character with it."""
    while at < len(line):
        if line.startswith(quote, at):
            return at
        at += 2 if quote == '"""' and line[at] == "\\" else 1
    return -1


def _after(line: str, depth: int, quote: str | None) -> tuple[int, str | None]:
    """Follow brackets and quotes through one line; return the depth and the open long quote at its end."""
    at = 0
    while at < len(line):
        if quote is not None:
            end = _long_end(line, at, quote)
            if end < 0:
                return depth, quote
            at, quote = end + 3, None
            continue
        char = line[at]
        if line.startswith(('"""', "'''"), at):
            quote, at = line[at : at + 3], at + 3
            continue
        if char in "\"'":
            at += 1
            while at < len(line) and line[at] != char:
                at += 2 if char == '"' and line[at] == "\\" else 1
        elif char == "#":
            break
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
        at += 1
    return max(depth, 0), quote


def read_toml(path: Path) -> tuple[dict[str, object], dict[str, int]]:
    """Return a file's tables, and the line of each key by its dotted path. Raises JobError for what cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise JobError(Problem("there is no such job file", file=str(path))) from None
    except IsADirectoryError:
        raise JobError(Problem("is a directory, not a job file", file=str(path))) from None
    except OSError as wrong:
        raise JobError(Problem(f"cannot be read: {wrong.strerror}", file=str(path))) from None
    except UnicodeDecodeError:
        raise JobError(Problem("is not UTF-8 text", file=path.name)) from None
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as wrong:
        # Python's own words where a number has more digits than it reads.
        said = "a number is too long" if isinstance(wrong, ValueError) else "nested too deeply"
        said = str(wrong) if isinstance(wrong, tomllib.TOMLDecodeError) else said
        at = re.search(r"\(at line (\d+), column (\d+)\)", said)
        line = int(at[1]) if at else (len(text.splitlines()) or 1)
        what = re.sub(r"\s*\(at .*\)$", "", said)
        raise JobError(Problem(f"not valid TOML: {what[:1].lower() + what[1:]}", file=path.name, line=line)) from None
    return tree, key_lines(text)
