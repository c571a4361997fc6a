"""The sample world as a prepared data set on disk: one session a user, splits disjoint by user.

The content hash depends on (items, users, seed) alone. The shipped models were trained on other seeds, so on other users
and other films than any data set whose seed is below MODEL_SEEDS.
"""

from __future__ import annotations

from pathlib import Path

from langptune.data.dataset import Dataset, SessionRow, write_dataset
from langptune.domain import Interaction, Session
from langptune.errors import InvalidArgument
from samples.users import make_sessions, make_users
from samples.world import DEFAULT_ITEMS, Catalogue, make_catalogue

DEFAULT_USERS = 6_400
VALIDATION_SHARE = 0.1
TEST_SHARE = 0.3
MODEL_SEEDS = 1_000  # seeds from here on belong to pre-training


def make_dataset(folder: str | Path, *, items: int = DEFAULT_ITEMS, users: int = DEFAULT_USERS, seed: int = 0) -> Dataset:
    """Write the world of `seed` to `folder`. Raises InvalidArgument if a split would be empty or the seed is reserved."""
    if users < 10:
        raise InvalidArgument("users", f"must be at least 10, not {users}")
    if not 0 <= seed < MODEL_SEEDS:
        raise InvalidArgument("seed", f"must be between 0 and {MODEL_SEEDS - 1}, not {seed}")
    catalogue = make_catalogue(items, seed)
    interactions: list[tuple[str, Interaction]] = []
    rows: list[SessionRow] = []
    for session in world_sessions(catalogue, users, seed):
        rows.append(_row(session, len(interactions)))
        interactions += [(session.user_id, entry) for entry in session.history]
    return write_dataset(
        folder,
        name=f"sample-world-{seed}",
        items=catalogue.items,
        interactions=interactions,
        sessions=rows,
        made_by={"generator": "samples.dataset", "items": items, "users": users, "seed": seed},
    )


def world_sessions(catalogue: Catalogue, users: int, seed: int) -> list[Session]:
    """One session for each of `users` users: the first are for training, the last for the test."""
    people = make_users(users, seed)
    validation = users - int(users * (VALIDATION_SHARE + TEST_SHARE))
    test = users - int(users * TEST_SHARE)
    return [
        Session(session.user_id, session.history, session.target_item_ids, _split(at, validation, test))
        for at, session in enumerate(make_sessions(catalogue, people, seed))
    ]


def _split(at: int, validation: int, test: int) -> str:
    return "train" if at < validation else "validation" if at < test else "test"


def _row(session: Session, first: int) -> SessionRow:
    rows = tuple(range(first, first + len(session.history)))
    return SessionRow(session.user_id, session.split, rows, session.target_item_ids)
