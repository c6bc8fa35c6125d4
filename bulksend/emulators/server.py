"""The server that every emulated provider runs in: accounts, limits, faults, latency, and a log of what took effect.

Each provider has a port, and beside its own routes `/_emulator/effects`, `/_emulator/stats` and `/_emulator/reset`.
Stream has `/_emulator/targets?segment=ID` too, all that a segment targets by code point; `&account=API_KEY` where there
are several. The log of effects holds the bodies of the calls, but of Stream's targets only up to 1,000 ids a call: in
place of more there are `target_ids_count` and `target_ids_sha256`, of the distinct ids by code point, a line each.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from bulksend.emulators import (
    CODE_POINT,
    NO_CASE,
    Account,
    Call,
    ProviderSpec,
    Reply,
    Setup,
    batch,
    insider,
    stream,
    usercom,
)
from bulksend.emulators.faults import (
    NO_LATENCY,
    Fault,
    FaultDice,
    FaultKind,
    Latency,
    deliver,
    did_you_mean,
    parse_fault,
    parse_latency,
)
from bulksend.emulators.hooks import post_hooks
from bulksend.emulators.tally import Effect, Tally, sum_up
from bulksend.emulators.window import Limit, Window, parse_limit

__all__ = ["EmulatorConfig", "serve"]

_PROVIDERS: Final[Mapping[str, ProviderSpec]] = MappingProxyType(
    {spec.name: spec for spec in (batch.PROVIDER, insider.PROVIDER, stream.PROVIDER, usercom.PROVIDER)}
)
_COLLATIONS: Final = (CODE_POINT, NO_CASE)
_KEEPALIVE_S: Final = 75.0
_SHUTDOWN_S: Final = 0.5  # how long calls in flight are waited for at the end
_BACKLOG: Final = 1024
_MAX_BODY_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class EmulatorConfig:
    """What `bulksend emulate` was asked for; `limits` replace the documented ones, by endpoint."""

    providers: tuple[ProviderSpec, ...]
    host: str = "127.0.0.1"
    port: int = 0
    limits: Mapping[str, Limit] = field(default_factory=dict)
    latency: Latency = NO_LATENCY
    faults: tuple[Fault, ...] = ()
    accounts: int = 1
    seed: int = 0
    campaigns: tuple[int, ...] = ()
    retry_after: bool = False
    segments: tuple[str, ...] = ()
    collation: str = CODE_POINT
    webhook: str | None = None

    @classmethod
    def from_texts(
        cls,
        providers: Iterable[str] = (),
        port: int = 0,
        host: str = "127.0.0.1",
        limits: Iterable[str] = (),
        latency: str = "0",
        faults: Iterable[str] = (),
        accounts: int = 1,
        seed: int = 0,
        campaigns: Iterable[int] = (),
        segments: Iterable[str] = (),
        *,
        retry_after: bool = False,
        webhook: str | None = None,
        collation: str = CODE_POINT,
    ) -> EmulatorConfig:
        """Read the flags of the shell; no provider means all. Raises ValueError with one line naming the bad text.

        `campaigns` are the ids of campaigns that exist from the start, and so are `segments`; without any, every
        segment does. `retry_after` puts Retry-After on the 429 of a limit, which the vendors send only sometimes.
        `webhook` is the address that gets the vendor's webhooks. `collation` is the order in which Stream lists the
        targets of a segment, "code-point" or "no-case".
        """
        specs = tuple(_load(name) for name in dict.fromkeys(providers) or _PROVIDERS)
        endpoints = [endpoint.name for spec in specs for endpoint in spec.endpoints]
        if accounts < 1:
            raise ValueError(f"accounts {accounts}: there must be at least one")
        if not 0 <= port <= 65536 - len(specs):
            raise ValueError(f"port {port}: there is no such port for each of {len(specs)} providers")
        if webhook is not None and not webhook.startswith(("http://", "https://")):
            raise ValueError(f"webhook {webhook!r}: not an address such as http://127.0.0.1:8080/hook")
        if collation not in _COLLATIONS:
            raise ValueError(f"collation {collation!r}: {did_you_mean(collation, _COLLATIONS)}")
        parsed = tuple(parse_fault(text, endpoints) for text in faults)
        FaultDice(parsed, endpoints, random.Random())  # refuses shares that add up to more than all calls
        return cls(
            providers=specs,
            host=host,
            port=port,
            limits=MappingProxyType(dict(_parse_override(text, endpoints) for text in limits)),
            latency=parse_latency(latency),
            faults=parsed,
            accounts=accounts,
            seed=seed,
            campaigns=tuple(campaigns),
            retry_after=retry_after,
            segments=tuple(segments),
            collation=collation,
            webhook=webhook,
        )


def _load(name: str) -> ProviderSpec:
    if name not in _PROVIDERS:
        raise ValueError(f"unknown provider {name!r}; {did_you_mean(name, _PROVIDERS)}")
    return _PROVIDERS[name]


def _parse_override(text: str, endpoints: Sequence[str]) -> tuple[str, Limit]:
    endpoint, equals, limit = (part.strip() for part in text.partition("="))
    if not equals:
        raise ValueError(f"limit {text!r}: write it as ENDPOINT=LIMIT, such as {endpoints[0]}=600/6s")
    if endpoint not in endpoints:
        raise ValueError(f"limit {text!r}: unknown endpoint {endpoint!r}; {did_you_mean(endpoint, endpoints)}")
    try:
        return endpoint, parse_limit(limit)
    except ValueError as error:
        raise ValueError(f"limit {text!r}: {error}") from None


class _Emulator:
    """One running provider: everything between a request and its answer except the socket."""

    def __init__(self, spec: ProviderSpec, config: EmulatorConfig) -> None:
        self._spec = spec
        self._config = config
        self._latency = config.latency
        # Separate sources of randomness, so that one feature's draws never shift those of another.
        rng = random.Random(f"{config.seed}:{spec.name}:provider")
        setup = Setup(config.accounts, config.campaigns, rng, config.segments, time.time(), config.collation)
        self._provider = spec.build(setup)
        self._latency_rng = random.Random(f"{config.seed}:{spec.name}:latency")
        names = [endpoint.name for endpoint in spec.endpoints]
        self._dice = FaultDice(config.faults, names, random.Random(f"{config.seed}:{spec.name}:faults"))
        documented = {each.name: parse_limit(each.limit) if each.limit else None for each in spec.endpoints}
        self._limits = {name: config.limits.get(name, limit) for name, limit in documented.items()}
        self._started_s = time.monotonic()  # not the loop's time, which uvloop keeps in whole milliseconds
        self.connections = 0
        self._clear()

    def _clear(self) -> None:
        self._effects: list[Effect] = []
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._strangers: dict[str, Tally] = {name: Tally(None) for name in self._limits}

    @property
    def credentials(self) -> list[Mapping[str, str]]:
        return [account.credentials for account in self._provider.accounts]

    def routes(self) -> list[web.RouteDef]:
        """Return the provider's routes and the control routes."""
        found = [
            web.route(method, path, self._handler(endpoint.name))
            for endpoint in self._spec.endpoints
            for method, path in endpoint.routes
        ]
        control = [
            web.get("/_emulator/effects", self._get_effects),
            web.get("/_emulator/stats", self._get_stats),
            web.get("/_emulator/targets", self._get_targets),
            web.post("/_emulator/reset", self._post_reset),
        ]
        return [*found, *control]

    def _handler(self, endpoint: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            half_s = self._latency.draw(self._latency_rng) / 2
            if half_s:
                await asyncio.sleep(half_s)
            try:
                raw = await request.read()
            except ConnectionResetError:
                return web.Response(status=400)  # the client has gone in the middle of its request
            reply, fault = self._decide(_read_call(request, endpoint, raw, self._now_s()))
            if half_s:
                await asyncio.sleep(half_s)
            response = _respond(reply)
            return await deliver(request, response, fault) if fault else response

        return handle

    def middleware(self) -> Middleware:
        """Return what gives the vendor's own answer to a path that it does not have."""

        @web.middleware
        async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
            if isinstance(request.match_info.http_exception, web.HTTPNotFound):
                return _respond(self._provider.failed("", 404))
            return await handler(request)

        return answer

    async def send_hooks(self, url: str) -> None:
        """Post the provider's webhooks as they fall due, for as long as this runs."""
        await post_hooks(url, lambda: self._provider.hooks(self._now_s()))

    def _now_s(self) -> float:
        return time.monotonic() - self._started_s

    def _decide(self, call: Call) -> tuple[Reply, Fault | None]:
        """Take a call from authentication to effect in one step: nothing can come between limit and effect."""
        account = self._provider.authenticate(call)
        if isinstance(account, Reply):
            tally = self._strangers[call.endpoint]
            tally.calls += 1
            tally.rejected[str(account.status)] += 1
            return account, None
        tally = self._tally(call.endpoint, account.id)
        window = tally.window
        tally.calls += 1
        fault = None
        if window and not window.admit(call.now_s):
            tally.throttled += 1
            reply = self._provider.failed(call.endpoint, 429)
            if self._config.retry_after:
                reply = _retry_after(reply, window.wait_s(call.now_s))
        else:
            tally.admitted += 1
            reply, fault = self._admitted(call, account, tally)
        headers = self._provider.headers(call.endpoint, window, call.now_s)
        return (_with_headers(reply, headers) if headers else reply), fault

    def _admitted(self, call: Call, account: Account, tally: Tally) -> tuple[Reply, Fault | None]:
        fault = self._dice.roll(call.endpoint)
        if fault:
            tally.faults[fault.kind.value] += 1
        reply = Reply(200)
        if not fault or not fault.kind.before:
            reply = self._provider.judge(call, account)
            if reply.effect is not None:
                tally.effects += 1
                seq = len(self._effects) + 1
                body = call.body if reply.logged is None else reply.logged
                self._effects.append(Effect(seq, call.now_s, call.endpoint, account.id, reply.effect, body))
            elif reply.status >= 400:
                tally.rejected[str(reply.status)] += 1
        if fault and fault.kind.status:
            reply = self._provider.failed(call.endpoint, fault.kind.status)
            if fault.kind is FaultKind.S429_RETRY_AFTER:
                reply = _retry_after(reply, fault.seconds)
        return reply, fault

    def _tally(self, endpoint: str, account_id: str) -> Tally:
        tally = self._tallies.get((endpoint, account_id))
        if tally is None:
            limit = self._limits[endpoint]
            tally = self._tallies[endpoint, account_id] = Tally(Window(limit) if limit else None)
        return tally

    async def _get_effects(self, request: web.Request) -> web.Response:
        since = request.query.get("since", "0")
        if not since.isdecimal():
            return web.Response(status=400, text=f"since={since}: not a seq\n")
        return _respond(Reply(200, {"effects": self._effects[int(since) :]}))  # seq counts up from 1

    async def _get_stats(self, _request: web.Request) -> web.Response:
        ids = [account.id for account in self._provider.accounts]
        endpoints: dict[str, object] = {}
        for name, limit in self._limits.items():
            known = {each: self._tally(name, each) for each in ids}
            endpoints[name] = {
                **sum_up([self._strangers[name], *known.values()]),
                "limit": limit.text if limit else None,
                "accounts": {each: tally.as_json() for each, tally in known.items()},
            }
        return _respond(Reply(200, {"endpoints": endpoints, "connections": self.connections}))

    async def _get_targets(self, request: web.Request) -> web.Response:
        accounts = self._provider.accounts
        asked, segment = request.query.get("account", accounts[0].id), request.query.get("segment", "")
        account = next((each for each in accounts if each.id == asked), None)
        if account is None:
            return web.Response(status=404, text=f"account={asked}: not one of this emulator's\n")
        targets = self._provider.targets(account, segment)
        if targets is None:
            return web.Response(status=404, text=f"segment={segment}: no such segment with targets\n")
        return _respond(Reply(200, {"targets": sorted(targets)}))

    async def _post_reset(self, _request: web.Request) -> web.Response:
        self._clear()
        return _respond(Reply(200, {"success": True}))


def _read_call(request: web.Request, endpoint: str, raw: bytes, now_s: float) -> Call:
    try:
        body: object = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    return Call(endpoint, request.path, request.match_info, request.query, request.headers, body, now_s)


def _respond(reply: Reply) -> web.Response:
    if reply.body is None:
        return web.Response(status=reply.status, headers=reply.headers)
    body = orjson.dumps(reply.body)
    return web.Response(body=body, status=reply.status, headers=reply.headers, content_type="application/json")


def _retry_after(reply: Reply, seconds: float) -> Reply:
    # Rounded up, and never to 0: whoever waits as long as told to is not refused again.
    return _with_headers(reply, {"Retry-After": str(max(1, math.ceil(seconds)))})


def _with_headers(reply: Reply, headers: Mapping[str, str]) -> Reply:
    return replace(reply, headers={**(reply.headers or {}), **headers})


async def serve(config: EmulatorConfig, ready: Callable[[dict[str, object]], None], stop: asyncio.Event) -> None:
    """Run every provider of `config` until `stop`; `ready` is called once, with the URLs and credentials.

    One port for each provider, counted up from `config.port`, or any free ones where that is 0. Raises OSError
    when a port is taken. Idle connections do not hold up the end, and calls in flight only shortly.
    """
    async with AsyncExitStack() as stack:
        listening: dict[str, object] = {}
        for index, spec in enumerate(config.providers):
            emulator = _Emulator(spec, config)
            port = await _listen(emulator, config.host, config.port and config.port + index, stack)
            shown = f"[{config.host}]" if ":" in config.host else config.host
            accounts = [{"url": f"http://{shown}:{port}", **each} for each in emulator.credentials]
            listening[spec.name] = {**accounts[0], "accounts": accounts} if len(accounts) > 1 else accounts[0]
            if config.webhook is not None:
                hooks = asyncio.create_task(emulator.send_hooks(config.webhook))
                stack.callback(hooks.cancel)
        ready(listening)
        await stop.wait()


async def _listen(emulator: _Emulator, host: str, port: int, stack: AsyncExitStack) -> int:
    """Open one port, to be closed by `stack`, and return its number."""
    app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[emulator.middleware()])
    app.add_routes(emulator.routes())
    runner = web.AppRunner(
        app, access_log=None, keepalive_timeout=_KEEPALIVE_S, shutdown_timeout=_SHUTDOWN_S, handle_signals=False
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    accept = runner.server
    if accept is None:
        raise RuntimeError("aiohttp set up no server")

    def connect() -> asyncio.BaseProtocol:
        emulator.connections += 1
        return accept()

    listener = await asyncio.get_running_loop().create_server(connect, host, port, backlog=_BACKLOG)
    stack.callback(listener.close)  # before the cleanup above: a stack unwinds from its end
    return int(listener.sockets[0].getsockname()[1])
