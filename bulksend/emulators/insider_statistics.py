"""The three statistics routes of Insider One web push, over the launches that the emulator has seen.

Names and forms are those of the samples in the vendor's public collection (sheet of facts, 2.1). The figures are the
emulator's own: each launch reaches a thousand subscribers, and every message is delivered and none clicked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Final

from bulksend.emulators import Reply

__all__ = ["ROUTES", "THROTTLED", "UNAUTHORIZED", "Launches", "answer"]

_OVERALL: Final = "/v1/statistics/overall-metrics"
_CAMPAIGN: Final = "/v1/statistics/campaign-metrics"
_TOP: Final = "/v1/statistics/top-metrics"

ROUTES: Final = tuple(("POST", path) for path in (_OVERALL, _CAMPAIGN, _TOP))
UNAUTHORIZED: Final = Reply(401, {"status_code": 401})
# Unlike everywhere else at this vendor, too many calls are 403 here.
THROTTLED: Final = Reply(
    403,
    {
        "error": {"message": "Too many attempts, please slow down the request. 30 Requests/minute is allowed."},
        "status": 403,
    },
)

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_REACH: Final = 1000  # the subscribers of one launch
_BUILDER_ID_OFFSET: Final = 1_000_000
_PER_PAGE: Final = 10
_PER_PAGE_MAX: Final = 20
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_GOALS: Final = MappingProxyType({"camp-join": "Clicks", "sales-from-click": "Purchases From Click"})


@dataclass(slots=True)
class Launches:
    """How often one campaign was launched on each day, which UNCONFIRMED is one of UTC, and what was launched last.

    `campaign_id` is the one that create answers. UNCONFIRMED: that it is the `id` of the statistics, whose
    `builderId` is another number.
    """

    campaign_id: int
    by_day: Counter[date] = field(default_factory=Counter)
    last: datetime = _NEVER
    link: str = ""

    @property
    def builder_id(self) -> int:
        """What campaign-metrics calls the campaign."""
        return self.campaign_id + _BUILDER_ID_OFFSET

    def add(self, at_s: float, link: str) -> None:
        """Count one launch, at a time in seconds since the epoch."""
        self.last = datetime.fromtimestamp(at_s, UTC)
        self.by_day[self.last.date()] += 1
        self.link = link

    def within(self, first: date, last: date) -> int:
        """Return how many launches were made from the first day to the last."""
        return sum(count for day, count in self.by_day.items() if first <= day <= last)


@dataclass(frozen=True, slots=True)
class _Row:
    """A campaign with the number of its launches within the dates that a call asks for."""

    name: str
    launches: Launches
    count: int


def answer(path: str, body: object, campaigns: Iterable[tuple[str, Launches]]) -> Reply:
    """Answer one of the three routes over the named `campaigns`.

    UNCONFIRMED: that campaigns to segments (`is_all` false) are in the statistics, and that they are there at once.
    """
    query = _Query(body)
    partner_id = query.body.get("partner_id")
    if partner_id is not None and not isinstance(partner_id, str):
        query.refuse("partner_id", "must be a string.")
    query.require("partner_id")
    first, last = query.day("start_date"), query.day("end_date")
    rows = [_Row(name, each, each.within(first, last)) for name, each in campaigns if each.by_day]
    if path == _CAMPAIGN:
        return _campaign(query, rows, first, last)
    rows = [row for row in rows if row.count]
    if path == _OVERALL:
        return _overall(query, rows)
    return query.refused() if query.is_bad else Reply(200, _top(rows))


class _Query:
    """The fields of a body, and what is wrong with them.

    The text for a bad date is the vendor's; the others are Laravel's [I], of which that one is.
    """

    def __init__(self, body: object) -> None:
        self.body: Mapping[str, object] = body if isinstance(body, dict) else {}
        self._errors: dict[str, list[str]] = {}

    def refuse(self, key: str, why: str) -> None:
        self._errors.setdefault(key, []).append(f"The {key.replace('_', ' ')} {why}")

    def require(self, key: str) -> bool:
        given = self.body.get(key) not in (None, "")
        if not given:
            self.refuse(key, "field is required.")
        return given

    def day(self, key: str) -> date:
        """Return a required day; any, once it is refused."""
        if self.require(key):
            value = self.body[key]
            try:
                if isinstance(value, str) and _DATE.fullmatch(value):
                    return date.fromisoformat(value)
            except ValueError:
                pass
            self.refuse(key, "does not match the format Y-m-d.")
        return date.min

    def number(self, key: str, default: int, most: int | None = None) -> int:
        """Return a number from 1 up to `most`, or the default; a string of digits is one, as in the samples."""
        value = self.body.get(key)
        if value is None:
            return default
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            self.refuse(key, "must be an integer.")
        elif value < 1:
            self.refuse(key, "must be at least 1.")
        elif most is not None and value > most:
            self.refuse(key, f"may not be greater than {most}.")
        else:
            return value
        return default

    @property
    def is_bad(self) -> bool:
        return bool(self._errors)

    def refused(self) -> Reply:
        return Reply(422, {"status_code": 422, "errors": self._errors})


def _overall(query: _Query, rows: list[_Row]) -> Reply:
    page, per_page = query.number("page", 1), query.number("per_page", _PER_PAGE, _PER_PAGE_MAX)
    if query.is_bad:
        return query.refused()
    rows.sort(key=lambda row: (row.launches.last, row.launches.campaign_id), reverse=True)  # as the sample is
    start = (page - 1) * per_page
    data = [_overall_row(row) for row in rows[start : start + per_page]]
    return Reply(200, {"page": page, "per_page": per_page, "total": len(rows), "data": data})


def _overall_row(row: _Row) -> dict[str, object]:
    sent = row.count * _REACH
    minute = f"{row.launches.last:%Y-%m-%d %H:%M}:00"
    return {
        "id": row.launches.campaign_id,
        "tags": [],
        "type": "Bulk",
        "campName": row.name,
        "status": "Active",
        "builderId": row.launches.builder_id,
        "sendDate": f"{row.launches.last:%Y-%m-%d %H:%M:%S}",
        "startDate": minute,
        "endDate": minute,
        "daysActive": 1,
        "messageLink": row.launches.link,
        "firstButtonLink": "N/A",
        "secondButtonLink": "N/A",
        "targeted": sent,
        "sent": sent,
        "dropped": 0,
        "deliveryRate": 1,
        "delivered": sent,
        "undelivered": 0,
        "ctr": 0,
        "clicks": 0,
        "conversionRate": 0,
        "conversions": 0,
        "revenue": 0,
    }


def _campaign(query: _Query, rows: list[_Row], first: date, last: date) -> Reply:
    found: _Row | None = None
    if query.require("campaign_id"):
        wanted = str(query.body["campaign_id"])
        found = next((row for row in rows if str(row.launches.builder_id) == wanted), None)
        if found is None:
            query.refuse("campaign_id", "is invalid.")  # UNCONFIRMED: what an unknown campaign is answered
    if found is None or query.is_bad:
        return query.refused()
    body = {
        "name": found.name,
        "primaryGoal": "salesFromClick",
        "startDate": f"{first}T00:00:00.000000Z",
        "endDate": f"{last}T23:59:59.999999Z",
        "isRecurring": False,
        "alias": "bulk",
        "preferredCurrency": "USD",
        "personalizationStatus": "Active",
        "isTTLEnded": False,
        "goalMenu": dict(_GOALS),
        "overview": _overview(found.count),
        "deviceMetrics": [],
        "clickMetrics": [],
        "unsuccessfulMessages": {"dropped": [], "undelivered": []},
        "comparisonData": [],
    }
    return Reply(200, body)


def _top(rows: list[_Row]) -> dict[str, object]:
    bulk = {
        "label": "Bulk",
        "campaignCount": len(rows),
        "deliveryRate": "100.00" if rows else "0.00",
        "ctr": "0.00",
        "conversionRate": "0.00",
        "revenue": "0",
    }
    return {
        "overview": _overview(sum(row.count for row in rows)),
        "performance": [bulk],
        "dropped": [],
        "undelivered": [],
    }


def _overview(launches: int) -> dict[str, object]:
    """Return the totals, in which every figure is a text."""
    sent = f"{launches * _REACH:,}"
    return {
        "total": {
            "targeted": sent,
            "deliveryRate": "100.00%" if launches else "0.00%",
            "ctr": "0.00%",
            "conversionRate": "0.00%",
        },
        "targeted": {"sent": sent, "dropped": "0"},
        "deliveryRate": {"delivered": sent, "undelivered": "0"},
        "ctr": {"clicks": "0"},
        "conversionRate": {"conversions": "0"},
        "revenue": "0 USD",
    }
