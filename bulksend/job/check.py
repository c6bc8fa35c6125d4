"""The look at the whole audience before the first call: every row checked, nothing kept but counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from bulksend.errors import Problem
from bulksend.job.bulk import Bulk
from bulksend.job.render import Renderer, chunk_key
from bulksend.job.template import is_blank
from bulksend.model import Send

__all__ = ["Checked", "Row", "check_rows", "in_chunks"]

PROBLEMS_MOST = 100
SAMPLES = 3

Row = Sequence[object]
Numbered = tuple[int, Row]


@dataclass(slots=True)
class Checked:
    """What the look found; `problems` holds the first hundred, `more` counts the rest."""

    rows: int = 0
    sends: int = 0
    size: tuple[int, int] | None = None
    """Rows and sends of the whole audience, where fewer were looked at."""
    problems: list[Problem] = field(default_factory=list)
    more: int = 0
    samples: list[Send] = field(default_factory=list)
    only_late: bool = True
    """False once something is wrong that was never right."""
    by_account: Counter[str] = field(default_factory=Counter)
    """Sends per account name."""

    def add(self, problems: Iterable[Problem]) -> None:
        """Note problems, up to the first hundred."""
        for problem in problems:
            self.only_late = self.only_late and problem.late
            if len(self.problems) < PROBLEMS_MOST:
                self.problems.append(problem)
            else:
                self.more += 1


def in_chunks(rows: Iterable[Numbered], size: int, account_of: Callable[[Row], str]) -> Iterator[list[Numbered]]:
    """Group rows into chunks of one account each, in order; the last of each account may be smaller."""
    opened: dict[str, list[Numbered]] = {}
    for row in rows:
        name = account_of(row[1])
        chunk = opened.setdefault(name, [])
        chunk.append(row)
        if len(chunk) == size:
            del opened[name]
            yield chunk
    yield from opened.values()


Note = Callable[[Send | None, list[Problem]], None]


def check_rows(
    renderer: Renderer, batches: Iterable[Sequence[Row]], *, with_secrets: bool, stopping: Callable[[], bool]
) -> Checked:
    """Look at every row; ends early when `stopping` says so."""
    checked = Checked()
    spec = renderer.job.audience
    static = renderer.static_problems()
    checked.add(static)
    told = {(problem.field, problem.text) for problem in static}  # once, and not for every row

    def note(send: Send | None, problems: list[Problem]) -> None:
        checked.sends += 1
        checked.add(problem for problem in problems if (problem.field, problem.text) not in told)
        if send is not None:
            checked.by_account[send.account.name] += 1
            if len(checked.samples) < SAMPLES:
                checked.samples.append(send)

    wanted = takewhile(lambda _: not stopping(), batches)
    if spec is not None and spec.chunk is not None:
        _check_chunks(renderer, checked, wanted, spec.chunk, note, with_secrets=with_secrets)
    else:
        _check_each(renderer, checked, wanted, note, with_secrets=with_secrets)
    return checked


def _check_chunks(
    renderer: Renderer,
    checked: Checked,
    batches: Iterable[Sequence[Row]],
    size: int,
    note: Note,
    *,
    with_secrets: bool,
) -> None:
    def numbered() -> Iterator[Numbered]:
        for batch in batches:
            for row in batch:
                checked.rows += 1
                yield checked.rows, row

    def name_of(row: Row) -> str:
        return renderer.account_name(row, with_secrets=with_secrets)

    for chunk in in_chunks(numbered(), size, name_of):
        key = chunk_key([str(row[0]) for _, row in chunk])
        first = chunk[0][0]
        send, problems = renderer.chunk(key, first, [row for _, row in chunk], with_secrets=with_secrets)
        if len(chunk) > 1 and problems:
            # Named by the row that is wrong, not by the chunk: each row is looked at alone.
            problems = [
                one
                for number, row in chunk
                for one in renderer.chunk(str(row[0]), number, [row], with_secrets=with_secrets)[1]
            ] or problems
        note(send, problems)


def _check_each(
    renderer: Renderer, checked: Checked, batches: Iterable[Sequence[Row]], note: Note, *, with_secrets: bool
) -> None:
    """Count the rows that are surely fine, and render the others; the first ones too, which are shown as samples."""
    bulk = Bulk(renderer)
    for batch in batches:
        closer = set(range(len(batch)))
        if len(checked.samples) == SAMPLES:
            for fine in bulk.fine(batch, with_secrets=with_secrets):
                closer.difference_update(fine.at)
                checked.sends += len(fine.at)
                checked.by_account[fine.account.name] += len(fine.at)
        for index in sorted(closer):
            if renderer.columns and is_blank(batch[index][0]):
                checked.sends += 1  # told by the look at all keys
            else:
                note(*renderer.send(checked.rows + index + 1, batch[index], with_secrets=with_secrets))
        checked.rows += len(batch)
