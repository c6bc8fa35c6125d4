"""The order of a segment's targets. UNCONFIRMED: the vendor's; it is one of these, as the emulator was told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from bulksend.emulators import CODE_POINT, NO_CASE

__all__ = ["COLLATIONS", "Rank", "by_code_point", "by_no_case"]

Rank: TypeAlias = Callable[[str], Any]  # what an id is compared by; no two ids have the same


def by_code_point(target_id: str) -> str:
    """Compare as the bytes of UTF-8 do: B before a."""
    return target_id


def by_no_case(target_id: str) -> tuple[str, str]:
    """Compare without case first: a, B, b; ids that differ in nothing else go by code point."""
    return target_id.casefold(), target_id


COLLATIONS: Final[Mapping[str, Rank]] = MappingProxyType({CODE_POINT: by_code_point, NO_CASE: by_no_case})
