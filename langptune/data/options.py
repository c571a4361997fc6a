"""What can be chosen when a data set is prepared, checked once, where it is constructed.

Defaults follow Section 4.1 of the paper. Everything in here is recorded in dataset.json; nothing else may change a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from langptune.errors import InvalidArgument
from langptune.text import DEFAULT_DOMAIN, OverLength


class Split(StrEnum):
    """How histories and targets are cut from a user's interactions, and which users are held out."""

    FIRST_4 = "first-4"
    LEAVE_LAST_OUT = "leave-last-out"
    GLOBAL_TIME = "global-time"


SPLIT_RULES = {
    Split.FIRST_4: (
        "The paper's: history = a user's first `history_length` items, target = the next one. Users in order of their target's "
        "time: the latest `held_out` share is held out. Interactions of held-out users with items that no training user has are "
        "dropped, then held-out users with too few left."
    ),
    Split.LEAVE_LAST_OUT: (
        "History = the `history_length` items before a user's last one, target = the last one. A seeded `held_out` share of "
        "the users is held out, whatever the time; no item is dropped as cold."
    ),
    Split.GLOBAL_TIME: (
        "One cut in time: a share of `held_out` of all interactions lies at or after it. Training sessions end before the cut: "
        "target = a user's last item before it. Held-out sessions: target = a user's first item at or after the cut, history = "
        "the items just before it. Interactions after the cut with items that nobody had before it are dropped. A user may have "
        "a training session before the cut and a held-out one after it."
    ),
}


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """Every choice that shapes a prepared data set. Raises InvalidArgument naming the field that is out of range."""

    split: Split = Split.FIRST_4
    history_length: int = 4  # |h|, items
    min_interactions: int = 5  # the k of the k-core over users and items; 1 keeps all
    held_out: float = 0.2  # share of users (global-time: of interactions); half validates, half tests
    train_windows: int = 1  # at most this many (history, target) windows per training user; held-out users have one
    item_tokens: int = 512  # limit of an item's text, in tokens of the embedder
    prompt_tokens: int = 1024  # limit of a session's prompt, in tokens of the encoder, before its chat template
    over_length: OverLength = "drop"  # truncate: keep everything, and cut when a prompt or an item is used
    seed: int = 0  # of the choice of held-out users and of the validation/test halves
    domain: str = DEFAULT_DOMAIN  # the noun of the prompt
    skip_malformed: bool = False  # count malformed lines instead of stopping at the first

    def __post_init__(self) -> None:
        for name in ("history_length", "min_interactions", "train_windows", "item_tokens", "prompt_tokens"):
            if getattr(self, name) < 1:
                raise InvalidArgument(name, f"must be at least 1, not {getattr(self, name)}")
        if not 0.0 <= self.held_out < 1.0:
            raise InvalidArgument("held_out", f"must be at least 0 and less than 1, not {self.held_out}")
        if self.over_length not in ("drop", "truncate"):
            raise InvalidArgument("over_length", f"must be drop or truncate, not {self.over_length!r}")
        if not self.domain.strip():
            raise InvalidArgument("domain", "must not be empty")
