"""What stands between a difference and its first write: numbers that are rather a mistake than a wish."""

from __future__ import annotations

import math

from bulksend.job.spec import Guard, part_of
from bulksend.reconcile.difference import Difference

__all__ = ["is_drift", "reasons"]

DRIFT_SHARE = 0.005
"""So much of a segment may change while it is read without a word."""


def is_drift(number: int, of: int) -> bool:
    """Say whether so many targets of so many may have been changed by others meanwhile, rather than misread by us."""
    return number <= math.ceil(DRIFT_SHARE * of)


def reasons(difference: Difference, guard: Guard, *, desired_before: int | None, changes: bool = True) -> list[str]:
    """Return why the difference is not applied, a sentence each; none where it may be.

    `desired_before` is how many ids the list of the last run that came to its end had. Without `changes`, where the
    difference is only told, what makes it doubtful is told all the same.
    """
    found = []
    remote, desired = difference.remote + difference.unnamed, difference.desired
    if not desired and not guard.allow_empty:
        found.append("allow_empty: the desired list has no ids, which is rather a broken export than a wish")
    if difference.is_empty:
        return found
    if (counted := _miscounted(difference)) is not None:
        found.append(counted)
    if not changes:
        return found
    if desired_before and desired and desired_before - desired > part_of(guard.max_shrink, desired_before):
        less = f"{1 - desired / desired_before:.1%}"
        text = (
            f"max_shrink: the desired list has {desired:,} ids, {less} less than the {desired_before:,} of the last run"
        )
        found.append(f"{text}; at most {_percent(guard.max_shrink)} less are allowed")
    of = f" ({difference.removed / remote:.1%})" if remote else ""
    if guard.max_remove is not None and not guard.max_remove.allows(difference.removed, remote):
        text = f"max_remove: {difference.removed:,} of {remote:,} targets would be removed{of}"
        found.append(f"{text}, at most {guard.max_remove} are allowed")
    if guard.max_add is not None and not guard.max_add.allows(difference.added, remote):
        text = f"max_add: {difference.added:,} targets would be added to {remote:,}"
        found.append(f"{text}, at most {guard.max_add} are allowed")
    return found


def _percent(share: float) -> str:
    return f"{share:.2%}".replace(".00%", "%")


def _miscounted(difference: Difference) -> str | None:
    """Say that another number of targets was read than the vendor reports."""
    before, after = difference.sizes
    if before is None or after is None:
        return None
    remote = difference.remote + difference.unnamed
    least, most = min(before, after), max(before, after)
    off = max(least - remote, remote - most, 0)
    if off <= most - least or is_drift(off, most):
        return None
    says = f"{before:,}" if before == after else f"{before:,}, then {after:,}"
    return f"size: {remote:,} targets were read, and the vendor says that there are {says}"
