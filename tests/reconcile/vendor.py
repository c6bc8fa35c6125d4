"""A vendor that lives in a set: it speaks Stream's wire format, and misbehaves as it is told to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from bulksend.engine.limiter import StoppedError
from bulksend.model import Call, Lost, NotSent, Reply

SEGMENT = "segment-1"
JSON = {"content-type": "application/json"}

COLLATIONS: dict[str, Callable[[str], Any]] = {
    "code point": lambda one: one,
    "casefold": str.casefold,
    "no punctuation": lambda one: "".join(filter(str.isalnum, one.casefold())),
    "reversed": lambda one: (*(-ord(each) for each in one), 1),
    "utf-16": lambda one: one.encode("utf-16-be"),
    "none": lambda one: hashlib.blake2b(one.encode()).digest(),
}
"""By which key a vendor orders ids; ids with the same key are the same to its filters."""


@dataclass(frozen=True)
class Asked:
    """A call as the vendor has seen it."""

    number: int
    """From 1."""
    name: str
    """The endpoint's, without the provider's."""
    body: Any
    took_effect: bool

    @property
    def page(self) -> tuple[bytes, str | None]:
        """What tells one page from another: the range, and the cursor."""
        return orjson.dumps(self.body.get("filter")), self.body.get("next")

    @property
    def ids(self) -> frozenset[str]:
        """The ids that are added or removed."""
        return frozenset(self.body["target_ids"])


@dataclass
class Vendor:
    """A `Transport` in front of one segment."""

    targets: set[str]
    collation: str = "code point"
    page_most: int = 10_000
    """A page holds no more, whatever is asked for."""
    doubles: int = 0
    """So many ids at the end of a page come again at the beginning of the next."""
    circle_at: int | None = None
    """The page, counted from 1 in each range, whose cursor is that of the page before."""
    is_endless: bool = False
    """After the last page come empty ones."""
    filters: str = "kept"
    """kept | refused | ignored"""
    size: Callable[[int], object] | None = lambda number: number
    """What is said of so many targets; None: nothing."""
    rule: Mapping[str, object] = field(default_factory=dict)
    is_there: bool = True
    faults: Mapping[int, str] = field(default_factory=dict)
    """By call number: reset, lost, 429, 429-after, 500, truncated, html, unreachable; `lost` has no effect, `reset`
    has."""
    others: Mapping[int, Callable[[set[str]], object]] = field(default_factory=dict)
    """What others do to the targets before a call has its effect, by call number."""
    swallows: frozenset[str] = frozenset()
    """Ids whose addition and removal is answered well, and does nothing."""
    stop_at: int | None = None
    latency_s: float = 0.02
    calls: list[Asked] = field(default_factory=list)
    watch: Callable[[str], None] = lambda _when: None
    """Called as "arrived" before a call has its effect, and as "done" after it."""
    stop: Callable[[], None] = lambda: None

    def named(self, name: str) -> list[Asked]:
        """Return the calls of an endpoint."""
        return [one for one in self.calls if one.name == name]

    async def send(self, call: Call, leave: Callable[[], Awaitable[None]]) -> Reply | Lost | NotSent:
        """Answer one call, once its turn has come."""
        try:
            await leave()
        except StoppedError:
            return NotSent("the run is stopping")
        number = len(self.calls) + 1
        fault = self.faults.get(number)
        name = call.endpoint.name.partition(".")[2]
        body = orjson.loads(call.body) if call.body else {"path": urlsplit(call.url).path}
        has_effect = fault not in ("lost", "429", "429-after", "unreachable")
        self.calls.append(Asked(number, name, body, has_effect))
        self.watch("arrived")
        self.others.get(number, lambda _targets: None)(self.targets)
        said = self._answer(name, body) if has_effect else None
        self.watch("done")
        if number == self.stop_at:
            self.stop()
        await asyncio.sleep(self.latency_s)
        return self._spoiled(fault, said)

    async def close(self) -> None:
        """Nothing is open."""

    def _spoiled(self, fault: str | None, said: Reply | None) -> Reply | Lost | NotSent:
        match fault:
            case None:
                assert said is not None
                return said
            case "reset" | "lost":
                return Lost("the connection was reset")
            case "unreachable":
                return NotSent("no connection")
            case "429":
                return Reply(429, JSON, b'{"code":9}', self.latency_s)
            case "429-after":
                return Reply(429, {"retry-after": "3"}, b'{"code":9}', self.latency_s)
            case "500":
                return Reply(500, {}, b"", self.latency_s)
            case "html":
                return Reply(200, {"content-type": "text/html"}, b"<html>all is well</html>", self.latency_s)
            case "truncated":
                assert said is not None
                return Reply(said.status, said.headers, said.body[: len(said.body) // 2], self.latency_s)
            case _:
                raise AssertionError(fault)

    def _answer(self, name: str, body: dict[str, Any]) -> Reply:
        if not self.is_there:
            return _reply(404, {"code": 16, "message": "segment not found", "StatusCode": 404, "duration": "1ms"})
        if name == "segment.get":
            segment = {"id": SEGMENT, "type": "user", "name": "", **self.rule}
            if self.size is not None:
                segment["size"] = self.size(len(self.targets))
            return _reply(200, {"segment": segment, "duration": "1ms"})
        if name == "targets.query":
            return self._page(body)
        if name == "targets.exists":
            is_in = unquote(body["path"].rpartition("/")[2]) in self.targets
            return _reply(200 if is_in else 404, {"duration": "1ms"} if is_in else {"code": 16, "duration": "1ms"})
        most = {"targets.add": 10_000, "targets.delete": 100}[name]
        ids = body["target_ids"]
        assert set(body) == {"target_ids"}
        assert 0 < len(ids) == len(set(ids)) <= most
        assert all(isinstance(one, str) and 0 < len(one) <= 255 for one in ids)
        changed = set(ids) - self.swallows
        self.targets = self.targets | changed if name == "targets.add" else self.targets - changed
        return _reply(201, {"duration": "1ms"})

    def _page(self, body: dict[str, Any]) -> Reply:
        assert set(body) <= {"limit", "filter", "next"}
        assert 0 < body["limit"] <= 10_000
        key = COLLATIONS[self.collation]
        ids = sorted(self.targets, key=lambda one: (key(one), one[::-1]))
        span = body.get("filter", {}).get("target_id", {})
        if span and self.filters == "refused":
            return _reply(400, {"code": 4, "message": "bad filter", "StatusCode": 400, "duration": "1ms"})
        if self.filters == "kept":
            assert set(span) <= {"$gte", "$lte"}
            least, most = span.get("$gte"), span.get("$lte")
            ids = [one for one in ids if least is None or key(one) >= key(least)]
            ids = [one for one in ids if most is None or key(one) <= key(most)]
        number, after = 1, None
        if "next" in body:
            number, after = orjson.loads(base64.b64decode(body["next"]))
        left = ids
        if after is not None:
            left = [one for one in ids if (key(one), one[::-1]) > (key(after), after[::-1])]
        ids_of_page = left[: min(body["limit"], self.page_most)]
        again = ids[: len(ids) - len(left)][-self.doubles :] if self.doubles and after is not None else []
        page: dict[str, Any] = {"targets": [{"target_id": one} for one in (*again, *ids_of_page)], "duration": "1ms"}
        if len(left) > len(ids_of_page) or self.is_endless:
            last = ids_of_page[-1] if ids_of_page else after
            page["next"] = base64.b64encode(orjson.dumps([number + 1, last])).decode()
        if number == self.circle_at and "next" in body:
            page["next"] = body["next"]
        return _reply(201, page)


def _reply(status: int, body: object) -> Reply:
    return Reply(status, JSON, orjson.dumps(body), 0.02)
