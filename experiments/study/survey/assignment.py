"""Which tasks a participant gets: each profile type three times, nobody twice, and over all participants every task once.

Users go into groups of 3 T, for T profile types; a group is shared by T participants. Participant p of the group reads user i
under type (i + p) mod T: a Latin square, so everyone gets every type three times and every text is read once. When all groups
are through, a new round begins with users in another order. (The paper: 450 users, 3 types, 150 participants, one round.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.study.tasks import Kit, Task
from langptune.errors import InvalidArgument

TASKS_PER_TYPE = 3


class Assignments:
    """Numbered assignments over the tasks of a kit. Raises InvalidArgument if there are fewer than 3 T users."""

    def __init__(self, kit: Kit) -> None:
        self._types = kit.profile_types
        self._users = kit.user_ids
        self._tasks = {(task.user_id, task.profile_type): task for task in kit.tasks}
        self._seed = kit.seed
        self.size = TASKS_PER_TYPE * len(self._types)  # tasks for a participant
        self.per_round = len(self._users) // self.size * len(self._types)  # participants
        if not self.per_round:
            raise InvalidArgument("kit", f"has {len(self._users)} users; {len(self._types)} profile types need {self.size}")

    def tasks(self, number: int) -> Sequence[Task]:
        """The tasks of assignment `number` (from 0), in the order in which they are asked."""
        round_number, place = divmod(number, self.per_round)
        group, participant = divmod(place, len(self._types))
        order = np.random.default_rng([self._seed, 0x52, round_number]).permutation(len(self._users))
        members = order[group * self.size : (group + 1) * self.size]
        chosen = [
            self._tasks[self._users[user], self._types[(at + participant) % len(self._types)]]
            for at, user in enumerate(members.tolist())
        ]
        shuffled = np.random.default_rng([self._seed, 0x53, number]).permutation(len(chosen))
        return [chosen[at] for at in shuffled.tolist()]
