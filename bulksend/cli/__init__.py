"""The shell: one file per group of commands; each parses, calls the library, prints."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; exits with the codes of the README."""
    import gc
    import os
    import sys
    from pathlib import Path

    from bulksend.cli.app import app

    # The sends under way are many, live for milliseconds and hold no cycles: to go through them every 700 new objects
    # took a third of a run's CPU.
    gc.set_threshold(50_000, 20, 50)

    match sys.argv[1:]:
        case ["--show-completion", "bash" | "zsh" | "fish" as shell]:
            # Typer shows the script of the shell that it finds itself in, and has this way to ask for another's.
            os.environ["_BULKSEND_COMPLETE"] = f"source_{shell}"

    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Started with it closed: the first file that is opened would take its place, and be written to.
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # till the process ends
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to fail

    app(prog_name="bulksend")
