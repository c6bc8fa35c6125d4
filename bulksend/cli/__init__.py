"""The shell: one file per group of commands; each parses, calls the library, prints."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; exits with the codes of the README."""
    from bulksend.cli.app import app

    app(prog_name="bulksend")
