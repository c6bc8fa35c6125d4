"""Where a command's metrics go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bulksend.cli.printing import say

if TYPE_CHECKING:
    from bulksend.api.metrics import Metrics

__all__ = ["MetricsAddress", "MetricsFile", "OtlpUrl", "metered"]

MetricsAddress = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="ADDRESS",
        help="Serve Prometheus metrics there while it runs: :9464 is on this machine alone, 0.0.0.0:9464 is not.",
        show_default=False,
    ),
]
MetricsFile = Annotated[
    Path | None,
    typer.Option(
        "--metrics-file",
        metavar="FILE",
        help="Write Prometheus metrics to FILE, for node_exporter: ends in .prom.",
        show_default=False,
    ),
]
OtlpUrl = Annotated[
    str | None,
    typer.Option(
        "--otlp", metavar="URL", help="Push metrics to an OpenTelemetry collector, over HTTP.", show_default=False
    ),
]


@contextmanager
def metered(address: str | None, file: Path | None, otlp: str | None) -> Iterator[list[Metrics]]:
    """Give the observer that was asked for, or none, and close it afterwards."""
    if address is None and file is None and otlp is None:
        yield []
        return
    from bulksend.api.metrics import Metrics

    with Metrics(address=address, file=file, otlp=otlp, warn=lambda text: say(f"warning: {text}")) as metrics:
        if address is not None and address.rpartition(":")[2].strip("0") == "":
            say(f"metrics: {metrics.url}")
        yield [metrics]
