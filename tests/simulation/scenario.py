"""What a seed stands for: the job, the way to the vendor, and all that goes wrong."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.engine.rig import job_of

ROWS_MOST = 12
LIMITS = ("2/1s", "3/1s", "5/2s", "4/3s", "10/5s, 3/1s", "3/1s, 7/5s", "60/min", "600/6s", "6000/min")
FAULTS = (
    "429",
    "429 with Retry-After",
    "500",
    "503",
    "500 after",
    "503 after",
    "reset before",
    "reset after",
    "truncated",
    "not JSON",
    "slow",
    "never answered",
    "never arrives",
    "refused",
)
LATE = "arrives late"
"""The request is held up on its way, also beyond the time after which nobody waits for the reply."""
INSIDER_FAULTS = ("424", "424 after")
OUTAGES = ("refused", "503", "reset before", "never answered")
STEADY_S = 0.05
"""A spread of the way that the limiter's margin covers from the first call on."""


@dataclass(frozen=True)
class Way:
    """How a job sends: its tables, which endpoints write, and which one reaches people."""

    provider: str
    writes: tuple[str, ...]
    reads: tuple[str, ...] = ()
    launch: Mapping[str, Any] | None = None
    create: Mapping[str, Any] | None = None


WAYS = {
    "insider": Way("insider", ("insider.create", "insider.launch"), create={"title": "Sale", "language": "en_GB"}),
    "insider, a campaign per row": Way(
        "insider",
        ("insider.create", "insider.launch"),
        create={"per": "row", "title": "Sale ${key}", "language": "en_GB"},
    ),
    "usercom": Way("usercom", ("usercom.create",), ("usercom.list",)),
    "batch": Way("batch", ("batch.create", "batch.update"), ("batch.get",)),
    "batch, direct": Way("batch", ("batch.create",), ("batch.list",), launch={"send": "direct"}),
    "stream": Way("stream", ("stream.campaign.create", "stream.campaign.start"), ("stream.campaign.get",)),
}


@dataclass(frozen=True)
class Outage:
    """The vendor is away for a while."""

    from_s: float
    to_s: float
    fate: str


@dataclass(frozen=True)
class Scenario:
    """Everything that is drawn before the first call; what is drawn later follows from `seed` too."""

    seed: int
    name: str
    keys: tuple[str, ...]
    accounts: tuple[str, ...]
    limits: Mapping[str, str]
    resends: bool
    latency_s: float
    spread_s: float
    faults: Mapping[str, float]
    """Share of the calls by fault."""
    refused: frozenset[str]
    """Keys that the vendor will not have."""
    outages: tuple[Outage, ...]
    jumps: tuple[tuple[float, float], ...]
    """When the wall clock is set, and by how much."""
    commit_s: float
    stalls: float
    disk_errors: float
    deaths: int
    steps_alive: float
    """After how many steps of the event loop a life ends, on average."""
    down_s: float

    @property
    def way(self) -> Way:
        return WAYS[self.name]

    @property
    def is_steady(self) -> bool:
        """Say whether calls reach the vendor as they left, so that it may never have to refuse one."""
        return self.spread_s <= STEADY_S and LATE not in self.faults and not self.jumps

    def job(self) -> dict[str, Any]:
        tables: dict[str, Any] = {"limits": dict(self.limits)}
        if self.way.create is not None:
            tables["create"] = dict(self.way.create)
        if self.resends:
            tables["policy"] = {"on_unknown": "resend"}
        return job_of(self.way.provider, launch=self.way.launch, **tables)


def scenario_of(seed: int, name: str | None = None) -> Scenario:
    """Draw a scenario; with a name, of that way of sending."""
    rng = random.Random(f"scenario:{seed}")
    drawn = rng.choice(sorted(WAYS))
    name = name or drawn
    way = WAYS[name]
    accounts = ("a", "b")[: rng.choice((1, 1, 2))]
    keys = tuple(f"{rng.choice(accounts)}{number:02}" for number in range(rng.randint(1, ROWS_MOST)))
    kinds = (*FAULTS, *(INSIDER_FAULTS if way.provider == "insider" else ()), LATE)
    faults = {kind: rng.choice((0.02, 0.1, 0.3)) for kind in rng.sample(kinds, rng.randint(0, 4))}
    outages = []
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        from_s = rng.uniform(0, 30)
        outages.append(Outage(from_s, from_s + rng.choice((1.0, 20.0, 300.0)) * rng.random(), rng.choice(OUTAGES)))
    jumps = [
        (rng.uniform(0, 30), rng.choice((-3600.0, -7.0, 0.4, 90.0, 3600.0))) for _ in range(rng.choice((0, 0, 0, 1, 2)))
    ]
    limits = {endpoint: rng.choice(LIMITS) for endpoint in (*way.writes, *way.reads) if rng.random() < 0.8}
    return Scenario(
        seed=seed,
        name=name,
        keys=keys,
        accounts=accounts,
        limits=limits,
        resends=rng.random() < 0.15,
        latency_s=rng.choice((0.001, 0.02, 0.3, 3.0)),
        spread_s=rng.choice((0.0, 0.01, STEADY_S, 0.3)),
        faults=faults,
        refused=frozenset(key for key in keys if rng.random() < 0.1) if rng.random() < 0.3 else frozenset(),
        outages=tuple(outages),
        jumps=tuple(jumps),
        commit_s=rng.choice((0.0, 0.0, 0.002, 0.02)),
        stalls=rng.choice((0.0, 0.0, 0.01, 0.1)),
        disk_errors=rng.choice((0.0, 0.0, 0.0, 0.003, 0.02)),
        deaths=rng.choice((0, 1, 3, 6)),
        steps_alive=rng.choice((30.0, 150.0, 600.0)),
        down_s=rng.choice((0.0, 0.1, 2.0, 90.0)),
    )
