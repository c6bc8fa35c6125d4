"""`bulksend emulate`."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bulksend.cli.printing import exit_codes, print_json
from bulksend.errors import JobError, RunError

if TYPE_CHECKING:
    import asyncio

__all__ = ["emulate"]


def emulate(
    providers: Annotated[
        list[str] | None, typer.Argument(metavar="[PROVIDER]...", help="All of them when none is named.")
    ] = None,
    *,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Counted up; 0: any free ones.")] = 8900,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    limit: Annotated[
        list[str],
        typer.Option("--limit", metavar="ENDPOINT=LIMIT", help="insider.launch=600/6s in place of the documented one."),
    ] = [],
    latency: Annotated[str, typer.Option("--latency", metavar="TIME", help="20ms, or 20ms±10ms.")] = "0",
    fault: Annotated[
        list[str],
        typer.Option(
            "--fault",
            metavar="[ENDPOINT=]KIND:SHARE",
            help="429, 429-retry-after=1, 424, 500, 503, 500-after, reset-before, reset-after, slow=2s, truncated or "
            "not-json; reset-after:1%.",
        ),
    ] = [],
    accounts: Annotated[int, typer.Option("--accounts", min=1, help="How many sets of credentials it accepts.")] = 1,
    campaign: Annotated[
        list[int], typer.Option("--campaign", metavar="ID", help="A campaign that exists from the start.")
    ] = [],
    segment: Annotated[
        list[str],
        typer.Option(
            "--segment",
            metavar="ID",
            help="A segment that exists; without any, all do. User.com: 77:5000 is 77 with 5,000 users, not 10; Stream "
            "takes the whole text for an id.",
        ),
    ] = [],
    collation: Annotated[
        str,
        typer.Option("--collation", metavar="code-point|no-case", help="The order in which Stream lists targets."),
    ] = "code-point",
    webhook: Annotated[
        str | None, typer.Option("--webhook", metavar="URL", help="Where the vendor's webhooks go.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Faults, latency and credentials follow from it.")] = 0,
    retry_after: Annotated[bool, typer.Option("--retry-after", help="Send Retry-After with a 429.")] = False,
    until_stdin_closes: Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)] = False,
) -> None:
    """Behave as a vendor does, on this machine: documented routes, answers, limits, and faults on demand.

    Prints one line of JSON with addresses and credentials when it is ready. What took effect is at
    /_emulator/effects, counts at /_emulator/stats, who is in a segment of Stream's at /_emulator/targets?segment=ID.

    Example: bulksend emulate insider --port 8900 --latency 20ms±10ms --fault reset-after:1%
    """
    import asyncio

    from bulksend.api.blocking import loop_factory
    from bulksend.emulators.server import EmulatorConfig, serve

    with exit_codes("emulate", as_json=False):
        try:
            config = EmulatorConfig.from_texts(
                providers or (),
                port,
                host,
                limit,
                latency,
                fault,
                accounts,
                seed,
                campaign,
                segment,
                retry_after=retry_after,
                webhook=webhook,
                collation=collation,
            )
        except ValueError as wrong:
            raise JobError(str(wrong)) from None

        async def main() -> None:
            loop = asyncio.get_running_loop()
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop.set)
            if until_stdin_closes:
                loop.add_reader(sys.stdin.fileno(), _stop_at_end, sys.stdin.fileno(), stop)
            await serve(config, print_json, stop)

        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(main())
        except OSError as wrong:
            raise RunError(f"cannot listen on {host}: {wrong.strerror or wrong}") from None


def _stop_at_end(descriptor: int, stop: asyncio.Event) -> None:
    """The process that started us holds the other end: when that closes, nobody needs us any more."""
    if not os.read(descriptor, 1024):
        stop.set()
