"""A folder for what must reach a disk: on a file system that is in memory, being durable costs nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["scratch"]

_IN_MEMORY = {"tmpfs", "ramfs"}


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder that goes again: where temporary files go, or else in /var/tmp or here, whichever is on a disk.

    `TMPDIR` says where to look first.
    """
    places = [Path(place).resolve() for place in (tempfile.gettempdir(), "/var/tmp", ".")]
    place = next(
        (place for place in places if _file_system(place) not in _IN_MEMORY and os.access(place, os.W_OK)), None
    )
    if place is None:
        raise SystemExit(f"nothing of {', '.join(map(str, places))} is on a disk: name a folder that is by TMPDIR")
    with tempfile.TemporaryDirectory(prefix="bulksend-", dir=place) as folder:
        yield Path(folder)


def _file_system(path: Path) -> str:
    """Return the kind of file system that holds a path; nothing where Linux's list of mounts is missing."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return ""
    # The deepest mount holds it, and of several at one place the last.
    holding = [mount for mount in mounts if path.is_relative_to(mount[1])]
    return max(holding, key=lambda mount: len(Path(mount[1]).parts))[2] if holding else ""
