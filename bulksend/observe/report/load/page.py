"""The page of a load test: its parts in order."""

from __future__ import annotations

from bulksend.observe.report import lists as shared
from bulksend.observe.report.frame import foot, frame, job_file
from bulksend.observe.report.load import lists, pictures
from bulksend.observe.report.load.facts import LoadFacts
from bulksend.observe.report.load.headline import headline
from bulksend.observe.report.tables import section

__all__ = ["LOAD_MARK", "load_page"]

LOAD_MARK = "<!doctype html><!-- bulksend load test -->"
"""How every page of a load test begins. A job's report begins otherwise: it can be made again, a load test cannot."""
FEW = "<p class=note>Too few calls left for a picture: it would rather show when the test began and ended.</p>"


def load_page(facts: LoadFacts) -> str:
    """Return the whole page."""
    figures = facts.figures
    over_time = pictures.over_time(facts)
    from_due = "<p class=note>From when the calls were due.</p>"
    parts = [
        headline(facts),
        lists.thresholds(figures),
        lists.limit(facts),
        over_time or FEW,
        section("latency", "Latency", pictures.distribution(facts), lists.percentiles(facts)),
        section(
            "outcomes",
            "Outcomes and answers",
            pictures.outcomes(facts),
            lists.reasons(figures),
            shared.answers(figures.statuses),
        ),
        lists.proof(figures),
        shared.slowest(facts.slowest, note=from_due),
        job_file(facts.job_file, facts.job_text),
        foot(facts.made_at, facts.versions),
    ]
    return frame(LOAD_MARK, f"{figures.job}: load test", parts)
