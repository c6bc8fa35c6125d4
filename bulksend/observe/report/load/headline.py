"""The beginning of a load test's page: what was asked for and what came of it, in a sentence and in figures."""

from __future__ import annotations

from bulksend.observe.report.load.facts import CALLS, LoadFacts, LoadFigures
from bulksend.observe.report.tiles import Tile, bar, opening, tiles
from bulksend.observe.report.words import at, clipped, esc, ms, number, share, span, times

__all__ = ["headline", "verdict"]

STATES = {
    "failed": "failed: a threshold was not met",
    "stopped": "stopped before its end",
    "unsettled": "unsettled: no limit is certain",
}


def headline(facts: LoadFacts) -> str:
    """Return the title, the sentence and the figures."""
    figures = facts.figures
    stopped = f"<p class=note>Stopped: {clipped(facts.why)}.</p>" if facts.why is not None else ""
    where = f"{esc(facts.provider)}, {esc(figures.endpoint)}, at {clipped(', '.join(facts.hosts))}"
    parts = [
        opening(f"{figures.job}: load test", figures.state, STATES.get(figures.state, figures.state)),
        f"<p>{verdict(facts)}</p>",
        stopped,
        bar([(word, colour, figures.of_planned(name)) for name, (word, colour) in CALLS.items()]),
        tiles(_tiles(figures)),
        f"<p class=note>{where}; began {esc(at(facts.began_at))}, took {esc(span(figures.elapsed_s))}.</p>",
    ]
    return f"<header>{''.join(parts)}</header>"


def _tiles(figures: LoadFigures) -> list[Tile]:
    calls, outcomes = figures.calls, figures.outcomes
    planned = calls["planned"]

    def of(count: int) -> str:
        return f"{share(count / planned)} of the planned" if planned else ""

    shown = []
    if figures.profile.find_limit:
        limit = ", ".join(figures.limits.values())
        doubt = "not certain" if figures.state in ("unsettled", "stopped") else "what the vendor enforces"
        shown.append(Tile("limit measured", limit or "none", doubt if limit else "see below"))
    shown += [
        Tile("planned", number(planned), "calls that came due"),
        Tile("sent", number(calls["sent"]), f"{times(figures.rate_per_min)} a minute"),
        Tile("late", number(calls["late"]), "sent over 10 ms after due"),
        Tile("dropped", number(calls["dropped"]), "too many under way"),
        Tile("unsent", number(calls["unsent"]), "no connection"),
        Tile("accepted", number(outcomes["accepted"]), of(outcomes["accepted"]), "accepted"),
        Tile("told 429", number(outcomes["throttled"]), of(outcomes["throttled"]), "told"),
        Tile("rejected", number(outcomes["rejected"]), of(outcomes["rejected"]), "rejected"),
        Tile("unknown", number(outcomes["unknown"]), of(outcomes["unknown"]), "unknown"),
        Tile("p50", ms(figures.latency_ms.get("p50")), "from the due time"),
        Tile("p99", ms(figures.latency_ms.get("p99")), "from the due time"),
    ]
    return shown


def verdict(facts: LoadFacts) -> str:
    """Say in some sentences what was asked for and what came of it; as HTML."""
    figures = facts.figures
    calls = figures.calls
    said = [_asked(figures)]
    lost = [
        f"{number(calls[name])} {word}" for name, word in (("dropped", "dropped"), ("unsent", "unsent")) if calls[name]
    ]
    late = f", {number(calls['late'])} of them late" if calls["late"] else ""
    sent = f"{number(calls['sent'])} of {number(calls['planned'])} calls were sent{late}"
    said.append(f"{sent}{'; ' + ', '.join(lost) if lost else ''}.")
    if figures.profile.find_limit:
        said.append(_found(figures))
    if figures.thresholds:
        total = len(figures.thresholds)
        met = "All thresholds were met" if total > 1 else "The threshold was met"
        failed = "; ".join(
            f"<b>{clipped(one.fail_if, 80)}</b> ({esc(one.was)})" for one in figures.thresholds if one.failed
        )
        which = f"{figures.failed} of {total} thresholds" if total > 1 else "The threshold"
        said.append(f"{which} failed: {failed}." if failed else f"{met}.")
    return " ".join(said)


def _asked(figures: LoadFigures) -> str:
    profile = figures.profile
    rate = f"{times(profile.rate_per_min)}/min"
    if profile.find_limit:
        return f"A search for the limit of {esc(figures.endpoint)}, with at most {rate}."
    if profile.ramp_from_per_min is not None:
        begin = f"{times(profile.ramp_from_per_min)}/min"
        return f"Asked for: from {begin} evenly to {rate} in {span(profile.duration_s)}."
    return f"Asked for: {rate} for {span(profile.duration_s)}."


def _found(figures: LoadFigures) -> str:
    limit = ", ".join(figures.limits.values())
    ended = figures.search.ended if figures.search is not None else None
    if limit:
        doubt = f" It is not certain: {clipped(ended)}." if ended is not None else ""
        return f"The limit that was measured is {esc(limit)}.{doubt}"
    return "No limit was met." if ended is None else f"No limit is told: {clipped(ended)}."
