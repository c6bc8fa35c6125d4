"""What a comparison has found: ids to add and to remove, in lines of a file, and the hash that names all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

__all__ = ["SAMPLES", "Difference", "Line", "Mark", "Tally", "of_kind"]

SAMPLES = 3
_WIDTH = 1 << 128


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a span of the segment has been read, at the end of one of its pages."""

    pages: int
    count: int
    """Targets so far; one that came by twice counts once where the order shows it."""
    last: str | None = None
    """The greatest id so far, where pages are in order."""
    following: str | None = None
    """The vendor's cursor for the next page; None when the span has been read to its end."""
    unnamed: int = 0


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of what was found; `mark` is set on the last line of each page."""

    add: Sequence[str] = ()
    remove: Sequence[str] = ()
    ids: Sequence[str] = ()
    """The page as it is, where it cannot be compared before the last one has been read."""
    mark: Mark | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Both sides in numbers, and what has to change; two differences of the same ids have the same hash."""

    remote: int
    """Targets that the segment holds."""
    desired: int
    added: int
    """Ids that it lacks."""
    removed: int
    """Targets that it should not hold."""
    hash: str
    sizes: tuple[int | None, int | None] = (None, None)
    """What the vendor said of its size, before and after it was read."""
    unnamed: int = 0
    """Targets that have no id of the kind that is compared."""
    is_absent: bool = False
    """Whether there is no segment yet."""
    add_samples: tuple[str, ...] = ()
    remove_samples: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Say whether nothing has to change."""
        return not self.added and not self.removed


class Tally:
    """Counts and hashes lines as they pass by, in whatever order they come."""

    def __init__(self) -> None:
        self.added = 0
        self.removed = 0
        self.add_samples: list[str] = []
        self.remove_samples: list[str] = []
        self._sums = [0, 0]

    def watch(self, lines: Iterable[Line]) -> None:
        """Take in all lines."""
        for line in lines:
            self.added += len(line.add)
            self.removed += len(line.remove)
            for side, ids, samples in ((0, line.add, self.add_samples), (1, line.remove, self.remove_samples)):
                # A sum does not depend on the order, which differs with the pages and with the way of comparing.
                self._sums[side] += sum(map(_number, ids))
                if len(samples) < SAMPLES:
                    samples.extend(ids[: SAMPLES - len(samples)])

    def hash(self, *names: str) -> str:
        """Return sixteen hexadecimal digits for exactly these changes of what `names` say."""
        text = "\0".join((*names, *(f"{one % _WIDTH:x}" for one in self._sums), str(self.added), str(self.removed)))
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _number(one: str) -> int:
    return int.from_bytes(hashlib.blake2b(one.encode("utf-8", "surrogatepass"), digest_size=16).digest())


def of_kind(lines: Iterable[Line], *, add: bool) -> Iterator[Sequence[str]]:
    """Return the ids to add, or those to remove, piece by piece."""
    for line in lines:
        ids = line.add if add else line.remove
        if ids:
            yield ids
