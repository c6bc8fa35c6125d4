"""The shell: one file per group of commands; each parses, calls the library, prints."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; exits with the codes of the README."""
    import sys

    from bulksend.cli.app import app

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to fail

    app(prog_name="bulksend")
