"""What stands before the first write, and the hash that lets one difference pass once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.segments import (
    ADD,
    CREATE,
    DELETE,
    DESIRED,
    GET,
    LAUNCH,
    QUERY,
    SEGMENT,
    TARGET,
    Liar,
    Stream,
    figures,
    files_beside,
    numbered,
    segment_job,
    write_ids,
)
from tests.end_to_end.vendor import Done, Folder

HUNDRED = numbered(range(100))


@pytest.fixture(scope="module")
def vendor() -> Iterator[Stream]:
    """Give one emulator to all tests here; each has segments of its own."""
    with Stream() as running:
        yield running


class Case:
    """One segment with a hundred targets, and a job for it."""

    def __init__(self, path: Path, vendor: Stream, desired: list[str], *, guard: str = "", **more: Any) -> None:
        self.vendor = vendor
        self.name = path.name
        self.desired = desired
        vendor.make(self.name)
        vendor.put(HUNDRED, self.name)
        text = TARGET.replace(SEGMENT, self.name) + DESIRED + (f"[guard]\n{guard}\n" if guard else "")
        self.folder: Folder = segment_job(path, vendor, desired, text=text, **more)

    def writes(self) -> tuple[int, int]:
        return self.vendor.calls(ADD), self.vendor.calls(DELETE)

    def targets(self) -> list[str]:
        return self.vendor.targets(self.name)

    def refused(self, *arguments: str) -> Done:
        """Run, and see that it is refused and that nothing was written."""
        was, held = self.writes(), self.targets()
        done = self.folder.run(*arguments)
        assert done.code == 4, done.err
        assert done.json["state"] == "refused"
        assert self.writes() == was
        assert self.targets() == held
        return done


GUARDS = {
    "remove-share": ('max_remove = "10%"', HUNDRED[11:], "max_remove: 11 of 100 targets would be removed (11.0%)"),
    "remove-count": ("max_remove = 5", HUNDRED[6:], "max_remove: 6 of 100 targets"),
    "remove-either": ('max_remove = "50%, 5"', HUNDRED[6:], "at most 50%, 5 are allowed"),
    "add-share": ('max_add = "10%"', numbered(range(111)), "max_add: 11 targets would be added to 100"),
    "add-count": ("max_add = 5", numbered(range(106)), "max_add: 6 targets would be added to 100"),
    "empty": ("", [], "allow_empty: the desired list has no ids"),
}


@pytest.mark.parametrize("name", GUARDS)
def test_a_guard_refuses_with_the_numbers_and_a_hash(vendor: Stream, tmp_path: Path, name: str) -> None:
    guard, desired, text = GUARDS[name]
    case = Case(tmp_path, vendor, desired, guard=guard)
    done = case.refused()
    removed, added = len(set(HUNDRED) - set(desired)), len(set(desired) - set(HUNDRED))
    assert figures(done) == [100, len(desired), added, removed]
    assert done.json["segment"]["applied"] is False
    found = done.json["segment"]["hash"]
    for word in (text, found, f"+{added} -{removed}"):
        assert word in done.json["error"]
        assert word in done.err
    if name in ("remove-share", "add-count", "empty"):
        passed = case.folder.run("--apply", found)
        assert passed.code == 0, passed.err
        assert case.targets() == desired
        assert passed.json["segment"]["applied"] is True
        assert passed.json["segment"]["hash"] == found


def test_a_hash_lets_its_difference_pass_once(vendor: Stream, tmp_path: Path) -> None:
    desired = numbered(range(50, 110))
    case = Case(tmp_path, vendor, desired, guard='max_remove = "10%"\nmax_add = 5')
    planned = case.folder.command("plan", "job.toml", "--json")
    assert planned.code == 0, planned.err
    for text in ("max_remove: 50 of 100 targets", "max_add: 10 targets"):
        assert any(text in warning and "a run is refused" in warning for warning in planned.json["warnings"])
    assert not (tmp_path / "bulksend.db").exists()
    wrong = case.refused("--apply", "0123456789abcdef")
    found = wrong.json["segment"]["hash"]
    assert found == planned.json["segment"]["hash"]
    for text in ("the difference is another one now", "max_remove", "max_add", found):
        assert text in wrong.err

    passed = case.folder.run("--apply", found)
    assert passed.code == 0, passed.err
    assert case.targets() == desired
    assert files_beside(case.folder) == []

    # The same difference stands there again: a slip of the same kind is not let through by a line in a script.
    vendor.put(set(HUNDRED) - set(desired), case.name)
    vendor.take(set(desired) - set(HUNDRED), case.name)
    again = case.refused("--apply", found)
    other = again.json["segment"]["hash"]
    assert other != found
    assert "the difference is another one now" in again.err
    # That is no dead end: by the hash that the refusal names, which plan names too, a person lets it pass once more.
    assert f"--apply {other} lets exactly this one pass, once" in again.err
    assert case.folder.command("plan", "job.toml", "--json").json["segment"]["hash"] == other
    assert case.folder.run("--apply", other).code == 0
    assert case.targets() == desired


def test_what_a_guard_allows_passes_at_its_very_edge(vendor: Stream, tmp_path: Path) -> None:
    desired = numbered(range(10, 110))
    case = Case(tmp_path, vendor, desired, guard='max_remove = "10%, 10"\nmax_add = "10%, 10"')
    done = case.folder.run()
    assert done.code == 0, done.err
    assert figures(done) == [100, 100, 10, 10]
    assert case.targets() == desired


def test_an_empty_list_empties_the_segment_where_that_is_allowed(vendor: Stream, tmp_path: Path) -> None:
    case = Case(tmp_path, vendor, [], guard="allow_empty = true")
    done = case.folder.run()
    assert done.code == 0, done.err
    assert case.targets() == []


def test_a_list_that_lost_half_since_the_last_run_is_refused(vendor: Stream, tmp_path: Path) -> None:
    case = Case(tmp_path, vendor, HUNDRED)
    assert case.folder.run().code == 0
    write_ids(case.folder, HUNDRED[:49])
    done = case.refused()
    assert "max_shrink: the desired list has 49 ids, 51.0% less than the 100 of the last run" in done.err
    assert figures(done) == [100, 49, 0, 51]
    found = done.json["segment"]["hash"]
    assert case.folder.run("--apply", found).code == 0
    assert case.targets() == HUNDRED[:49]
    # From now on 49 is what the next list is held against; and the word of [guard] counts.
    case.folder.edit(DESIRED, f'{DESIRED}[guard]\nmax_shrink = "0%"\n')
    write_ids(case.folder, HUNDRED[:48])
    assert "than the 49 of the last run; at most 0% less are allowed" in case.refused().err


def test_a_hash_is_for_that_difference_alone_even_without_a_guard(vendor: Stream, tmp_path: Path) -> None:
    case = Case(tmp_path, vendor, HUNDRED[:90])
    done = case.refused("--apply", "0123456789abcdef")
    assert "the difference is another one now" in done.err
    first = done.json["segment"]["hash"]
    calls = vendor.all_calls()
    assert case.folder.run("--apply", "nonsense").code == 2
    assert vendor.all_calls() == calls
    # Another difference of the same size has another hash.
    write_ids(case.folder, HUNDRED[:89] + HUNDRED[90:91])
    second = case.refused("--apply", first).json["segment"]
    assert second["removed"] == 10
    assert second["hash"] != first
    # So has one that others have changed since it was refused; a refusal leaves no file.
    assert files_beside(case.folder) == []
    vendor.put(["zz"], case.name)
    third = case.refused("--apply", second["hash"]).json["segment"]
    assert third["removed"] == 11
    assert case.folder.run("--apply", third["hash"]).code == 0


def test_another_number_of_targets_than_the_vendor_reports_is_refused(vendor: Stream, tmp_path: Path) -> None:
    def lie(path: str, asked: Any, forward: Any) -> Any:
        answer = forward(asked)
        if asked is None and path.endswith(f"/segments/{tmp_path.name}"):
            answer["segment"]["size"] = 110
        return answer

    with Liar(vendor, lie) as liar:
        case = Case(tmp_path, vendor, HUNDRED[:99], base_url=liar.url)
        done = case.refused()
        assert "size: 100 targets were read, and the vendor says that there are 110" in done.err
        passed = case.folder.run("--apply", done.json["segment"]["hash"])
        assert passed.code == 0, passed.err
        assert case.targets() == HUNDRED[:99]


def test_a_refused_guard_makes_no_launch(vendor: Stream, tmp_path: Path) -> None:
    case = Case(tmp_path, vendor, HUNDRED[:50], guard='max_remove = "10%"\n' + LAUNCH)
    launches = vendor.calls(CREATE)
    done = case.refused()
    assert set(done.json["endpoints"]) == {GET, QUERY}
    assert done.sends == {"total": 1, "accepted": 0, "rejected": 0, "unknown": 0, "pending": 1}
    assert vendor.calls(CREATE) == launches
    passed = case.folder.run("--apply", done.json["segment"]["hash"])
    assert passed.code == 0, passed.err
    assert vendor.calls(CREATE) == launches + 1
    assert vendor.effects(CREATE)[-1]["body"]["segment_ids"] == [case.name]
