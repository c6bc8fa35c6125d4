"""A file that a person asked for: nothing that the job reads, for that person alone, whole or not there."""

from __future__ import annotations

import fnmatch
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from bulksend.errors import JobError, Problem, RunError
from bulksend.job.spec import Job
from bulksend.job.tables import ENDINGS

__all__ = ["check_out", "kind_of_out", "whole_file"]


def _wrong(text: str) -> JobError:
    return JobError(Problem(text, field="--out"))


def kind_of_out(out: Path, kind: str) -> str:
    """Return which kind of file is asked for; raises JobError for one that an audience of this kind is not."""
    wanted = [ending for ending, its in ENDINGS.items() if kind in (its, "sql")]
    found = next((ending for ending in wanted if out.name.lower().endswith(ending)), None)
    if found is None:
        what = "an audience's endings" if kind == "sql" else "the audience's own format, so that no value changes"
        raise _wrong(f"{out} must end in {' or '.join(wanted)}: {what}")
    return ENDINGS[found]


def check_out(job: Job, out: Path, ledger: Path, files: Iterable[Path]) -> Path:
    """Return where to write; raises JobError where that cannot be, or would cost the job a file that it reads.

    `files` are those of the audience. Also refused is what a glob of the job would take up in its next run.
    """
    path = Path(os.path.realpath(out))
    try:
        if path.exists() and not path.is_file():
            raise _wrong(f"{out} is not a file")
    except OSError as wrong:
        raise _wrong(f"{out} cannot be written: {wrong.strerror}") from None
    if not path.parent.is_dir():
        raise _wrong(f"{out} cannot be written: there is no folder {path.parent}")
    # By a link, a name that ends as an audience's does may lead to any of these.
    beside = (ledger.with_name(f"{ledger.name}-{part}") for part in ("wal", "shm", "journal"))
    others = [*files, *_secrets(job), job.path, ledger, *beside]
    same = path.exists() and any(one.exists() and one.samefile(path) for one in others)
    if same or any(fnmatch.fnmatch(str(path), pattern) or str(path) == pattern for pattern in _patterns(job)):
        raise _wrong(f"{out} is read by the job: name another file, or another folder")
    return path


def _secrets(job: Job) -> Iterator[Path]:
    for account in job.accounts.values():
        for source in account.secrets.values():
            if source.startswith("file:"):
                yield job.base_dir / source.removeprefix("file:")


def _patterns(job: Job) -> Iterator[str]:
    """Yield what the job reads, by name or glob, in SQL too."""
    for table in (job.audience, job.desired):
        if table is None:
            continue
        quoted = re.findall(r"'((?:[^']|'')+)'|\"([^\"]+)\"", table.sql or "")
        for name in (table.source, *(one or other for one, other in quoted)):
            # `**` is any number of folders, none too.
            for written in {name, name.replace("**/", "")} if name else ():
                yield os.path.realpath(job.base_dir / written)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Give a stream to a file beside `path` that takes its place once all went well; of anything else, nothing stays.

    Readable by its owner alone. Raises RunError where the disk does not take it.
    """
    made: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        made = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        made.replace(path)
        made = None
    except OSError as wrong:
        raise RunError(f"{path} cannot be written: {wrong.strerror}") from None
    finally:
        if made is not None:
            with suppress(OSError):
                made.unlink()
