"""The ids of a difference in files that a person asked for, readable by that person alone."""

from __future__ import annotations

import csv
import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from bulksend.errors import JobError, Problem, RunError
from bulksend.job.spec import Job
from bulksend.reconcile.difference import Line, of_kind
from bulksend.reconcile.sync import Verified

__all__ = ["DiffFiles"]

NAMES = ("added.csv", "removed.csv", "differing.csv")


class DiffFiles:
    """`added.csv` and `removed.csv` in a folder, and `differing.csv` where a look at the result found something.

    Each has one column, `id`, in the order in which the ids were found; `differing.csv` says beside each whether it is
    missing or extra. Blocks; with no folder, nothing is written.
    """

    def __init__(self, folder: Path | None, job: Job) -> None:
        self._folder = folder
        self._job = job

    def open(self) -> None:
        """Make the folder where it is not there; raises JobError where that cannot be, or would cost the job a file."""
        if self._folder is None:
            return
        for name in NAMES:
            if self._is_read(self._folder.absolute() / name):
                text = f"{self._folder / name} is read by the job, and would be overwritten: name another folder"
                raise JobError(Problem(text, field="--diff-out"))
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as wrong:
            text = f"{self._folder} cannot be made: {wrong.strerror}"
            raise JobError(Problem(text, field="--diff-out")) from None

    def _is_read(self, path: Path) -> bool:
        """Say whether the job names the file: by itself, in a glob, or in SQL."""
        names: list[str] = []
        for table in (self._job.desired, self._job.audience):
            if table is not None and table.source is not None:
                names.append(table.source)
            if table is not None and table.sql is not None:
                names += [one or other for one, other in re.findall(r"'((?:[^']|'')+)'|\"([^\"]+)\"", table.sql)]
        there, base = os.path.realpath(path), self._job.base_dir
        # `**` is any number of folders, none too.
        patterns = [os.path.realpath(base / name) for name in (*names, *(one.replace("**/", "") for one in names))]
        return any(fnmatch.fnmatch(there, pattern) for pattern in patterns)

    def write(self, lines: Callable[[], Iterator[Line]]) -> None:
        """Write both sides of the difference, in place of what was written before."""
        if self._folder is not None:
            (self._folder / "differing.csv").unlink(missing_ok=True)
        self._write("added.csv", ("id",), ([one] for piece in of_kind(lines(), add=True) for one in piece))
        self._write("removed.csv", ("id",), ([one] for piece in of_kind(lines(), add=False) for one in piece))

    def write_left(self, verified: Verified) -> None:
        """Write what still differs, where anything does."""
        if verified.left:
            rows = [[one, "missing"] for one in verified.missing] + [[one, "extra"] for one in verified.extra]
            self._write("differing.csv", ("id", "state"), rows)

    def _write(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        if self._folder is None:
            return
        path = self._folder / name
        try:
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(columns)
                writer.writerows(rows)
        except OSError as wrong:
            raise RunError(f"{path} cannot be written: {wrong.strerror}") from None
