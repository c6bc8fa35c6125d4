"""The beginning of a report: what became of the job, in a sentence and in figures."""

from __future__ import annotations

from bulksend.observe.report.facts import Facts
from bulksend.observe.report.tiles import Tile, bar, opening, tiles
from bulksend.observe.report.words import NONE, at, clipped, esc, number, share, span, times

__all__ = ["headline", "verdict"]

STATES = {
    "running": "running: this is a report of so far",
    "done": "done",
    "incomplete": "incomplete: run it again to go on",
    "stopped": "stopped: run it again to go on",
    "refused": "refused",
}


def headline(facts: Facts) -> str:
    """Return the title, the sentence and the figures."""
    figures = facts.figures
    busiest = figures.busiest
    drawn = facts.drawn
    took_s = figures.elapsed_s or (drawn.took_s if drawn is not None else 0.0)
    is_of_now = facts.is_running and drawn is not None and drawn.state == "running"
    shown = []
    if facts.total:
        shown += [
            Tile(name, number(count), share(count / facts.total), name if name != "pending" else "")
            for name, _, count in _counts(facts)
        ]
    shown.append(
        Tile("duration", span(took_s) if took_s else NONE, "so far" if is_of_now else "the last run with calls")
    )
    if figures.rate_per_min is not None:
        shown.append(Tile("sends a minute", times(figures.rate_per_min), "settled, from first call to last reply"))
    if busiest is not None:
        shown.append(Tile("of the limit", share(busiest[1].utilization), f"{busiest[0]}, {busiest[1].limit}"))
    rows = f", {number(facts.rows)} rows" if facts.rows and facts.rows != facts.total else ""
    parts = [
        opening(facts.job, facts.state, STATES.get(facts.state, facts.state)),
        f"<p>{verdict(facts)}</p>",
        bar(_counts(facts)) if facts.total else "",
        tiles(shown),
        f"<p class=note>{esc(facts.provider)}{rows}"
        + (f"; finished {esc(at(facts.finished_at))}" if facts.finished_at is not None else "")
        + f"; last run began {esc(at(facts.started_at))}"
        + (f"; run by {clipped(facts.holder)}" if facts.holder is not None else "")
        + "</p>",
    ]
    return f"<header>{''.join(parts)}</header>"


def _counts(facts: Facts) -> list[tuple[str, str, int]]:
    return [(name, name, getattr(facts, name)) for name in ("accepted", "rejected", "unknown", "pending")]


def verdict(facts: Facts) -> str:
    """Say in a sentence or three what became of the job; as HTML."""
    said = []
    if facts.total:
        if facts.accepted == facts.total:
            said.append(
                f"All {number(facts.total)} sends were accepted." if facts.total > 1 else "The send was accepted."
            )
        else:
            rest = [
                f"{number(count)} {word}"
                for count, word in (
                    (facts.rejected, "rejected"),
                    (facts.unknown, "of unknown fate"),
                    (facts.pending, "not settled yet"),
                )
                if count
            ]
            said.append(f"{number(facts.accepted)} of {number(facts.total)} sends accepted; {', '.join(rest)}.")
    if facts.unknown:
        said.append(
            "An unknown send may have arrived: where the vendor can tell, the next run asks; else settle it with"
            " <code>bulksend resolve</code>."
        )
    segment = facts.figures.segment
    if segment is not None and (line := _segment(segment)):
        said.append(line)
    if facts.passed:
        said.append(f"The limit of {esc(', '.join(facts.passed))} was passed.")
    elif facts.counted:
        several = any(one.has_several for figures in facts.counted.values() for one in figures)
        more = " Of several windows of a limit, the first is the one that is counted." if several else ""
        said.append(f"No window held more calls than its limit allows.{more}")
    return " ".join(said) or "Nothing was sent."


def _segment(segment: dict[str, object]) -> str:
    name, added, removed = (segment.get(part) for part in ("id", "added", "removed"))
    if not isinstance(added, int) or not isinstance(removed, int):
        return ""
    done = "" if segment.get("applied") else "to be "
    return f"Segment {clipped(name, 80)}: {number(added)} {done}added, {number(removed)} {done}removed."
