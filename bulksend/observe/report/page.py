"""The page of a job and its runs: its parts in order."""

from __future__ import annotations

from bulksend.observe.report import lists, pictures
from bulksend.observe.report.facts import Facts
from bulksend.observe.report.frame import foot, frame, job_file
from bulksend.observe.report.headline import headline
from bulksend.observe.report.tables import section, table
from bulksend.observe.report.words import at, clipped, esc, number

__all__ = ["MARK", "page"]

MARK = "<!doctype html><!-- bulksend report -->"
"""How every report of a job begins: what does not is no report, and is not written over."""


def page(facts: Facts) -> str:
    """Return the whole page."""
    drawn = facts.drawn
    parts = [headline(facts)]
    if drawn is None:
        text = "No run of this job that was kept has made a call, so that there is nothing to draw."
        parts.append(f"<section><p>{text}</p></section>")
    else:
        if len(facts.runs) > 1:
            began = esc(at(drawn.history.began_at))
            text = f"The pictures show the last run that made calls, of {began}; the sends above are the whole job's."
            parts.append(f"<p class=note>{text}</p>")
        parts += [
            pictures.over_time(drawn),
            section(
                "outcomes",
                "Outcomes and answers",
                pictures.outcomes(drawn),
                lists.why_not(drawn.history.reasons),
                _campaigns(facts),
                lists.answers(drawn.history.statuses),
            ),
        ]
    parts += [lists.proof(facts), section("endpoints", "Endpoints", lists.made(facts)), lists.plan(facts)]
    parts.append(lists.segment(facts))
    parts.append(lists.failed(facts))
    if drawn is not None:
        parts += [lists.slowest(drawn.history.slowest), _latest(facts)]
    so_far = " while the job was running" if facts.is_running else ""
    parts += [
        lists.runs(facts),
        job_file(facts.job_file, facts.job_text),
        foot(facts.made_at, facts.versions, when=so_far),
    ]
    return frame(MARK, f"{facts.job}: report", parts)


def _campaigns(facts: Facts) -> str:
    rows = [[esc(name.replace("_", " ")), number(count)] for name, count in facts.figures.campaigns.items()]
    title = "<h3>What the vendor says the campaigns came to</h3>"
    return title + table(["", "number"], rows) if rows else ""


def _latest(facts: Facts) -> str:
    drawn = facts.drawn
    if drawn is None or not drawn.history.latest:
        return ""
    rows = [[esc(at(one.at)), esc(one.name), clipped(one.text)] for one in reversed(drawn.history.latest)]
    return section("events", "Last events", table(["when", "event", "what"], rows, texts=3, kind="wide"))
