"""Something happens to a run in its middle; what was acknowledged until then is held against what comes after."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import bulksend
from bulksend.event import Event, EventName
from tests.end_to_end.vendor import JobFolder, Vendor

AT_ONCE = '[limits]\n"insider.launch" = "300/s"\n'
VENDOR = ("--limit", "insider.launch=5000/s", "--latency", "20ms±10ms", "--campaign", "1")


class Outage:
    """A job of which one run meets with something; `accepted` are the keys that the run told of as accepted."""

    def __init__(self, path: Path, vendor: Vendor, rows: int = 100) -> None:
        self.vendor = vendor
        self.folder = JobFolder(path, vendor, rows=rows, extra=AT_ONCE)
        self.folder.edit('[create]\ntitle = "sale"\nlanguage = "en_GB"\n', "")
        self.folder.edit("[launch]", "[launch]\ncampaign_id = 1")
        self.ledger = path / "bulksend.db"
        self.rows = rows
        self.accepted: set[str] = set()

    def run(self, happens: Callable[[], object] | None = None, *, after: int = 0) -> bulksend.Report:
        """Run the job in this process; with `after` accepted sends, something `happens`."""

        def observe(event: Event) -> None:
            nonlocal happens
            if event.name is EventName.SEND_ACCEPTED and event.key is not None:
                self.accepted.add(event.key)
            begun = event.name in (EventName.RUN_STARTED, EventName.SEND_ACCEPTED)
            if happens is not None and begun and len(self.accepted) >= after:
                what, happens = happens, None
                what()

        with mock.patch.dict(os.environ, self.folder.env):
            return bulksend.run(self.folder.file, observers=[observe])

    def goes_on(self) -> None:
        """Run to the end, where nothing is in the way any more: nothing is doubled, and nothing was lost."""
        with mock.patch.dict(os.environ, self.folder.env):
            report = bulksend.run(self.folder.file)
        launches = self.vendor.launches()
        assert max(launches.values()) == 1
        assert report.accepted + report.unknown == self.rows
        assert report.rejected == report.pending == 0
        assert report.accepted <= len(launches) <= report.accepted + report.unknown
        assert self.accepted <= set(launches)
        unknown = {one.key for one in report.failures}
        assert not self.accepted & unknown, "what was told as accepted is so no more"


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes: every write past it fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
