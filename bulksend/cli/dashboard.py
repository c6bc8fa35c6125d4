"""`bulksend dashboard`."""

from __future__ import annotations

from importlib import resources

import typer

from bulksend.cli.printing import say

__all__ = ["dashboard"]


def dashboard() -> None:
    """Print a Grafana dashboard of the metrics, as JSON to import; the Prometheus data source is chosen in it.

    Example: bulksend dashboard > bulksend-dashboard.json
    """
    text = resources.files("bulksend.observe").joinpath("dashboard.json").read_text("utf-8")
    try:
        typer.echo(text, nl=False)
    except BrokenPipeError:
        raise
    except OSError as wrong:
        say(f"error: the dashboard cannot be written: {wrong.strerror}")
        raise typer.Exit(1) from None
