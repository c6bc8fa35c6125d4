"""Many rows at a time: those that differ in texts only, and are fine, are judged and rendered column by column.

The renderer says what a row comes to; here nothing is decided that it would decide otherwise. A row that this way is
not sure of is left to it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import cast

from bulksend.errors import JobError
from bulksend.job.mould import Mould
from bulksend.job.render import KEY_MOST, Renderer, is_fit_key
from bulksend.job.texts import Columns, Text
from bulksend.model import Account, Send

__all__ = ["Bulk", "Fine"]

Row = Sequence[object]


@dataclass(frozen=True, slots=True)
class Fine:
    """Rows of one account that nothing is wrong with; `at` says which of those that were given."""

    account: Account
    moulds: tuple[Mould, ...]
    at: Sequence[int]
    columns: Columns

    def sends(self, numbers: Sequence[int]) -> list[Send]:
        """Return their sends; `numbers` are the numbers of all rows that were given."""
        bodies = [mould.bodies(self.columns, len(self.at)) for mould in self.moulds]
        steps = zip(*(mould.steps(some) for mould, some in zip(self.moulds, bodies, strict=True)), strict=True)
        hashed = [[body + mould.tail for body in some] for mould, some in zip(self.moulds, bodies, strict=True)]
        whole = hashed[0] if len(hashed) == 1 else map(b"".join, zip(*hashed, strict=True))
        digests = b"".join([blake2b(one, digest_size=8).digest() for one in whole])
        prints = struct.unpack(f">{len(self.at)}q", digests)
        own = map(numbers.__getitem__, self.at)
        account = self.account
        return [
            Send(key, number, account, its_steps, one)
            for key, number, its_steps, one in zip(self.columns[0], own, steps, prints, strict=True)
        ]


class Bulk:
    """The quick way of a renderer."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        texts = [table.texts() for table in renderer.steps]
        self._texts: list[list[Text]] | None = None
        if texts and renderer.columns and all(one is not None for one in texts):
            self._texts = [one for one in texts if one is not None]
        self._moulds: dict[Account, tuple[Mould, ...] | None] = {}

    def fine(self, rows: Sequence[Row], *, with_secrets: bool = True) -> list[Fine]:
        """Return those of the rows that are surely fine; the others are to be looked at one by one."""
        if self._texts is None or not rows:
            return []
        columns: list[tuple[object, ...]] = list(zip(*rows, strict=True))
        at: Sequence[int] = range(len(rows))
        if not all(map(_are_texts, columns)):
            at = [index for index, row in enumerate(rows) if all(_are_texts((cell,)) for cell in row)]
            columns = list(zip(*(rows[index] for index in at), strict=True))
        if not at:
            return []
        cells = cast("Columns", columns)
        wrong = _unfit(cells[0])
        wrong.update(*(text.doubtful(cells) for texts in self._texts for text in texts))
        if wrong:
            at, cells = _chosen([index for index in range(len(at)) if index not in wrong], at, cells)
        return list(self._by_account(rows, at, cells, with_secrets=with_secrets))

    def _by_account(
        self, rows: Sequence[Row], at: Sequence[int], columns: Columns, *, with_secrets: bool
    ) -> Iterator[Fine]:
        if not at:
            return
        deciding = [columns[index] for index in self._renderer.account_at]
        of_account: dict[tuple[str, ...], list[int]] = {}
        if len(set(zip(*deciding, strict=True))) > 1:
            for index, values in enumerate(zip(*deciding, strict=True)):
                of_account.setdefault(values, []).append(index)
        for chosen in of_account.values() or [range(len(at))]:
            try:
                account = self._renderer.account_of(rows[at[chosen[0]]], with_secrets=with_secrets)
            except JobError:
                continue  # told with each of its rows
            moulds = self._of(account)
            if moulds is not None:
                its_at, cells = (at, columns) if len(chosen) == len(at) else _chosen(chosen, at, columns)
                yield Fine(account, moulds, its_at, cells)

    def _of(self, account: Account) -> tuple[Mould, ...] | None:
        """Return the moulds of the account's steps; None where they have none, or where a time in them has passed."""
        assert self._texts is not None
        tables = self._renderer.steps
        if account not in self._moulds:
            cast = [table.mould(texts, account) for table, texts in zip(tables, self._texts, strict=True)]
            moulds = tuple(mould for mould in cast if mould is not None)
            self._moulds[account] = moulds if len(moulds) == len(cast) else None
        found = self._moulds[account]
        check, now = self._renderer.job.provider.check, self._renderer.now
        if found is None or any(check(table.name, one.body, now=now) for table, one in zip(tables, found, strict=True)):
            return None
        return found


def _chosen(chosen: Sequence[int], at: Sequence[int], columns: Columns) -> tuple[list[int], Columns]:
    return [at[index] for index in chosen], [[cells[index] for index in chosen] for cells in columns]


def _unfit(keys: Sequence[str]) -> set[int]:
    if all(map(str.isprintable, keys)) and max(map(len, keys)) <= KEY_MOST:
        return set()
    return {index for index, key in enumerate(keys) if not is_fit_key(key)}


def _are_texts(cells: Sequence[object]) -> bool:
    """Say whether all are texts that are not blank and that JSON can carry."""
    if set(map(type, cells)) != {str}:
        return False
    texts = cast("Sequence[str]", cells)
    if not all(texts) or any(map(str.isspace, texts)):
        return False
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True
