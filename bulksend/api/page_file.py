"""A page as a file: where it may go, what it says of the job file, and how it gets there whole."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from bulksend.api.run import JobSource
from bulksend.errors import JobError, Problem, RunError
from bulksend.observe.report import masked, masked_tree
from bulksend.providers import PROVIDERS

__all__ = ["job_text", "need_pictures", "page_path", "page_versions", "write_page"]


def need_pictures() -> None:
    """Raise JobError with the command that installs matplotlib, where it is not there."""
    if find_spec("matplotlib") is None:
        raise JobError("a report needs matplotlib: pip install 'bulksend[report]'")


def job_text(source: JobSource) -> str:
    """Return the job file, or the tables of a job made in code, without secrets."""
    secrets = {name for provider in PROVIDERS.values() for name in provider.account_secrets}
    if isinstance(source, Mapping):
        return json.dumps(masked_tree(source, secrets), indent=2, ensure_ascii=False, default=str)
    return masked(Path(source).read_bytes().decode("utf-8-sig"), secrets)


def page_versions() -> dict[str, str]:
    """Return what a page is made with."""
    return {
        "bulksend": metadata.version("bulksend"),
        "Python": platform.python_version(),
        "matplotlib": metadata.version("matplotlib"),
    }


def page_path(output: str | os.PathLike[str], mark: str) -> Path:
    """Return where a page goes; JobError where something else stands there, also a page that begins otherwise."""
    path = Path(output).absolute()
    if path.is_dir():
        raise JobError(Problem("is a directory, not a file to write to", file=str(path)))
    if path.exists() and not path.is_file():
        raise JobError(Problem("is no file to write to", file=str(path)))  # a pipe would be waited for, or replaced
    if path.is_symlink():
        path = path.resolve()  # where it leads to is written, and the link stays
    if not path.parent.is_dir():
        raise JobError(Problem("there is no such directory", file=str(path.parent)))
    if path.exists():
        try:
            with path.open("rb") as file:
                start = file.read(len(mark))
        except OSError as wrong:
            raise JobError(Problem(f"cannot be read: {wrong.strerror}", file=str(path))) from None
        if start not in (b"", mark.encode()):
            raise JobError(Problem("is there already and is no report: it is not written over", file=str(path)))
    return path


def write_page(path: Path, text: str) -> None:
    """Put the whole file in place at once, readable by its owner only; RunError where the disk does not take it."""
    try:
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as wrong:
        raise RunError(f"the report {path} cannot be written: {wrong.strerror}") from None
