"""A small study: users, items, three kinds of profile."""

from __future__ import annotations

from experiments.study.tasks import Kit, make_kit
from langptune.domain import Interaction, Item, Session

KINDS = ("noprofile-0", "langptune-0", "langptune")


def sessions(count: int) -> tuple[list[Session], dict[str, Item]]:
    """User u has watched items u and u+1 and goes on to item u+2, in a ring of 2 * count items."""
    items = {f"i{at}": Item(f"i{at}", f"Title {at}", f"word{at} again") for at in range(2 * count)}
    rows = [
        Session(
            f"u{at}",
            tuple(Interaction(items[f"i{at + step}"], 4.0, "fine") for step in range(2)),
            (f"i{at + 2}",),
            "test",
        )
        for at in range(count)
    ]
    return rows, items


def small_kit(users: int = 18, seed: int = 0) -> Kit:
    rows, items = sessions(users)
    profiles = {kind: [f"{kind} profile of {row.user_id}" for row in rows] for kind in KINDS}
    return make_kit(rows, items, profiles, seed=seed)
