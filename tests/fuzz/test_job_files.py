"""Job files that are wrong in any way: `plan` says so, `run` refuses them, and neither calls anybody."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fuzz.budget import fuzz
from tests.fuzz.conftest import Fuzzed
from tests.fuzz.odd import TEXTS, changed_text
from tests.fuzz.toml import JOBS, changed_jobs, toml_of

VARS = ("--var", "day=2026-04-01")


@fuzz(short=40, long=3_000, job=changed_jobs(), as_json=st.booleans())
def test_a_changed_job_file_is_refused_or_right(fuzzed: Fuzzed, job: tuple[str, bytes], as_json: bool) -> None:
    fuzzed.write("job.toml", job[1])
    said = fuzzed.judged_twice(*VARS, *(["--json"] if as_json else []))
    if as_json and said.code == 2:
        assert said.data["problems"]


@fuzz(
    short=10,
    long=500,
    job=st.sampled_from(JOBS),
    name=st.sampled_from(["day", "x", "var.day"]) | TEXTS,
    value=TEXTS | changed_text("2026-04-01"),
)
def test_variables_of_any_text(fuzzed: Fuzzed, job: dict[str, object], name: str, value: str) -> None:
    given = f"{name}={value}".replace("\0", "")  # no argument of a process holds one
    fuzzed.write("job.toml", "\n".join(f"{key} = {toml_of(item)}" for key, item in job.items()))
    fuzzed.judged_twice("--var", given)
