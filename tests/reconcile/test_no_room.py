"""A full disk under the working files of a reconciliation: said plainly, and what was finished is still there."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulksend.errors import RunError
from bulksend.reconcile.difference import Line, Mark
from bulksend.reconcile.journal import Journal, StateFile
from tests.end_to_end.outage import small_files


def page(number: int) -> list[Line]:
    return [Line(add=[f"user-{number}-{one}" for one in range(50)]), Line(mark=Mark(pages=number, count=50 * number))]


def test_a_journal_keeps_its_finished_pages(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.open()
    journal.append(page(1))
    with small_files(path.stat().st_size + 100):
        with pytest.raises(RunError, match=r"journal cannot be read or written: .*; run again to go on"):
            journal.append(page(2))
        journal.close()
    again = Journal(path)
    again.open()
    assert again.mark == Mark(pages=1, count=50)
    again.append(page(2))
    again.close()
    assert [line for line in again.lines() if line.mark is not None] == [page(1)[1], page(2)[1]]


def test_a_state_stays_what_it_was(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "state", Mark)
    state.write(Mark(pages=1, count=50))
    with small_files(5), pytest.raises(RunError, match=r"state cannot be read or written: .*; run again to go on"):
        state.write(Mark(pages=2, count=100))
    assert state.read() == Mark(pages=1, count=50)
