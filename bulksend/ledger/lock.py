"""One running process per job: an operating-system lock that dies with its holder."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

__all__ = ["FileLock"]

TRIES = 10
PAUSE_S = 0.02


class FileLock:
    """An exclusive lock on a file; its text names the holder. The file goes when the lock is given back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, holder: str) -> str | None:
        """Take the lock and return None, or return who holds it. Raises OSError when the file cannot be made."""
        tries = TRIES
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                said = os.pread(descriptor, 500, 0).decode("utf-8", "replace").strip()
                os.close(descriptor)
                tries -= 1
                if tries:
                    time.sleep(PAUSE_S)  # it may be somebody who only looks, for a moment
                    continue
                return said or "another process"
            # The holder before may have removed the file between our open and our lock: then it is nobody's.
            if self._is_current(descriptor):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, holder.encode(), 0)
                self._descriptor = descriptor
                return None
            os.close(descriptor)

    def holder(self) -> str | None:
        """Return who holds the lock now, None when nobody does."""
        try:
            descriptor = os.open(self._path, os.O_RDWR)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(descriptor, 500, 0).decode("utf-8", "replace").strip() or "another process"
        else:
            return None
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give the lock back; nothing happens when it is not held."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        if self._is_current(descriptor):
            self._path.unlink(missing_ok=True)
        os.close(descriptor)

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except OSError:
            return False
