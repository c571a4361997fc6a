"""What a system may learn from, and in which form: sessions, a user-item matrix, sequences.

The footnote of Section 4.2: black-box systems learn from the training set and from the histories of held-out users. So test
sessions are here without their targets: what a system is not given it cannot learn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from langptune.data.dataset import Dataset
from langptune.domain import Item, Session
from langptune.errors import FailedPrecondition, InvalidArgument


@dataclass(frozen=True)
class TrainingData:
    """The catalogue, the training sessions, the validation sessions (to choose by), the test histories (without targets)."""

    items: Mapping[str, Item]  # in the order of every score vector
    train: tuple[Session, ...]
    validation: tuple[Session, ...]
    test_histories: tuple[Session, ...]  # sessions whose targets have been taken out
    domain: str

    @cached_property
    def positions(self) -> dict[str, int]:
        """Item id -> place in a score vector."""
        return {item_id: at for at, item_id in enumerate(self.items)}

    @cached_property
    def seen(self) -> dict[str, tuple[int, ...]]:
        """User -> the items that may be learnt from, each once, oldest first: training targets are among them, others are not."""
        found: dict[str, dict[int, None]] = {}
        for session in self.train:
            found.setdefault(session.user_id, {}).update(dict.fromkeys(self.sequence(session)))
        for session in (*self.validation, *self.test_histories):
            found.setdefault(session.user_id, {}).update(dict.fromkeys(self.history(session)))
        return {user: tuple(items) for user, items in found.items()}

    @cached_property
    def users(self) -> dict[str, int]:
        """User id -> row of `matrix`."""
        return {user: at for at, user in enumerate(self.seen)}

    @cached_property
    def matrix(self) -> sparse.csr_array:
        """[users, items] of 0/1: `seen`."""
        rows = [row for row, items in enumerate(self.seen.values()) for _ in items]
        columns = [item for items in self.seen.values() for item in items]
        shape = (len(self.seen), len(self.items))
        return sparse.csr_array((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape)

    def history(self, session: Session) -> list[int]:
        """Positions of the history's items, oldest first."""
        return [self.positions[entry.item.item_id] for entry in session.history]

    def sequence(self, session: Session) -> list[int]:
        """The history, then the targets."""
        return self.history(session) + [self.positions[item_id] for item_id in session.target_item_ids]

    def rows(self, sessions: Sequence[Session]) -> NDArray[np.intp]:
        """Rows of `matrix`, one a session. Raises FailedPrecondition for a user that was not there to learn from."""
        strangers = [session.user_id for session in sessions if session.user_id not in self.users]
        if strangers:
            raise FailedPrecondition(f"nothing was learnt of user {strangers[0]!r}", reason="UNKNOWN_USER")
        return np.array([self.users[session.user_id] for session in sessions], dtype=np.intp)


@dataclass(frozen=True)
class Split:
    """A data set as an experiment sees it: what to learn from, and who is measured on."""

    training: TrainingData
    test: tuple[Session, ...]  # with their targets, in file order


def split_of(dataset: Dataset, *, test_users: int = 0, train_ratio: float = 1.0, seed: int = 0) -> Split:
    """The first `test_users` test sessions (0: all) and a share of the training users, smaller shares within larger ones.

    Raises InvalidArgument for a share that is not above 0 and at most 1, FailedPrecondition for an empty split.
    """
    if not 0 < train_ratio <= 1:
        raise InvalidArgument("train_ratio", f"must be above 0 and at most 1, not {train_ratio}")
    test = tuple(dataset.sessions("test")[: test_users or None])
    train = _share(dataset.sessions("train"), train_ratio, seed)
    validation = tuple(dataset.sessions("validation"))
    for name, sessions in (("train", train), ("validation", validation), ("test", test)):
        if not sessions:
            raise FailedPrecondition(f"{dataset.folder} has no {name} sessions", reason="EMPTY_SPLIT")
    histories = tuple(replace(session, target_item_ids=()) for session in test)
    return Split(TrainingData(dataset.items, train, validation, histories, dataset.domain), test)


def _share(sessions: Iterable[Session], ratio: float, seed: int) -> tuple[Session, ...]:
    """The sessions of the first `ratio` of the users (at least one) in an order that the seed and the ids give."""
    sessions = tuple(sessions)
    users = sorted({session.user_id for session in sessions}, key=lambda user: _digest(seed, user))
    kept = set(users[: max(1, round(ratio * len(users)))])
    return tuple(session for session in sessions if session.user_id in kept)


def _digest(seed: int, user: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0train-ratio\0{user}".encode(), digest_size=8).digest()
