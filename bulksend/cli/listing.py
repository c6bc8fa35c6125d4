"""Sends and audit entries on stdout, one by one as they are drawn: a million of them is never in memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from bulksend.cli.printing import at_local, plain

if TYPE_CHECKING:
    from bulksend.api.dead_letters import DeadLetters
    from bulksend.api.listing import AuditEntry, SendStatus

__all__ = ["audit_line", "out_lines", "print_json_with", "send_line"]

MISSING_SHOWN = 10


class _Listed(Protocol):
    def to_dict(self) -> dict[str, object]: ...


def print_json_with(data: Mapping[str, object], lists: Mapping[str, Iterable[_Listed]]) -> None:
    """Print one JSON object with lists in it that are drawn as they are printed."""
    write = sys.stdout.write
    write(json.dumps(data)[:-1])
    for name, items in lists.items():
        write(f", {json.dumps(name)}: [")
        for number, one in enumerate(items):
            write((", " if number else "") + json.dumps(one.to_dict()))
        write("]")
    write("}\n")
    sys.stdout.flush()


def send_line(one: SendStatus) -> str:
    """Tell what is known of a send."""
    status = "" if one.status is None or str(one.status) in (one.reason or "") else f" (HTTP {one.status})"
    attempts = f"{one.attempts} {'attempt' if one.attempts == 1 else 'attempts'}"
    parts = [f"{one.state:<8} {one.key}", f"row {one.row}", f"{one.reason or 'no reason is known'}{status}"]
    account = "" if one.account == "default" else f" account {one.account}"
    refs = f" refs {', '.join(one.refs)}" if one.refs else ""
    return plain("  ".join([*parts, f"[{one.step}{account}, {attempts}, {at_local(one.at)}{refs}]"]))


def audit_line(one: AuditEntry) -> str:
    """Tell who settled a send, and how."""
    said = f"{at_local(one.at)}  {one.by} on {one.host}  {one.key}  {one.frm} -> {one.to}  {one.reason or ''}"
    return plain(said.rstrip())


def out_lines(made: DeadLetters) -> Iterable[str]:
    """Tell what was written, and which rows it lacks."""
    yield f"{made.rows:,} rows of {made.sends:,} sends are in {made.path}"
    if made.missing:
        first = made.missing_keys[:MISSING_SHOWN]
        more = ", …" if made.missing > len(first) else ""
        rows = f"{made.missing:,} {'row is' if made.missing == 1 else 'rows are'}"
        yield f"warning: {rows} not in the audience any more, and not in the file: {plain(', '.join(first))}{more}"
