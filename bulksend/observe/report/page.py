"""The page: its parts in order, its style, and nothing from outside."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from bulksend.observe.report import lists, pictures
from bulksend.observe.report.facts import Facts
from bulksend.observe.report.headline import headline
from bulksend.observe.report.tables import section, table
from bulksend.observe.report.words import at, clipped, esc, number

__all__ = ["MARK", "page"]

MARK = "<!doctype html><!-- bulksend report -->"
"""How every report begins: what does not is no report, and is not written over."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


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
                lists.why_not(drawn),
                _campaigns(facts),
                lists.answers(drawn),
            ),
        ]
    parts += [lists.proof(facts), section("endpoints", "Endpoints", lists.made(facts)), lists.plan(facts)]
    parts.append(lists.segment(facts))
    parts.append(lists.failed(facts))
    if drawn is not None:
        parts += [lists.slowest(drawn), _latest(facts)]
    parts += [lists.runs(facts), _job_file(facts), _foot(facts)]
    body = "\n".join(part for part in parts if part)
    return f"{MARK}\n{_head(facts)}<body><main>\n{body}\n</main></body></html>\n"


def _head(facts: Facts) -> str:
    return (
        '<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f'<link rel="icon" href="data:,"><title>{clipped(facts.job)}: report</title>\n'
        f"<style>\n{_style()}</style></head>\n"
    )


@cache
def _style() -> str:
    return Path(__file__).with_name("page.css").read_text("utf-8")


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


def _job_file(facts: Facts) -> str:
    if not facts.job_text:
        return ""
    text = f"<details><summary>{clipped(facts.job_file)}</summary><pre>{esc(facts.job_text)}</pre></details>"
    note = "<p class=note>As it was when this report was made. Secrets and credentials are left out.</p>"
    return section("job", "The job file", note, text)


def _foot(facts: Facts) -> str:
    made = ", ".join(f"{esc(name)} {esc(version)}" for name, version in facts.versions.items())
    so_far = " while the job was running" if facts.is_running else ""
    care = "Keys of sends are in this file: handle it as you do them."
    return f"<footer>Made {esc(at(facts.made_at))}{so_far}, with {made}. {care}</footer>"
