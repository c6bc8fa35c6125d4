"""Single calls to a vendor, at its limits: every documented request, for what no job file does."""

from __future__ import annotations

import dataclasses
import random
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bulksend.api.opening import open_ledger
from bulksend.api.refusal import Observer
from bulksend.engine.caller import Caller
from bulksend.engine.direct import open_transport
from bulksend.errors import CallFailedError, InterruptedRunError, JobError, Problem, RunError
from bulksend.event import Event
from bulksend.fields import did_you_mean, read_table, unknown_fields
from bulksend.job.accounts import Accounts
from bulksend.job.file import load_account
from bulksend.model import Accepted, Outcome, Send
from bulksend.providers.base import read_json

__all__ = ["Answer", "Client"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to. `status` and `body` (decoded JSON) are None where no whole reply came."""

    endpoint: str
    outcome: Outcome
    status: int | None = None
    body: object = None

    @property
    def accepted(self) -> bool:
        """Say whether the vendor took the call, by its documented word."""
        return isinstance(self.outcome, Accepted)

    def raise_for_failure(self) -> None:
        """Raise CallFailedError unless the call was accepted."""
        if not self.accepted:
            reason = getattr(self.outcome, "reason", "told to wait")
            raise CallFailedError(f"{self.endpoint}: {reason}")


class Client:
    """Calls one account's endpoints one by one, each at its limit.

        async with bulksend.Client({"provider": "insider", "partner_id": "…", "token": "env:INSIDER_TOKEN"}) as client:
            answer = await client.call("insider.statistics", {"start_date": "2026-04-01", …}, ref="overall-metrics")

    `account` has the fields of a job file's [account]; `limits` those of [limits]. The limits are shared with whatever
    uses the same `ledger`; without one they hold for this client alone. A call that is harmless to repeat is repeated
    where that helps, one that may reach people never is; nothing of it is recorded, so that once-only launches are the
    business of jobs. Raises JobError for a wrong account.
    """

    def __init__(
        self,
        account: Mapping[str, object],
        *,
        limits: Mapping[str, str] | None = None,
        ledger: str | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        try:
            loaded = load_account(account, limits or {})
        except JobError as wrong:
            raise JobError([dataclasses.replace(one, file=None) for one in wrong.problems]) from None
        self._provider = loaded.provider
        self._ledger = ledger
        self._observers = tuple(observers)
        accounts = Accounts(
            {loaded.account.name: loaded.account}, chooser=None, provider=loaded.provider, base_dir=Path.cwd()
        )
        if accounts.columns:
            raise JobError(f"${{{accounts.columns[0]}}} cannot stand in an account here: there are no rows")
        self._account = accounts.of([])
        self._loaded = loaded
        self._stack = AsyncExitStack()
        self._caller: Caller | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bulksend-")))
            ledger = open_ledger(self._ledger or f"sqlite://{folder / 'limits.db'}", folder)
            stack.push_async_callback(ledger.close)
            await ledger.open(create=True)
            transport = open_transport()
            stack.push_async_callback(transport.close)
            caller = Caller(
                job="-",
                provider=self._provider,
                ledger=ledger,
                transport=transport,
                limit_of=self._loaded.limit,
                wall=time.time,
                random=random.random,
                observe=self._observe,
                contract=self._loaded.limits,
                gives_up=False,
            )
            stack.push_async_callback(caller.close)
            self._caller, self._stack = caller, stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._caller is not None
        self._caller.stop()
        await self._stack.aclose()

    def _observe(self, event: Event) -> None:
        for observer in self._observers:
            observer(event)

    async def call(
        self, endpoint: str, body: Mapping[str, object] | None = None, *, ref: str | int | None = None
    ) -> Answer:
        """Make one call. `body` has the fields of the vendor's page, in the job file's form; `ref` is the path's id.

        What a reading route takes in its query stands in `body` too. Raises JobError, before any call, for an unknown
        endpoint, a field that breaks the vendor's rules, or a missing `ref`; InterruptedRunError once the client ends.
        """
        assert self._caller is not None, "use `async with`"
        found = self._provider.endpoints.get(endpoint)
        if found is None:
            raise JobError(f"there is no endpoint {endpoint}{did_you_mean(endpoint, self._provider.endpoints)}")
        if "{ref}" in found.path and (ref is None or not str(ref).strip()):
            raise JobError(Problem(f"is required: it stands in the path {found.path}", field="ref"))
        if str(ref) in (".", ".."):
            raise JobError(Problem("cannot be an id: a path would lead elsewhere", field="ref"))
        fields, given = self._provider.bodies[endpoint], dict(body or {})
        values, faults = read_table(fields, given, endpoint)
        faults = unknown_fields(fields, given, endpoint) + faults
        wrong = {fault.path.removeprefix(f"{endpoint}.").partition("[")[0].partition(".")[0] for fault in faults}
        right = {name: value for name, value in values.items() if name not in wrong}
        more = self._provider.check(endpoint, right, now=time.time())
        faults += [one for one in more if not (wrong and one.text.startswith("is required"))]
        if faults:
            raise JobError([Problem(fault.text, field=fault.path) for fault in faults])
        try:
            step = self._provider.request(found, values, self._account, ref=None if ref is None else str(ref))
        except (ValueError, TypeError) as wrong:
            raise JobError(Problem(str(wrong), field=endpoint)) from None
        reply, outcome = await self._caller.request(Send(endpoint, 0, self._account, (step,), 0), step)
        if outcome is None:
            raise InterruptedRunError("the client was closed before the call was made")
        if reply is None:
            return Answer(endpoint, outcome)
        return Answer(endpoint, outcome, reply.status, read_json(reply.body))

    async def pages(
        self, endpoint: str, body: Mapping[str, object] | None = None, *, ref: str | int | None = None
    ) -> AsyncIterator[Answer]:
        """Make a listing call page by page, by the vendor's own cursor, from where `body` begins.

        Ends after the last page, or after an answer that was not accepted. Raises what `call` raises, and RunError when
        the vendor gives the same cursor twice.
        """
        asked = dict(body or {})
        seen: set[str] = set()
        first = True
        while True:
            answer = await self.call(endpoint, asked, ref=ref)
            if answer.status == 404 and not first:
                return  # the list became shorter under way
            yield answer
            following = self._provider.following(self._provider.endpoints[endpoint], asked, answer.body)
            if not answer.accepted or following is None:
                return
            if repr(following) in seen:
                raise RunError(f"{endpoint}: the vendor's cursor leads in a circle")
            seen.add(repr(following))
            asked, first = following, False
