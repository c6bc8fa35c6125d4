"""The Grafana dashboard asks for nothing that is not measured, and shows all that is."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

import pytest
from typer.testing import CliRunner

from bulksend.cli.app import app
from bulksend.observe.metrics import INSTRUMENTS, Instrument, Kind
from bulksend.observe.prometheus import FILE_LABEL

TARGET = {"instance", FILE_LABEL}
"""Labels that a scraped target has, or a textfile."""
WORDS = {"sum", "min", "max", "count", "by", "rate", "increase", "histogram_quantile", "time", "label_values"}
_METRIC = re.compile(r"(bulksend_\w+)(?:\{([^}]*)\})?(\[)?")
_MATCHER = re.compile(r'(\w+)(=~|=|!=|!~)"([^"]*)"')


def exposed() -> dict[str, tuple[Instrument, set[str]]]:
    """Return every name that a scraper sees, with its instrument and labels."""
    names: dict[str, tuple[Instrument, set[str]]] = {}
    for one in INSTRUMENTS:
        labels = set(one.labels) | TARGET
        match one.kind:
            case Kind.COUNTER:
                names[f"{one.name}_total"] = one, labels
            case Kind.GAUGE:
                names[one.name] = one, labels
            case Kind.HISTOGRAM:
                names[f"{one.name}_bucket"] = one, labels | {"le"}
                names[f"{one.name}_count"] = names[f"{one.name}_sum"] = one, labels
    return names


def wrong(query: str, legend: str = "") -> list[str]:
    """Say what is wrong with a query."""
    said = []
    known = exposed()
    common: set[str] | None = None
    for name, matchers, ranged in _METRIC.findall(query):
        if name not in known:
            said.append(f"{name} is not measured")
            continue
        instrument, labels = known[name]
        common = labels if common is None else common & labels
        named = {label for label, _, _ in _MATCHER.findall(matchers)}
        said += [f"{name} has no label {label}" for label in sorted(named - labels)]
        if _MATCHER.sub("", matchers).strip(", "):
            said.append(f"{{{matchers}}} cannot be read")
        if bool(ranged) != (instrument.kind is not Kind.GAUGE) and "rate(" in query:
            said.append(f"{name} is a {instrument.kind}: a rate is of what only grows")
        if ranged and instrument.kind is Kind.GAUGE:
            said.append(f"{name} is a gauge")
    if common is None:
        said.append("nothing is asked for")
    by = {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
    said += [f"by {label}, which not every metric has" for label in sorted(by - (common or set()))]
    shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
    said += [f"{{{{{label}}}}} is not in the result" for label in sorted(shown - by)]
    if "histogram_quantile" in query and "le" not in by:
        said.append("a quantile needs le")
    if query.count("(") != query.count(")") or query.count("{") != query.count("}"):
        said.append("brackets")
    rest = re.sub(r'"[^"]*"', "", _METRIC.sub("", query))
    said += [f"{word}?" for word in re.findall(r"\b[a-z_]{2,}\b", rest) if word not in WORDS | by | {"__rate_interval"}]
    return said


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    done = CliRunner().invoke(app, ["dashboard"], prog_name="bulksend")
    assert done.exit_code == 0
    assert done.stderr == ""
    assert done.stdout == resources.files("bulksend.observe").joinpath("dashboard.json").read_text("utf-8")
    loaded = json.loads(done.stdout)
    assert isinstance(loaded, dict)
    return loaded


def targets(dashboard: dict[str, Any]) -> list[dict[str, str]]:
    return [target for panel in dashboard["panels"] for target in panel.get("targets", ())]


def test_every_query_asks_for_what_is_measured(dashboard: dict[str, Any]) -> None:
    assert len(targets(dashboard)) > 20
    found = {one["expr"]: wrong(one["expr"], one["legendFormat"]) for one in targets(dashboard)}
    assert {query: said for query, said in found.items() if said} == {}


def test_every_choice_is_of_what_is_measured(dashboard: dict[str, Any]) -> None:
    for one in dashboard["templating"]["list"]:
        if one["type"] == "datasource":
            continue
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", one["definition"])
        assert found is not None
        assert one["name"] == found[2]
        assert found[2] in exposed()[found[1]][1]
        assert one["query"]["query"] == one["definition"]


def test_everything_that_is_measured_is_shown(dashboard: dict[str, Any]) -> None:
    known = exposed()
    asked = {known[name][0].name for one in targets(dashboard) for name, *_ in _METRIC.findall(one["expr"])}
    assert asked == {one.name for one in INSTRUMENTS}


def test_every_variable_is_there(dashboard: dict[str, Any]) -> None:
    names = {one["name"] for one in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard["panels"])))
    assert used - {"__rate_interval"} == names


def test_panels_stand_beside_one_another_and_have_their_own_number(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    titles = {one["title"] for one in panels}
    assert {
        "Calls a second, and the limit", "Outcomes a second", "Latency", "Waiting for the limiter",
        "429s, retries and pauses", "In flight, and the queue", "Ledger commits", "Reconciliation",
    } <= titles  # fmt: skip


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sum(rate(bulksend_callz_total[5m]))", "bulksend_callz_total is not measured"),
        ("sum(rate(bulksend_calls[5m]))", "bulksend_calls is not measured"),
        ('sum(rate(bulksend_calls_total{outcome="x"}[5m]))', "bulksend_calls_total has no label outcome"),
        ("sum by (key) (rate(bulksend_calls_total[5m]))", "by key, which not every metric has"),
        ("sum(rate(bulksend_waiting_sends[5m]))", "bulksend_waiting_sends is a gauge"),
        ("histogram_quantile(0.5, sum(rate(bulksend_call_duration_seconds_bucket[5m])))", "a quantile needs le"),
        ("sum(rate(bulksend_calls_total[5m])", "brackets"),
        ("summ(bulksend_waiting_sends)", "summ?"),
        ("up", "nothing is asked for"),
    ],
)
def test_the_check_finds_what_is_wrong(query: str, said: str) -> None:
    assert said in wrong(query)


def test_a_legend_shows_what_the_result_has() -> None:
    query = "sum by (endpoint) (rate(bulksend_calls_total[5m]))"
    assert wrong(query, "{{endpoint}}") == []
    assert wrong(query, "{{status}}") == ["{{status}} is not in the result"]
