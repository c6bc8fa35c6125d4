"""Stream's webhooks of a campaign, checked and typed.

Facts: the vendor's pages "Webhooks overview" and "Campaign API": `X-Signature` is the hexadecimal HMAC-SHA256 of the
raw, uncompressed body under the app's secret.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from bulksend.errors import WebhookError
from bulksend.providers.base import read_object

__all__ = ["BODY_MOST_BYTES", "CampaignEvent", "read_webhook"]

BODY_MOST_BYTES = 16 << 20
_TYPES = ("campaign.started", "campaign.completed")
_STATUSES = ("draft", "scheduled", "in_progress", "stopped", "completed")


@dataclass(frozen=True, slots=True)
class CampaignEvent:
    """`campaign.started` or `campaign.completed`, whose signature was right.

    `status` is the campaign's, one of the documented five; `created_at` is in seconds since the epoch; `stats` holds
    the vendor's numbers by the vendor's names (`stats_users_sent`, `progress`, …); `campaign` is the whole object.
    """

    type: str
    campaign_id: str
    status: str
    created_at: float
    stats: Mapping[str, int | float]
    campaign: Mapping[str, object]


def read_webhook(body: bytes, headers: Mapping[str, str], api_secret: str) -> CampaignEvent:
    """Check a webhook's signature and return its event.

    `body` is the request's raw body, before anything has parsed it; header names may be in any case. Signatures are
    compared in constant time. Raises WebhookError when the signature is missing or wrong, when the body is not what
    the page promises, and for another event than the two of a campaign: answer those with 2xx too, or the vendor
    sends them again.
    """
    named = {name.lower(): text for name, text in headers.items()}
    body = _plain(body, named.get("content-encoding", ""))
    given = named.get("x-signature", "")
    wanted = hmac.new(api_secret.encode(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(given.strip().encode("utf-8", "replace"), wanted.encode()):
        raise WebhookError("the signature is not right for this body and secret")
    event = read_object(body)
    if event is None:
        raise WebhookError("the body is not a JSON object")
    kind, campaign = event.get("type"), event.get("campaign")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise WebhookError("the event is not one of a campaign")
    if not isinstance(campaign, dict):
        raise WebhookError(f"{kind} without a campaign")
    found, status, stats = campaign.get("id"), campaign.get("status"), campaign.get("stats")
    if not isinstance(found, str) or not found:
        raise WebhookError(f"{kind} without the campaign's id")
    # One sample of the page has "running", which its own list of statuses does not.
    status = "in_progress" if status == "running" else status
    if not isinstance(status, str) or status not in _STATUSES:
        raise WebhookError(f"{kind} without a documented status")
    numbers = stats if isinstance(stats, dict) else {}
    counted = {
        name: value for name, value in numbers.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return CampaignEvent(kind, found, status, _seconds(event.get("created_at"), kind), counted, campaign)


def _plain(body: bytes, encoding: str) -> bytes:
    """Undo gzip, which the app may have switched on; never past a bound."""
    if encoding.strip().lower() == "gzip":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
                body = file.read(BODY_MOST_BYTES + 1)
        except (OSError, EOFError, ValueError, zlib.error) as wrong:
            raise WebhookError("the body is not gzip, though its header says so") from wrong
    if len(body) > BODY_MOST_BYTES:
        raise WebhookError(f"the body is larger than {BODY_MOST_BYTES >> 20} MiB")
    return body


def _seconds(value: object, kind: str) -> float:
    """Read a time: RFC 3339, or whole nanoseconds since the epoch, as the app's version has it."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63:
        return value / 1e9
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise WebhookError(f"{kind} without the time of its making")
    return at.timestamp()
