"""Stream's webhooks: what is believed, what it says, and that nothing else ever comes out than WebhookError."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, web
from hypothesis import example, given
from hypothesis import strategies as st

import bulksend
from bulksend.providers.stream import webhook
from bulksend.providers.stream.webhook import BODY_MOST_BYTES
from tests.end_to_end.vendor import Vendor

SECRET = "test_secret_do_not_use_in_production"
NAMES = ("X-Signature", "x-signature", "X-SIGNATURE")
EVENT: dict[str, Any] = {
    "type": "campaign.completed",
    "created_at": "2026-05-08T00:00:00.5Z",
    "campaign": {"id": "c-1", "status": "completed", "stats": {"stats_users_sent": 3, "progress": 1.0}},
}


def sign(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def read(body: bytes, secret: str = SECRET, **headers: str) -> bulksend.CampaignEvent:
    """Read a body that is signed rightly; `headers` come on top."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return bulksend.read_webhook(body, {"X-Signature": sign(body), **named}, secret)


def event(**instead: Any) -> bytes:
    """Return the event with some fields replaced; Ellipsis leaves one out."""
    return orjson.dumps({key: one for key, one in {**EVENT, **instead}.items() if one is not ...})


def campaign(**instead: Any) -> dict[str, Any]:
    return {key: one for key, one in {**EVENT["campaign"], **instead}.items() if one is not ...}


def test_the_vendors_own_vector() -> None:
    """Its signature is right, and its event is another than a campaign's."""
    body = b'{"type":"channel.created","created_at":1778198400000000000}'
    signature = "2e66916a2ea83e3c1ea981b000f44cff38e3ed7628ad909ee6a78d4bc3fdd714"
    with pytest.raises(bulksend.WebhookError, match="not one of a campaign"):
        bulksend.read_webhook(body, {"X-Signature": signature}, SECRET)
    with pytest.raises(bulksend.WebhookError, match="signature"):
        bulksend.read_webhook(body, {"X-Signature": "3" + signature[1:]}, SECRET)


def test_what_an_event_says() -> None:
    found = read(event())
    assert found == bulksend.CampaignEvent(
        type="campaign.completed",
        campaign_id="c-1",
        status="completed",
        created_at=1_778_198_400.5,
        stats={"stats_users_sent": 3, "progress": 1.0},
        campaign=EVENT["campaign"],
    )


@pytest.mark.parametrize("name", NAMES)
def test_header_names_in_any_case(name: str) -> None:
    body = event()
    assert bulksend.read_webhook(body, {name: f" {sign(body)} "}, SECRET).campaign_id == "c-1"


@pytest.mark.parametrize(
    ("created_at", "seconds"),
    [
        ("2026-05-08T00:00:00Z", 1_778_198_400.0),
        ("2026-05-08T02:00:00.250+02:00", 1_778_198_400.25),
        ("2026-05-08T00:00:00.123456789Z", 1_778_198_400.123456),
        (1_778_198_400_000_000_000, 1_778_198_400.0),
        (1_778_198_400_250_000_000, 1_778_198_400.25),
    ],
)
def test_both_ways_to_write_a_time(created_at: str | int, seconds: float) -> None:
    assert read(event(created_at=created_at)).created_at == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "created_at", [..., None, "", "soon", "2026-05-08T00:00:00", 0, -1, 1.5, True, [], {}, 2**63, "2026-05-08"]
)
def test_an_event_without_a_time_is_refused(created_at: Any) -> None:
    with pytest.raises(bulksend.WebhookError, match="without the time"):
        read(event(created_at=created_at))


@pytest.mark.parametrize("status", ["draft", "scheduled", "in_progress", "stopped", "completed"])
def test_the_documented_statuses(status: str) -> None:
    assert read(event(campaign=campaign(status=status))).status == status


def test_running_is_in_progress() -> None:
    assert read(event(type="campaign.started", campaign=campaign(status="running"))).status == "in_progress"


@pytest.mark.parametrize("status", [..., None, "", "RUNNING", "paused", 1, [], {}])
def test_another_status_is_refused(status: Any) -> None:
    with pytest.raises(bulksend.WebhookError, match="status"):
        read(event(campaign=campaign(status=status)))


@pytest.mark.parametrize("stats", [..., None, [], "many", {}, {"users": "3", "flag": True, "nested": {"x": 1}}])
def test_numbers_that_are_none_are_left_out(stats: Any) -> None:
    assert read(event(campaign=campaign(stats=stats))).stats == {}


@pytest.mark.parametrize("found", [..., None, "", 7, []])
def test_an_event_without_the_campaigns_id_is_refused(found: Any) -> None:
    with pytest.raises(bulksend.WebhookError, match="id"):
        read(event(campaign=campaign(id=found)))


@pytest.mark.parametrize("kind", [..., None, "", 7, [], {}, "campaign.stopped", "message.new", "Campaign.Started"])
def test_other_events_are_refused(kind: Any) -> None:
    with pytest.raises(bulksend.WebhookError, match="not one of a campaign"):
        read(event(type=kind))


@pytest.mark.parametrize("wrong", [..., None, "c-1", [], 7])
def test_an_event_without_a_campaign_is_refused(wrong: Any) -> None:
    with pytest.raises(bulksend.WebhookError, match="without a campaign"):
        read(event(campaign=wrong))


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b'"text"', b"\xff\xfe", b"[" * 100_000, b"{} {}", b"NaN"])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(bulksend.WebhookError, match="not a JSON object"):
        read(body)


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        " ",
        "0",
        "ä" * 64,
        "0" * 64,
        "0" * 10_000,
        "sha256=" + sign(event()),
        sign(event())[:-1],
        sign(event()).upper(),
        sign(event(), "another secret"),
        sign(gzip.compress(event(), mtime=0)),
        "\udcff" * 64,
    ],
    ids=lambda text: None if text is None else f"{len(text)} of {text[:1]!a}",
)
def test_a_wrong_signature_is_refused(signature: str | None) -> None:
    headers = {} if signature is None else {"X-Signature": signature}
    with pytest.raises(bulksend.WebhookError, match="signature is not right") as caught:
        bulksend.read_webhook(event(), headers, SECRET)
    assert sign(event()) not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_another_secret_is_refused() -> None:
    with pytest.raises(bulksend.WebhookError, match="signature"):
        read(event(), SECRET[:-1])


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(given: bytes, wanted: bytes) -> bool:
        compared.append((given, wanted))
        return False

    monkeypatch.setattr(webhook.hmac, "compare_digest", compare)
    with pytest.raises(bulksend.WebhookError):
        read(event())
    assert compared == [(sign(event()).encode(),) * 2]


@given(at=st.integers(0, len(event()) - 1), bit=st.integers(0, 7))
def test_one_bit_that_is_changed_is_found(at: int, bit: int) -> None:
    body = bytearray(event())
    body[at] ^= 1 << bit
    with pytest.raises(bulksend.WebhookError, match="signature"):
        bulksend.read_webhook(bytes(body), {"X-Signature": sign(event())}, SECRET)


# gzip


def unzipped(packed: bytes, plain: bytes, encoding: str = "gzip") -> bulksend.CampaignEvent:
    return bulksend.read_webhook(packed, {"Content-Encoding": encoding, "X-Signature": sign(plain)}, SECRET)


@pytest.mark.parametrize("encoding", ["gzip", "GZip", " gzip "])
def test_a_gzipped_body_is_signed_as_it_was_before(encoding: str) -> None:
    assert unzipped(gzip.compress(event()), event(), encoding).campaign_id == "c-1"


def test_a_bomb_is_refused_without_being_unpacked() -> None:
    plain = b" " * (BODY_MOST_BYTES + 1)
    with pytest.raises(bulksend.WebhookError, match="larger than 16 MiB"):
        unzipped(gzip.compress(plain), plain)
    with pytest.raises(bulksend.WebhookError, match="larger than 16 MiB"):
        read(plain)


def test_a_large_body_is_read_up_to_the_bound() -> None:
    plain = event() + b" " * (BODY_MOST_BYTES - len(event()))
    assert unzipped(gzip.compress(plain), plain).campaign_id == "c-1"


PACKED = gzip.compress(event(), mtime=0)


@pytest.mark.parametrize(
    "packed",
    [
        event(),
        PACKED[:-1],
        PACKED[:15],
        PACKED[:-8] + b"\0" * 8,
        PACKED + b"rubbish",
        b"\x1f\x8b",
        PACKED[:10] + b"\xff" * 40,
    ],
    ids=["plain", "cut", "cut short", "wrong sum", "rubbish behind", "header only", "rubbish within"],
)
def test_what_is_no_gzip_is_refused(packed: bytes) -> None:
    with pytest.raises(bulksend.WebhookError, match="not gzip"):
        unzipped(packed, event())


# Whatever comes


headers_of = st.dictionaries(
    st.sampled_from([*NAMES, "Content-Encoding", "X-Webhook-Id"]),
    st.one_of(st.just("gzip"), st.text(st.characters(exclude_categories=["Cs"]), max_size=80)),
)


def only_webhook_error(body: bytes, headers: Mapping[str, str]) -> None:
    try:
        bulksend.read_webhook(body, headers, SECRET)
    except bulksend.WebhookError:
        return
    raise AssertionError("it was believed")


@given(body=st.binary(max_size=300), headers=headers_of)
@example(b"", {})
def test_arbitrary_bytes_are_refused_and_nothing_else(body: bytes, headers: dict[str, str]) -> None:
    only_webhook_error(body, headers)


@given(at=st.integers(10, len(PACKED) - 9), byte=st.integers(0, 255), cut=st.integers(0, 8))
@example(12, 0xFF, 0)
def test_gzip_that_is_damaged_is_refused_and_nothing_else(at: int, byte: int, cut: int) -> None:
    body = PACKED[:at] + bytes([byte]) + PACKED[at + 1 : len(PACKED) - cut]
    only_webhook_error(body, {"Content-Encoding": "gzip", "X-Signature": "0"})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(
    kind=st.just("campaign.started") | values,
    created_at=st.sampled_from(["2026-05-08T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
    | st.datetimes(timezones=st.timezones()).map(str)
    | values,
    found=st.fixed_dictionaries({"id": st.just("c") | values, "status": st.just("draft") | values, "stats": values})
    | values,
)
def test_any_signed_json_is_an_event_or_refused(kind: object, created_at: object, found: object) -> None:
    body = json.dumps({"type": kind, "created_at": created_at, "campaign": found}).encode()
    try:
        given_back = read(body)
    except bulksend.WebhookError:
        return
    assert given_back.type == "campaign.started"
    assert given_back.campaign_id
    assert isinstance(given_back.created_at, float)


# Real ones


def test_real_webhooks_of_a_campaign_are_read() -> None:
    """A campaign is started at the emulator, which posts both webhooks to a server of ours."""

    async def main() -> tuple[list[bulksend.CampaignEvent], str, float]:
        received: asyncio.Queue[tuple[bytes, Mapping[str, str]]] = asyncio.Queue()

        async def hook(request: web.Request) -> web.Response:
            await received.put((await request.read(), dict(request.headers)))
            return web.Response()

        app = web.Application()
        app.router.add_post("/hook", hook)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            began = time.time()
            vendor = await asyncio.to_thread(Vendor, "--webhook", f"http://127.0.0.1:{port}/hook", provider="stream")
            with vendor:
                made = await started(vendor)
                events = []
                while len(events) < 2:
                    body, headers = await asyncio.wait_for(received.get(), 60)
                    events.append(bulksend.read_webhook(body, headers, vendor.given["api_secret"]))
                    with pytest.raises(bulksend.WebhookError, match="signature"):
                        bulksend.read_webhook(body + b" ", headers, vendor.given["api_secret"])
                return events, made, began
        finally:
            await runner.cleanup()

    events, made, began = asyncio.run(main())
    assert [one.type for one in events] == ["campaign.started", "campaign.completed"]
    assert {one.campaign_id for one in events} == {made}
    assert events[1].status == "completed"
    assert all(began - 5 <= one.created_at <= time.time() + 5 for one in events)
    assert events[1].stats["stats_users_sent"] == 1


async def started(vendor: Vendor) -> str:
    """Make a campaign to one user and start it; returns its id."""
    import jwt

    token = jwt.encode({"server": True}, vendor.given["api_secret"], algorithm="HS256")
    headers = {"Authorization": token, "stream-auth-type": "jwt"}
    query = {"api_key": vendor.given["api_key"]}
    async with ClientSession(vendor.url, headers=headers) as session:
        users = {"users": {name: {"id": name} for name in ("sam", "kim")}}
        async with session.post("/api/v2/users", params=query, json=users) as reply:
            assert reply.status == 201, await reply.text()
        body = {
            "id": "c-1",
            "sender_id": "sam",
            "user_ids": ["kim"],
            "message_template": {"text": "Hi"},
            "create_channels": True,
            "channel_template": {"type": "messaging", "id": "{{ receiver.id }}"},
        }
        async with session.post("/campaigns", params=query, json=body) as reply:
            assert reply.status == 201, await reply.text()
            made = (await reply.json())["campaign"]["id"]
        async with session.post(f"/campaigns/{made}/start", params=query, json={}) as reply:
            assert reply.status == 201, await reply.text()
    return str(made)
