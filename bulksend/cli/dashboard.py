"""`bulksend dashboard`."""

from __future__ import annotations

from importlib import resources

import typer

__all__ = ["dashboard"]


def dashboard() -> None:
    """Print a Grafana dashboard of the metrics, as JSON to import; the Prometheus data source is chosen in it.

    Example: bulksend dashboard > bulksend-dashboard.json
    """
    text = resources.files("bulksend.observe").joinpath("dashboard.json").read_text("utf-8")
    typer.echo(text, nl=False)
