"""The calls of one reconciliation: what ends it is raised, what it goes on with is returned."""

from __future__ import annotations

from collections.abc import Callable

from bulksend.engine.caller import Caller
from bulksend.engine.limiter import StoppedError
from bulksend.errors import DeniedError, NetworkError, RunError
from bulksend.model import Accepted, Account, Denied, NotSent, Outcome, Rejected, Reply, Send, Step, Throttled, Unknown

__all__ = ["Calls"]


class Calls:
    """Calls about one segment of one account, at the limits of the run's caller; each is harmless to repeat."""

    def __init__(self, caller: Caller, account: Account, segment_id: str) -> None:
        self._caller = caller
        self._account = account
        self._segment_id = segment_id

    async def make(self, step: Step, read: Callable[[Reply], Outcome] | None = None) -> Accepted | Rejected:
        """Make a call until it is answered; `read` says what the answer means, by default the provider.

        Raises StoppedError when the run ends before, and RunError when no answer comes that could be understood.
        """
        send = Send(self._segment_id, 0, self._account, (step,), 0)
        _, outcome = await self._caller.request(send, step, read=read, waits=True)
        name = step.endpoint.name
        match outcome:
            case Accepted() | Rejected():
                return outcome
            case Denied(reason=reason, status=status):
                raise DeniedError(f"HTTP {status} from {name}: {reason}; check the account's token and ids")
            case NotSent(reason=reason) if not self._caller.is_over(self._account):
                raise NetworkError(f"cannot reach the vendor for {name}: {reason}; run again to go on")
            case Unknown(reason=reason) if not self._caller.is_over(self._account):
                raise RunError(f"{name} was not answered in a way that can be understood: {reason}; run again to go on")
            case Throttled(status=status) if not self._caller.is_over(self._account):
                raise RunError(f"HTTP {status} from {name}: told to wait too often; run again to go on")
            case _:
                raise StoppedError
