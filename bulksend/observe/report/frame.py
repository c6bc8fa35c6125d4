"""The frame of every page: its head, its style, the job file and the foot, and nothing from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from bulksend.observe.report.tables import section
from bulksend.observe.report.words import at, clipped, esc

__all__ = ["foot", "frame", "job_file"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def frame(mark: str, title: str, parts: Iterable[str]) -> str:
    """Return a whole page of these parts, empty ones left out; `mark` is how it begins, by which it is known again."""
    body = "\n".join(part for part in parts if part)
    return f"{mark}\n{_head(title)}<body><main>\n{body}\n</main></body></html>\n"


def _head(title: str) -> str:
    return (
        '<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f'<link rel="icon" href="data:,"><title>{clipped(title)}</title>\n'
        f"<style>\n{_style()}</style></head>\n"
    )


@cache
def _style() -> str:
    return Path(__file__).with_name("page.css").read_text("utf-8")


def job_file(name: str, text: str) -> str:
    """Return the job file, folded away; `text` is without secrets already."""
    if not text:
        return ""
    shown = f"<details><summary>{clipped(name)}</summary><pre>{esc(text)}</pre></details>"
    note = "<p class=note>As it was when this report was made. Secrets and credentials are left out.</p>"
    return section("job", "The job file", note, shown)


def foot(made_at: float, versions: Mapping[str, str], *, when: str = "") -> str:
    """Say when the page was made, and with what."""
    made = ", ".join(f"{esc(name)} {esc(version)}" for name, version in versions.items())
    care = "Keys of sends are in this file: handle it as you do them."
    return f"<footer>Made {esc(at(made_at))}{when}, with {made}. {care}</footer>"
