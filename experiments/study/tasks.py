"""The two-choice task: who is asked about, by which text, and between which two items (Section 4.6.1).

The other item of a user is the same under every profile type, and so is the order of the two: whatever a respondent thinks of the
first place, types are compared at equal terms. Over all users either place is right equally often (odd numbers: but for one).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from langptune.domain import Item, Session
from langptune.errors import FailedPrecondition, InvalidArgument, NotFound
from langptune.text import DEFAULT_DOMAIN, item_text

Choice = Literal["A", "B"]


@dataclass(frozen=True, slots=True)
class Task:
    """One question; `options` are the texts of A and B."""

    task_id: str  # <profile type>/<user>
    user_id: str
    profile_type: str  # the system that wrote `profile`
    profile: str
    options: tuple[str, str]
    answer: Choice


@dataclass(frozen=True, slots=True)
class Wording:
    """The nouns and verbs of the question; the defaults are the paper's."""

    verb: str = "watched"
    noun: str = "movies"

    @classmethod
    def of(cls, domain: str) -> Wording:
        """For what the items of a data set are."""
        known = {DEFAULT_DOMAIN: cls(), "movies": cls(), "books": cls("read", "books")}
        return known.get(domain, cls("chose", domain))


@dataclass(frozen=True)
class Kit:
    """All tasks of a study, and what is needed to ask them."""

    tasks: tuple[Task, ...]  # by user, then by profile type
    wording: Wording
    seed: int

    @property
    def profile_types(self) -> tuple[str, ...]:
        """In the order that they were given in."""
        return tuple(dict.fromkeys(task.profile_type for task in self.tasks))

    @property
    def user_ids(self) -> tuple[str, ...]:
        """Everybody who is asked about."""
        return tuple(dict.fromkeys(task.user_id for task in self.tasks))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of everything in the kit; answers belong to one kit."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def by_id(self) -> dict[str, Task]:
        """The tasks by their id."""
        return {task.task_id: task for task in self.tasks}


def make_kit(
    sessions: Sequence[Session],
    items: Mapping[str, Item],
    profiles: Mapping[str, Sequence[str]],
    *,
    wording: Wording = Wording(),
    seed: int = 0,
) -> Kit:
    """One task for each session and profile type; `profiles` has a text per session for each type.

    The wrong item is the target of another session, none of the user's own. Raises InvalidArgument for texts that do not match
    the sessions, for a user who comes twice, and for sessions too few to find a wrong item.
    """
    _check(sessions, profiles)
    rng = np.random.default_rng([seed, 0x51])
    right = rng.permutation(np.arange(len(sessions)) % 2)
    pool = sorted({session.target_item_ids[0] for session in sessions})
    tasks = []
    for at, session in enumerate(sessions):
        own = {entry.item.item_id for entry in session.history}.union(session.target_item_ids)
        others = [item_id for item_id in pool if item_id not in own]
        if not others:
            raise InvalidArgument("sessions", f"no other session has a target to set against that of {session.user_id}")
        wrong = others[int(rng.integers(len(others)))]
        pair = [item_text(items[session.target_item_ids[0]]), item_text(items[wrong])]
        options = (pair[0], pair[1]) if right[at] == 0 else (pair[1], pair[0])
        answer: Choice = "A" if right[at] == 0 else "B"
        tasks += [
            Task(f"{kind}/{session.user_id}", session.user_id, kind, texts[at], options, answer)
            for kind, texts in profiles.items()
        ]
    return Kit(tuple(tasks), wording, seed)


def _check(sessions: Sequence[Session], profiles: Mapping[str, Sequence[str]]) -> None:
    if not sessions or not profiles:
        raise InvalidArgument("sessions", "there is nobody to ask about, or nothing to ask by")
    if len({session.user_id for session in sessions}) < len(sessions):
        raise InvalidArgument("sessions", "a user comes twice; a study asks about each user once")
    for kind, texts in profiles.items():
        if len(texts) != len(sessions):
            raise InvalidArgument("profiles", f"{kind} has {len(texts)} texts for {len(sessions)} sessions")


def write_kit(kit: Kit, path: Path) -> None:
    """As one JSON file. Raises FailedPrecondition if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**asdict(kit), "content_hash": kit.content_hash}, indent=1) + "\n")
    except OSError as error:
        raise FailedPrecondition(f"{path} cannot be written: {error.strerror}", reason="STORAGE") from error


def read_kit(path: Path) -> Kit:
    """Raises NotFound, or FailedPrecondition for a file that is no kit or has been changed since it was written."""
    try:
        raw = json.loads(path.read_text())
        kit = Kit(
            tuple(Task(**{**task, "options": tuple(task["options"])}) for task in raw["tasks"]),
            Wording(**raw["wording"]),
            raw["seed"],
        )
    except FileNotFoundError as error:
        raise NotFound("study kit", str(path)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise FailedPrecondition(f"{path} is no study kit: {error}", reason="NOT_A_KIT") from error
    if kit.content_hash != raw.get("content_hash"):
        raise FailedPrecondition(f"{path} was changed after it was made: its answers would be of other tasks", reason="NOT_A_KIT")
    return kit
