"""The funnel: one row per step of the preparation, with what was left after it, what it dropped, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langptune.errors import FailedPrecondition


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """What was left after one step."""

    step: str
    users: int
    items: int
    interactions: int
    dropped: int  # interactions that this step took away
    why: str  # the rule of the step, and counts of its own


class EmptyResult(FailedPrecondition):
    """Every interaction was dropped; `funnel` shows where. Its last row is the step that dropped the rest."""

    def __init__(self, funnel: Sequence[FunnelRow], advice: str) -> None:
        before = funnel[-2] if len(funnel) > 1 else None
        had = f" from {before.users} users, {before.items} items and {before.interactions} interactions" if before else ""
        super().__init__(
            f"nothing is left{had} after step '{funnel[-1].step}' ({funnel[-1].why}): {advice}", reason="EMPTY_RESULT"
        )
        self.funnel = tuple(funnel)
