"""Webhooks that are signed, and wrong all the same: an event, or refused."""

from __future__ import annotations

import gzip
import hashlib
import hmac

import orjson
import pytest
from hypothesis import strategies as st

import bulksend
from bulksend.errors import WebhookError
from tests.fuzz.budget import fuzz
from tests.fuzz.odd import TEXTS, changed_bytes, changed_json, sentence

SECRET = "canary-5ecret-7d1f"
EVENT = {
    "type": "campaign.completed",
    "created_at": "2026-04-01T06:00:07.123456Z",
    "campaign": {
        "id": "c-1",
        "status": "completed",
        "stats": {"progress": 1.0, "stats_users_sent": 9, "stats_messages_sent": 9},
    },
}
HEADERS = st.dictionaries(
    st.sampled_from(["X-Signature", "x-signature", "Content-Encoding", "X-Api-Key", "x-webhook-id"]) | TEXTS,
    TEXTS | st.sampled_from(["gzip", " GZIP ", "br", "gzip, gzip", "f" * 64]),
    max_size=3,
)


@fuzz(
    short=100,
    long=20_000,
    body=changed_json(EVENT)
    | changed_bytes(orjson.dumps(EVENT))
    | changed_json({**EVENT, "created_at": 1775023200123456789}),
    headers=HEADERS,
    signed=st.booleans(),
    pack=st.none() | st.integers(0, 40),
)
def test_webhooks(body: bytes, headers: dict[str, str], signed: bool, pack: int | None) -> None:
    if signed:
        headers = {**headers, "X-Signature": hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()}
    if pack is not None:
        body, headers = gzip.compress(body, mtime=0), {**headers, "Content-Encoding": "gzip"}
        body = body[: len(body) - pack]
    try:
        event = bulksend.read_webhook(body, headers, SECRET)
    except WebhookError as wrong:
        sentence(wrong, SECRET)
        return
    assert signed
    assert event.type in ("campaign.started", "campaign.completed")
    assert event.campaign_id.encode()
    assert isinstance(event.created_at, float)
    assert all(isinstance(number, int | float) for number in event.stats.values())


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_the_first_and_the_last_moment(at: str) -> None:
    body = orjson.dumps({**EVENT, "created_at": at})
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert isinstance(bulksend.read_webhook(body, {"X-Signature": signature}, SECRET).created_at, float)
