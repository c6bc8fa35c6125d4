"""A seed's whole story, life after life, and whether what was promised held in it (design §2)."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from dataclasses import dataclass

from bulksend.emulators.window import parse_limit
from tests.simulation.life import Life, scratch
from tests.simulation.network import World
from tests.simulation.scenario import Scenario, scenario_of
from tests.simulation.vendor import SPECS, UNPUBLISHED

LIVES_MOST = 60
MOMENT_S = 0.001
SETTLES_S = 2.5


class BrokenPromiseError(AssertionError):
    """What was promised did not hold."""


@dataclass(frozen=True)
class Story:
    """How a seed went: what people would count, and a hash of every step that two runs must share."""

    seed: int
    lives: tuple[str, ...]
    states: Counter[str]
    calls: int
    took_s: float
    digest: str


def tell(seed: int, name: str | None = None) -> Story:
    """Live through a seed; raises BrokenPromiseError with the way to see it again."""
    scenario = scenario_of(seed, name)
    try:
        return _tell(scenario)
    except Exception as wrong:
        way = f' --way "{name}"' if name else ""
        again = f"python -m tests.simulation --seed {seed}{way}"
        raise BrokenPromiseError(f"seed {seed}: {wrong}\nto see it again: {again}\n{scenario}") from wrong


def _tell(scenario: Scenario) -> Story:
    world = World(scenario)
    ends: list[str] = []
    acknowledged: dict[str, str] = {}
    with scratch() as first:
        folder = first
        while True:
            mortal = ends.count("died") < scenario.deaths
            world.calm = len(ends) > scenario.deaths + 6
            life = Life(world, folder, mortal=mortal)
            ends.append(life.ended)
            folder = life.folder
            _check_told(scenario, life, acknowledged)
            world.now_s += world.rng.uniform(0.0, 2 * scenario.down_s)
            world.now_s = max([world.now_s, *_settling(world)])
            if life.ended == "done":
                break
            _expect(len(ends) < LIVES_MOST, f"the job does not end: {ends[-3:]}")
        # What is still on its way arrives, however late.
        world.now_s += 100.0
        world.arrive(world.now_s)
        _check(world, life, acknowledged)
        before = len(world.left)
        world.calm = True
        again = Life(world, folder, mortal=False)
        _expect(again.ended == "done", f"the same job again: {again.ended}")
        # What was unknown it may look up, and go on with; nothing else.
        writes = [one for one in world.left[before:] if one[1] in scenario.way.writes]
        _expect("unknown" in life.states.values() or not writes, f"the same job again makes calls: {writes}")
        for key, state in life.states.items():
            _expect(state in ("unknown", again.states[key]), f"{key} was {state}, then {again.states[key]}")
        _check(world, again, acknowledged)
    _check_windows(world)
    digest = hashlib.sha256(repr((ends, world.left, world.trace, sorted(life.states.items()))).encode())
    return Story(
        scenario.seed,
        tuple(ends),
        Counter(life.states.values()),
        len(world.left),
        world.now_s - world.began_s,
        digest.hexdigest(),
    )


def _settling(world: World) -> list[float]:
    """Return from when on a process is started after the clock was set forward.

    One that is started within an interval of the limit after that, when the last one died before it could tell the
    ledger, knows nothing of the last call: one too many may leave then. That is a known limit of the limiter's.
    """
    set_at_s = [world.began_s + at_s for at_s, by_s in world.scenario.jumps if by_s > 0]
    return [at_s + SETTLES_S for at_s in set_at_s if at_s - SETTLES_S < world.now_s]


def _check_told(scenario: Scenario, life: Life, acknowledged: dict[str, str]) -> None:
    for key, state in life.acknowledged.items():
        before = acknowledged.setdefault(key, state)
        _expect(before == state, f"{key} was told as {before}, and is {state}")
    for endpoint, most in life.max_in_window.items():
        allowed = parse_limit(_limit(scenario, endpoint)).rates[0].calls
        _expect(most <= allowed, f"{endpoint}: the summary has {most} in a window of {allowed}")


def _check(world: World, life: Life, acknowledged: dict[str, str]) -> None:
    scenario = world.scenario
    reached = world.vendor.reached(scenario.keys)
    _expect(set(life.states) == set(scenario.keys), f"rows are lost: {set(scenario.keys) - set(life.states)}")
    most = 2 if scenario.resends else 1
    for key, state in life.states.items():
        times = reached[key]
        _expect(times <= most, f"{key} reached people {times} times")
        _expect(state in ("accepted", "rejected", "unknown"), f"{key} is left {state}")
        _expect(state != "accepted" or times >= 1, f"{key} is accepted, and the vendor has nothing of it")
        _expect(state != "rejected" or times == 0, f"{key} is rejected, and it reached people")
        _expect(state != "rejected" or key in scenario.refused, f"{key} is rejected without a reason")
        _expect(key not in scenario.refused or times == 0, f"{key} was to be refused")
    for key, said in acknowledged.items():
        _expect(life.states[key] == said, f"{key} was told as {said}, and is {life.states[key]}")
    counted = Counter(life.states.values())
    for state in ("accepted", "rejected", "unknown"):
        _expect(life.counts[state] == counted[state], f"{life.counts[state]} are counted as {state}, not {counted}")
    _expect(life.counts["sending"] == 0, "something is still counted as under way")


def _check_windows(world: World) -> None:
    """See that no window held more than the limit: as calls left, and where the way is steady, as they came."""
    lines: dict[tuple[str, str], list[float]] = {}
    for at_s, endpoint, account in world.left:
        lines.setdefault((endpoint, account), []).append(at_s)
    for (endpoint, account), times in lines.items():
        for rate in parse_limit(_limit(world.scenario, endpoint)).rates:
            window: deque[float] = deque()
            for at_s in times:
                window.append(at_s)
                while window[0] <= at_s - rate.seconds:
                    window.popleft()
                text = f"{endpoint} of {account}: {len(window)} calls left in {rate.seconds:g} s, up to {at_s:.3f}"
                _expect(len(window) <= rate.calls, f"{text}; {rate.calls} are allowed")
    for from_s, until_s, endpoint, account in world.told_to_wait:
        early = [at_s for at_s in lines[endpoint, account] if from_s + MOMENT_S < at_s < until_s - MOMENT_S]
        _expect(not early, f"{endpoint} of {account} was to wait until {until_s:.3f}, and was called at {early}")
    if world.scenario.is_steady:
        _expect(world.vendor.throttled == 0, f"{world.vendor.throttled} calls were over the vendor's limit")


def _limit(scenario: Scenario, endpoint: str) -> str:
    documented = {one.name: one.limit for one in SPECS[scenario.way.provider].endpoints}
    return scenario.limits.get(endpoint) or documented[endpoint] or UNPUBLISHED


def _expect(holds: object, otherwise: str) -> None:
    if not holds:
        raise BrokenPromiseError(otherwise)
