"""Keys of sends in a file: a table with the audience's key column, or a text with one key per line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bulksend.errors import JobError, Problem
from bulksend.job.spec import Job
from bulksend.job.tables import ENDINGS, MAX_LINE

__all__ = ["open_keys"]

BATCH = 1000


@contextmanager
def open_keys(path: str | os.PathLike[str], job: Job) -> Iterator[Callable[[], Iterator[list[str]]]]:
    """Give what yields the keys, in batches, from the first on each time that it is called; it blocks.

    A file that ends as an audience's does is read as one, so that the keys of CSV are text; any other has a key per
    line. Raises JobError for a file that cannot be read as what it is, and for a pipe, which cannot be read twice.
    """
    path = Path(path)
    if os.path.lexists(path) and not path.is_file() and not path.is_dir():
        text = "is no file: keys are looked at as a whole before the first is settled; write them to one"
        raise JobError(Problem(text, file=path.name, field="--file"))
    if not path.name.lower().endswith(tuple(ENDINGS)):
        yield lambda: _lines(path)
        return
    if job.audience is None:
        text = "the job has no [audience], hence no key column: name its one send by its key"
        raise JobError(Problem(text, file=path.name, field="--file"))
    from bulksend.job.audience import Audience

    with TemporaryDirectory(prefix="bulksend-") as scratch:
        whole = str(path.absolute())
        where = {"base_dir": path.absolute().parent, "scratch_dir": Path(scratch)}
        with Audience(source=whole, sql=None, key=job.audience.key, may_be_empty=True, **where) as table:
            yield lambda: table.keys(batch=BATCH)


def _lines(path: Path) -> Iterator[list[str]]:
    def wrong(text: str, line: int | None = None) -> JobError:
        return JobError(Problem(text, file=path.name, line=line, field="--file" if line is None else None))

    try:
        with path.open("rb") as file:
            batch: list[str] = []
            number = 0
            while raw := file.readline(MAX_LINE + 1):
                number += 1
                if len(raw) > MAX_LINE:
                    raise wrong("is longer than 1 MB", number)
                try:
                    key = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError:
                    raise wrong("is not UTF-8 text", number) from None
                if key and not key.isspace():
                    batch.append(key)
                if len(batch) == BATCH:
                    yield batch
                    batch = []
            if batch:
                yield batch
    except OSError as error:
        raise wrong(f"cannot be read: {error.strerror}") from None
