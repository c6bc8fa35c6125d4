"""Rows by the batch come to what each comes to by itself: the same bytes, the same fingerprints, the same faults."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulksend.job.accounts import Accounts
from bulksend.job.bulk import Bulk
from bulksend.job.check import PROBLEMS_MOST, SAMPLES, Checked, check_rows
from bulksend.job.file import load_job
from bulksend.job.mould import Mould
from bulksend.job.render import Renderer
from bulksend.job.template import is_blank
from bulksend.job.texts import NotTextError, texts_of
from bulksend.model import Step
from bulksend.providers import PROVIDERS
from bulksend.providers.base import SEGMENT

NOW = 1_775_000_000.0  # 31 March 2026
INSIDER = """
job = "sale"
account = { provider = "insider", partner_id = "1%s00\\"7", token = "env:T" }
audience = { from = "x.csv", key = "id" }
[launch]
campaign_id = 7
title = "100%% Sale $${in} ${city}, 5 % off"
description = "Up to 50% off in ${city} and ${id}"
image = "https://example.com/icon.png"
link = "https://example.com/?store=${id}"
ttl = "1 day"
language = "en_GB"
target = { attribute = "c_store_id", values = ["${id}", "x", 7] }
"""
BATCH = """
job = "sale"
account = { provider = "batch", api_key = "DEV1", rest_key = "env:T" }
audience = { from = "x.csv", key = "id" }
[launch]
name = "Sale in ${city}"
push_time = "now"
messages = [{ language = "en", title = "${city}!", body = "for ${id}" }, { language = "de", body = "Angebot" }]
time_to_live = "2 days"
media = { icon = "https://example.com/${city}.png" }
targeting = { query = { "c.city" = "${city}", "c.n" = { "$gt" = 5 } }, segments = ["NEW"] }
"""
USERCOM = """
job = "sale"
account = { provider = "usercom", app = "shop", token = "env:T" }
audience = { from = "x.csv", key = "id" }
[launch]
name = "Sale in ${city}"
segment = 12
messages = [{ title = "Sale", body = "in ${city}" }]
"""
STREAM = """
job = "sale"
account = { provider = "stream", api_key = "key", api_secret = "env:T" }
audience = { from = "x.csv", key = "id" }
[launch]
sender_id = "bot"
segment_ids = ["${id}"]
message_template = { text = "Hi {{ receiver.name }} in ${city}", custom = { city = "${city}" } }
"""
SEVERAL = """
job = "sale"
audience = { from = "x.csv", key = "id", account = "${city}" }
[account]
provider = "insider"
token = "env:T"
a = { partner_id = "1" }
b = { partner_id = "2" }
"""
OF_ROWS = 'account = { provider = "insider", partner_id = "${city}", token = "env:T" }'
FIRST, LAUNCH = INSIDER.split("[launch]\n")
PER_ROW = INSIDER.replace("campaign_id = 7\n", "") + '[create]\nper = "row"\ntitle = "${id}"\nlanguage = "en_GB"\n'

QUICK = {
    "insider": INSIDER,
    "https column": INSIDER.replace('"https://example.com/icon.png"', '"${city}"'),
    "https begun": INSIDER.replace('"https://example.com/icon.png"', '"https://${city}"'),
    "banner": INSIDER + 'banner = "https://example.com/${city}/b.png"\n',
    "pattern": INSIDER.replace('"en_GB"', '"${city}"').replace('"c_store_id"', '"c_${city}"'),
    "campaign per row": PER_ROW,
    "several accounts": SEVERAL + "[launch]\n" + LAUNCH,
    "account of rows": INSIDER.replace(
        'account = { provider = "insider", partner_id = "1%s00\\"7", token = "env:T" }', OF_ROWS
    ),
    "drafts": BATCH,
    "draft only": BATCH + "live = false\n",
    "choice": BATCH.replace('["NEW"]', '["${city}"]').replace("time_to", 'priority = "${id}"\ntime_to'),
    "due": BATCH.replace('"now"', '"2026-04-01T06:00:00Z"'),
}
"""Jobs whose good rows go the quick way."""
CLOSER = {
    "usercom": USERCOM,
    "stream": STREAM,
    "late": BATCH.replace('"now"', '"2026-03-01T06:00:00Z"'),
    "direct": BATCH + 'send = "direct"\n',
    "payload": BATCH + 'custom_payload = "${city}"\n',
    "number": INSIDER.replace("campaign_id = 7", 'campaign_id = "${id}"'),
    "duration": INSIDER.replace('"1 day"', '"${city}"'),
    "date": BATCH.replace('"now"', '"${city}"'),
    "list": INSIDER.replace('["${id}", "x", 7]', '"${id}"'),
    "segment": USERCOM.replace("segment = 12\n", 'segment = "${segment.id}"\n') + "[segment]\nid = 3\n",
    "mark in the job": INSIDER.replace("5 % off", "5 % \ue100 off"),
}
"""Jobs each of whose rows is looked at by itself."""
ODD = [
    *("", " ", "\u3000", None, 7, 7.5, True, float("nan"), "a", "b", "7", "en_GB", "NEW", "high"),
    *("x" * 31, "y" * 90, "z" * 256, "k" * 600, "https://example.com/x", "https://", "http://example.com"),
    *("2026-04-01T06:00:00Z", "2026-03-01T06:00:00Z", "1 day", "100%", "%s", "${id}", "{}", '{"a":1}'),
    *('"', "\\", "\n", "\x1f", "\x7f", "\u2028", "\ud800", "\ue000", "\ue100", "\ue101", SEGMENT, "\U0001f926\u200d"),
]
CELLS = st.one_of(
    st.sampled_from(["Oslo", "Bergen", "Zürich", "a", "b", "en_GB", "s0001", "NEW", "https://e.com/1", "1 day"]),
    st.text(min_size=1, max_size=12),
    st.sampled_from(ODD),
    st.text(st.characters(), max_size=110),
)
ROWS = st.lists(st.tuples(CELLS, CELLS), max_size=12)


def renderer_of(text: str) -> Renderer:
    tables: Mapping[str, Any] = tomllib.loads(text)
    job = load_job(tables)
    spec = job.audience
    chooser = None if spec is None else spec.account
    accounts = Accounts(job.accounts, chooser=chooser, provider=job.provider, base_dir=Path())
    return Renderer(job, job.provider.flow(job.tables), accounts, now=NOW)


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T", "t0ken-of-the-tests")


def in_order(renderer: Renderer, rows: Sequence[tuple[object, object]]) -> list[tuple[object, ...]]:
    """Put the cells where the renderer wants its columns."""
    return [tuple({"id": one, "city": other}[name] for name in renderer.columns) for one, other in rows]


def check_one_by_one(renderer: Renderer, rows: Sequence[Sequence[object]]) -> Checked:
    """Look at rows as `check_rows` did before there was a quick way."""
    checked = Checked()
    static = renderer.static_problems()
    checked.add(static)
    told = {(problem.field, problem.text) for problem in static}
    for number, row in enumerate(rows, 1):
        checked.rows += 1
        checked.sends += 1
        if is_blank(row[0]):
            continue
        send, problems = renderer.send(number, row)
        checked.add(one for one in problems if (one.field, one.text) not in told)
        if send is not None:
            checked.by_account[send.account.name] += 1
            checked.samples += [send] if len(checked.samples) < SAMPLES else []
    return checked


@pytest.mark.parametrize("text", [*QUICK.values(), *CLOSER.values()], ids=[*QUICK, *CLOSER])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(rows=ROWS)
def test_a_row_that_is_fine_is_what_it_is_by_itself(text: str, rows: list[tuple[object, object]]) -> None:
    renderer = renderer_of(text)
    given_rows = in_order(renderer, rows)
    numbers = range(5, 5 + len(rows))
    seen = []
    for fine in Bulk(renderer).fine(given_rows):
        for index, send in zip(fine.at, fine.sends(numbers), strict=True):
            assert renderer.send(numbers[index], given_rows[index]) == (send, [])
            assert send.account is fine.account
            seen.append(index)
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("text", [*QUICK.values(), *CLOSER.values()], ids=[*QUICK, *CLOSER])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(rows=ROWS, size=st.integers(1, 5))
def test_all_faults_are_told(text: str, rows: list[tuple[object, object]], size: int) -> None:
    renderer = renderer_of(text)
    given_rows = in_order(renderer, [("s1", "Oslo"), ("s2", "Oslo"), ("s3", "Oslo"), *rows, *rows])
    batches = [given_rows[at : at + size] for at in range(0, len(given_rows), size)]
    checked = check_rows(renderer, batches, with_secrets=True, stopping=lambda: False)
    assert checked == check_one_by_one(renderer, given_rows)


def test_more_faults_than_are_told_are_counted() -> None:
    renderer = renderer_of(INSIDER)
    rows = in_order(renderer, [("s1", "x" * 300)] * 70)
    checked = check_rows(renderer, [rows], with_secrets=True, stopping=lambda: False)
    assert (len(checked.problems), checked.more) == (PROBLEMS_MOST, 2 * 70 - PROBLEMS_MOST)
    assert checked == check_one_by_one(renderer, rows)


GOOD = {
    "https column": "https://e.com",
    "pattern": "en_GB",
    "several accounts": "a",
    "choice": "NEW",
}


@pytest.mark.parametrize("name", QUICK)
def test_good_rows_go_the_quick_way(name: str) -> None:
    renderer = renderer_of(QUICK[name])
    key = "high" if name == "choice" else "s1"
    rows = in_order(renderer, [(key, GOOD.get(name, "Oslo"))] * 3)
    (fine,) = Bulk(renderer).fine(rows)
    assert list(fine.at) == [0, 1, 2]


@pytest.mark.parametrize("name", CLOSER)
def test_what_is_more_than_texts_is_looked_at_by_itself(name: str) -> None:
    renderer = renderer_of(CLOSER[name])
    assert Bulk(renderer).fine(in_order(renderer, [("s1", "Oslo")] * 3)) == []


def test_one_bad_row_keeps_no_other_from_the_quick_way() -> None:
    renderer = renderer_of(INSIDER)
    rows = in_order(
        renderer, [("s1", "Oslo"), ("s2", None), ("s3", "x" * 300), ("s\n", "Rome"), ("s5", "\ud800"), ("s6", "Rom")]
    )
    (fine,) = Bulk(renderer).fine(rows)
    assert list(fine.at) == [0, 5]


def test_rows_of_several_accounts_are_parted() -> None:
    renderer = renderer_of(QUICK["several accounts"])
    rows = in_order(renderer, [("s1", "a"), ("s2", "b"), ("s3", "c"), ("s4", "a")])
    found = {fine.account.name: list(fine.at) for fine in Bulk(renderer).fine(rows)}
    assert found == {"a": [0, 3], "b": [1]}
    checked = check_rows(renderer, [rows], with_secrets=True, stopping=lambda: False)
    assert checked.by_account == Counter(a=2, b=1)


def test_a_time_that_passes_while_rows_come_ends_the_quick_way() -> None:
    renderer = renderer_of(QUICK["due"])
    bulk = Bulk(renderer)
    rows = in_order(renderer, [("s1", "Oslo")])
    assert len(bulk.fine(rows)) == 1
    renderer.now = NOW + 86_400 * 2
    assert bulk.fine(rows) == []
    assert [problem.late for problem in renderer.send(1, rows[0])[1]] == [True]


def test_the_bytes_and_the_fingerprint_stay_what_ledgers_hold() -> None:
    renderer = renderer_of(INSIDER.replace('1%s00\\"7', "1"))
    (fine,) = Bulk(renderer).fine(in_order(renderer, [("s1", 'Oslo "\n%')]))
    (send,) = fine.sends([1])
    assert send.steps[0].body.decode() == (
        '{"partner_id":"1","title":"100%% Sale ${in} Oslo \\"\\n%, 5 % off",'
        '"description":"Up to 50% off in Oslo \\"\\n% and s1","image":"https://example.com/icon.png",'
        '"link":"https://example.com/?store=s1","ttl":"86400","language":"en_GB",'
        '"target":{"attribute":"c_store_id","values":["s1","x",7]}}'
    )
    assert send.fingerprint == -1898473281532585373


STEP = PROVIDERS["insider"].flow({"launch": {}}).steps[0][1]


@pytest.mark.parametrize(
    "write",
    [
        lambda cells, _: cells[0].upper(),
        lambda cells, key: cells[0] + key,
        lambda cells, _: cells[0] if cells[0].startswith("0") else "",
        lambda cells, _: str(len(cells[0])),
        lambda cells, _: cells[0].replace("\\", "/"),
        lambda cells, _: cells[0] + "\ue107",
    ],
)  # fmt: skip
def test_what_is_not_written_as_it_stands_has_no_mould(write: Any) -> None:
    def make(cells: Sequence[str], key: str) -> tuple[Step, Mapping[str, object]]:
        return Step(STEP, f'"{write(cells, key)}"'.encode()), {}

    assert Mould.cast(make, 1) is None


@pytest.mark.parametrize("field", ["ref", "path"])
def test_an_id_or_a_path_that_comes_from_the_row_has_no_mould(field: str) -> None:
    def make(cells: Sequence[str], key: str) -> tuple[Step, Mapping[str, object]]:
        ref, path = (cells[0], None) if field == "ref" else (None, cells[0])
        return Step(STEP, b"{}", ref, path), {}

    assert Mould.cast(make, 1) is None
    assert Mould.cast(lambda _cells, key: (Step(STEP, b"{}", ref=key), {}), 0) is None
    assert Mould.cast(lambda _cells, key: None, 0) is None
    assert Mould.cast(lambda _cells, key: (Step(STEP, b"{}"), {}), 0) is not None


def test_a_field_that_is_not_known_holds_no_text() -> None:
    fields = PROVIDERS["insider"].tables["launch"]
    for table in ({"nothing": "${id}"}, {"title": {"x": "${id}"}}, {"title": ["${id}"]}, {"target": ["${id}"]}):
        with pytest.raises(NotTextError):
            texts_of(fields, table, "launch", order={"id": 0}, bounds={})
