"""Two lists of as many ids: a tenth of each is not in the other. An id is 16 hexadecimal digits; no list is in order.

On disk they are what each side really gives: `desired.csv`, and the bodies of the vendor's replies in `pages`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

__all__ = [
    "DESIRED",
    "PAGES",
    "SEGMENT",
    "alone",
    "bodies",
    "desired_ids",
    "remote_ids",
    "write_desired",
    "write_lists",
]

T = TypeVar("T")

SEGMENT = "everybody"
DESIRED = "desired.csv"
PAGES = "pages"
_PAGE_IDS = 10_000
"""Of the vendor's page; it lists in order."""


def alone(work: Callable[[], T]) -> T:
    """Do work in a fresh process, so that its memory is in nobody's way."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(work).result()


def _id_of(number: int) -> str:
    """Return an id; different numbers below 2^64 give different ones, and neighbours are far from each other."""
    return f"{number * 0x9E3779B97F4A7C15 % (1 << 64):016x}"


def desired_ids(count: int) -> Iterator[str]:
    """Yield what the segment shall hold."""
    return map(_id_of, range(count))


def remote_ids(count: int) -> Iterator[str]:
    """Yield what it holds at first."""
    return map(_id_of, range(count // 10, count + count // 10))


def write_lists(folder: Path, count: int) -> None:
    """Write both lists."""
    (folder / PAGES).mkdir()
    alone(partial(_write_pages, folder / PAGES, count))
    write_desired(folder / DESIRED, count)


def write_desired(path: Path, count: int) -> None:
    """Write the desired list as a CSV file."""
    with path.open("w", encoding="ascii") as file:
        file.write("id\n")
        file.writelines(f"{each}\n" for each in desired_ids(count))


def _write_pages(folder: Path, count: int) -> None:
    """Write the bodies of all pages, with the fields that the vendor documents, as the emulator words them."""
    ids = sorted(remote_ids(count))
    for number, start in enumerate(range(0, count, _PAGE_IDS)):
        targets = [
            {
                "app_pk": 1_234_567,
                "segment_id": SEGMENT,
                "target_id": each,
                "created_at": "2026-01-01T12:00:00.000000Z",
            }
            for each in ids[start : start + _PAGE_IDS]
        ]
        following = {"next": f"cursor-{number + 1}"} if start + _PAGE_IDS < count else {}
        body = {"targets": targets, **following, "duration": "0.00ms"}
        (folder / f"{number:06}.json").write_bytes(msgspec.json.encode(body))


def bodies(folder: Path) -> Iterator[bytes]:
    """Yield the bodies, one in memory at a time."""
    return (path.read_bytes() for path in sorted((folder / PAGES).glob("*.json")))
