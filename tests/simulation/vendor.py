"""The vendor of a simulated world: the emulators' pure half behind strict windows, judged from its own record."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import orjson
from multidict import CIMultiDict
from yarl import URL

from bulksend.emulators import (
    Account,
    Call,
    Endpoint,
    Provider,
    ProviderSpec,
    Reply,
    Setup,
    batch,
    insider,
    stream,
    usercom,
)
from bulksend.emulators.window import Window, parse_limit
from bulksend.model import Call as Request
from tests.simulated_time import EPOCH_S

SPECS: Mapping[str, ProviderSpec] = {
    spec.name: spec for spec in (batch.PROVIDER, insider.PROVIDER, stream.PROVIDER, usercom.PROVIDER)
}
UNPUBLISHED = "60/min"
"""What is kept to where the vendor publishes no limit (design §7)."""


@dataclass(frozen=True)
class Effect:
    """What a call changed."""

    at_s: float
    endpoint: str
    ref: str
    body: Mapping[str, object]


@dataclass
class Vendor:
    """One vendor with its accounts; `at_s` of every call must not go back."""

    name: str
    accounts_wanted: int
    limits: Mapping[str, str]
    seed: int
    effects: list[Effect] = field(default_factory=list)
    throttled: int = 0

    def __post_init__(self) -> None:
        self.spec = SPECS[self.name]
        setup = Setup(self.accounts_wanted, (), random.Random(f"vendor:{self.seed}"), (), EPOCH_S)
        self.provider: Provider = self.spec.build(setup)
        self._windows: dict[tuple[str, str], Window] = {}

    def window(self, endpoint: Endpoint, account: Account) -> Window:
        window = self._windows.get((endpoint.name, account.id))
        if window is None:
            text = self.limits.get(endpoint.name) or endpoint.limit or UNPUBLISHED
            window = self._windows[endpoint.name, account.id] = Window(parse_limit(text))
        return window

    def account_of(self, request: Request) -> str:
        return self._read(request, 0.0)[2].id

    def _read(self, request: Request, at_s: float) -> tuple[Call, Endpoint, Account]:
        url = URL(request.url, encoded=True)
        endpoint, params = _route(self.spec, request.endpoint.method, url.path)
        body = orjson.loads(request.body) if request.body else None
        call = Call(endpoint.name, url.path, params, url.query, CIMultiDict(request.headers), body, at_s)
        account = self.provider.authenticate(call)
        assert isinstance(account, Account), f"{endpoint.name}: {account}"
        return call, endpoint, account

    def answer(self, request: Request, at_s: float, fate: str, refused: frozenset[str]) -> Reply:
        """Take one request from authentication to effect; a fate that strikes before the effect leaves none."""
        call, endpoint, account = self._read(request, at_s)
        body = call.body
        window = self.window(endpoint, account)
        if not window.admit(at_s):
            self.throttled += 1
            reply = self.provider.failed(endpoint.name, 429)
        elif fate in ("429", "429 with Retry-After", "500", "503", "424"):
            reply = self.provider.failed(endpoint.name, int(fate[:3]))
        elif endpoint.name in _NAMES_ROWS and refused.intersection(_KEY.findall(_text(body))):
            reply = Reply(400, {"message": "Bad Request"})
        else:
            reply = self.provider.judge(call, account)
            if reply.effect is not None:
                shown = body if isinstance(body, dict) else {}
                self.effects.append(Effect(at_s, endpoint.name, str(reply.effect), shown))
            if fate in ("500 after", "503 after", "424 after"):
                reply = self.provider.failed(endpoint.name, int(fate[:3]))
        headers_ = {**(reply.headers or {}), **self.provider.headers(endpoint.name, window, at_s)}
        if fate == "429 with Retry-After" and reply.status == 429:
            headers_["Retry-After"] = "3"
        return Reply(reply.status, reply.body, headers_)

    def reached(self, keys: tuple[str, ...]) -> Counter[str]:
        """Count by key how often people were reached, as this vendor has it."""
        made = {one.ref: one.body for one in self.effects if one.endpoint in _MAKES}
        went: list[Mapping[str, object]] = []
        for one in self.effects:
            live = one.body.get("live")
            if one.endpoint in ("insider.launch", "usercom.create") or (one.endpoint == "batch.create" and live):
                went.append(one.body)
            elif one.endpoint == "stream.campaign.start" or (one.endpoint == "batch.update" and live):
                went.append(made[one.ref])
        counted = Counter(key for body in went for key in keys if key in _KEY.findall(_text(body)))
        assert counted.total() == len(went), "each campaign is of one row"
        return counted


_MAKES = ("batch.create", "stream.campaign.create")
_NAMES_ROWS = ("insider.launch", "usercom.create", *_MAKES)
_KEY = re.compile(r"\b[ab]\d\d\b")


def _text(body: object) -> str:
    return orjson.dumps(body).decode()


@cache
def _patterns(spec_name: str) -> list[tuple[str, re.Pattern[str], Endpoint]]:
    return [
        (method, re.compile(re.sub(r"\{(\w+)(?::(.+?))?\}", _part, path)), endpoint)
        for endpoint in SPECS[spec_name].endpoints
        for method, path in endpoint.routes
    ]


def _part(named: re.Match[str]) -> str:
    return f"(?P<{named[1]}>{named[2] or '[^/]+'})"


def _route(spec: ProviderSpec, method: str, path: str) -> tuple[Endpoint, Mapping[str, str]]:
    for known, pattern, endpoint in _patterns(spec.name):
        found = pattern.fullmatch(path)
        if known == method and found is not None:
            return endpoint, found.groupdict()
    raise AssertionError(f"the vendor has no route {method} {path}")
