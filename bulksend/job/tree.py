"""The tables of a job file as written, with their variables filled in; what is wrong with them is gathered."""

from __future__ import annotations

from collections.abc import Mapping

from bulksend.fields import Fault
from bulksend.job.command import COMMAND, as_word
from bulksend.job.template import placeholders, substitute_vars, unescape
from bulksend.providers.base import SEGMENT

__all__ = ["Tree", "has_columns"]

INTEGER_MOST = 2**63
"""What TOML has, and what JSON, the ledger and the vendors can take."""


class Tree:
    """Reads tables by name; `faults` is what was found to be wrong, in reading order."""

    def __init__(self, tree: dict[str, object]) -> None:
        self.tree = tree
        self.faults: list[Fault] = []
        self.loose: set[str] = set()
        """Dotted paths whose value came from a variable, so that a number may stand as text."""
        self.of_segment: list[str] = []
        """Paths of the texts that name the job's segment."""

    def fill_in(self, variables: Mapping[str, str]) -> None:
        """Fill in every `${var.NAME}`, and `${segment.id}` where the file says what it is."""
        self.tree = {name: self._fill(value, name, variables) for name, value in self.tree.items()}
        segment = self.tree.get("segment")
        given = segment.get("id") if isinstance(segment, Mapping) else None
        if isinstance(given, str | int) and not isinstance(given, bool) and not has_columns(given):
            for path in self.of_segment:
                self.loose.add(path)
            self.tree = {name: _with_segment(value, given) for name, value in self.tree.items()}

    def fault(self, path: str, text: str) -> None:
        self.faults.append(Fault(path, text))

    def _fill(self, value: object, path: str, variables: Mapping[str, str]) -> object:
        """Fill in `${var.X}` everywhere."""
        if isinstance(value, str):
            in_account = path.startswith("account.")
            given = variables
            if in_account and value.startswith(COMMAND):
                given = {name: as_word(text) for name, text in variables.items()}
            try:
                filled = substitute_vars(value, given)
            except ValueError as wrong:
                self.fault(path, str(wrong))
                return value
            if in_account and filled.startswith(COMMAND) and not value.startswith(COMMAND):
                self.fault(path, "a command stands in the job file itself: a variable cannot bring one")
                return value
            if SEGMENT in filled:
                self.of_segment.append(path)
            elif filled != value:
                self.loose.add(path)
            return filled
        if isinstance(value, Mapping):
            return {
                name: self._fill(item, f"{path}.{name}" if path else name, variables) for name, item in value.items()
            }
        if isinstance(value, list):
            return [self._fill(item, path, variables) for item in value]
        if isinstance(value, int) and not -INTEGER_MOST <= value < INTEGER_MOST:
            self.fault(path, "is past what a whole number can be: 64 bits")
            return 1  # of which nothing more is told
        return value

    def plain(self, value: object, path: str) -> object:
        """Return a value in which no column may stand, with `$${` turned into `${`."""
        if isinstance(value, str):
            try:
                names = placeholders(value)
            except ValueError:
                return value  # told by _fill
            if names and not any(name.startswith("var.") for name in names):
                self.fault(path, f"${{{names[0]}}} cannot stand here: only ${{var.NAME}} can")
            return unescape(value)
        if isinstance(value, Mapping):
            return {name: self.plain(item, f"{path}.{name}") for name, item in value.items()}
        if isinstance(value, list):
            return [self.plain(item, path) for item in value]
        return value

    def table(self, name: str) -> dict[str, object] | None:
        value = self.tree.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self.fault(name, f"must be a table: write [{name}]")
            return None
        return dict(value)

    def loose_in(self, table: str) -> set[str]:
        prefix = f"{table}."
        return {path.removeprefix(prefix).partition(".")[0] for path in self.loose if path.startswith(prefix)}


def _with_segment(value: object, segment_id: str | int) -> object:
    """Put the id in place of its mark: as it is where it stands alone, so that a number stays one."""
    if isinstance(value, str):
        return segment_id if value == SEGMENT else value.replace(SEGMENT, str(segment_id))
    if isinstance(value, Mapping):
        return {name: _with_segment(item, segment_id) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_segment(item, segment_id) for item in value]
    return value


def has_columns(value: object) -> bool:
    """Say whether a `${column}` stands anywhere in the value."""
    if isinstance(value, str):
        try:
            return any(not name.startswith("var.") for name in placeholders(value))
        except ValueError:
            return False
    if isinstance(value, Mapping):
        return any(has_columns(item) for item in value.values())
    return isinstance(value, list) and any(has_columns(item) for item in value)
