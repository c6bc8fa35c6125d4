"""What stands in files of one reconciliation: lines that only grow, and a state that is replaced as a whole.

A process that dies leaves whole lines and perhaps the beginning of one more, which is cut off when it is opened again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import msgspec

from bulksend.errors import RunError
from bulksend.reconcile.difference import Line, Mark

__all__ = ["Journal", "StateFile", "translated"]

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what the disk reports into a sentence."""
    try:
        yield
    except OSError as wrong:
        raise RunError(f"{path} cannot be read or written: {wrong.strerror}; run again to go on") from None


class Journal:
    """Lines in one file, each page of them ended by a line with a mark; blocks, one thread at a time.

    Of the pages that were finished, `mark` is the last one's, and `cursors` has the cursors of all.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self.mark: Mark | None = None
        self.cursors: set[int] = set()
        """Hashes of the cursors that the vendor gave: none may come twice."""

    def open(self) -> None:
        """Open the file, without what follows its last finished page; it is made where there is none."""
        with translated(self._path):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            self._file = os.fdopen(descriptor, "r+b")
            end = at = 0
            for raw in self._file:
                at += len(raw)
                line = _whole(raw)
                if line is None:
                    break
                if line.mark is not None:
                    end, self.mark = at, line.mark
                    if line.mark.following is not None:
                        self.cursors.add(hash(line.mark.following))
            self._file.truncate(end)
            self._file.seek(end)

    def append(self, lines: Iterable[Line]) -> None:
        """Add the lines of a page; they are on disk when this returns."""
        assert self._file is not None
        with translated(self._path):
            for line in lines:
                self._file.write(_encode(line) + b"\n")
                if line.mark is not None:
                    self.mark = line.mark
                    if line.mark.following is not None:
                        self.cursors.add(hash(line.mark.following))
            self._file.flush()
            os.fsync(self._file.fileno())

    def lines(self) -> Iterator[Line]:
        """Yield all lines from the beginning."""
        with translated(self._path), self._path.open("rb") as file:
            for raw in file:
                line = _whole(raw)
                if line is None:
                    return
                yield line

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                file.close()


def _whole(raw: bytes) -> Line | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class StateFile(Generic[T]):
    """One value in a file of its own, replaced as a whole."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        self._path = path
        self._decoder = msgspec.json.Decoder(kind)

    def read(self) -> T | None:
        """Return the value; None where there is none, or one that another version wrote."""
        try:
            return self._decoder.decode(self._path.read_bytes())
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        except OSError as wrong:
            raise RunError(f"{self._path} cannot be read: {wrong.strerror}") from None

    def write(self, value: T) -> None:
        """Replace the value; it is on disk when this returns."""
        with translated(self._path):
            beside = self._path.with_name(self._path.name + ".new")
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_encode(value))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
