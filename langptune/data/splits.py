"""Cutting sorted interactions into sessions: steps 6 to 8, by one of the rules in options.SPLIT_RULES.

A session is the position of its target; its history is the `history_length` rows just before it, all of the same user.
Held-out users are chosen by a keyed hash of their id, so neither library versions nor the order of the file change them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from langptune.data.columns import Columns, Ints, Mask
from langptune.data.dataset import SPLITS
from langptune.data.options import PrepareOptions, Split

TRAIN, VALIDATION, TEST = range(len(SPLITS))


@dataclass(frozen=True, slots=True)
class Cut:
    """Sessions over `columns`; both arrays are in the order of the targets' rows."""

    columns: Columns  # what is left, sorted by user and time
    targets: Ints  # [s], row of the target
    splits: Ints  # [s], position in dataset.SPLITS
    why: str  # what the rule dropped

    @property
    def sizes(self) -> dict[str, int]:
        """Number of sessions by split."""
        return dict(zip(SPLITS, np.bincount(self.splits, minlength=len(SPLITS)).tolist(), strict=True))


def cut_sessions(columns: Columns, user_ids: Sequence[str], options: PrepareOptions) -> Cut:
    """Split `columns` (sorted by user and time, every user with more than `history_length` rows)."""
    if not len(columns):
        return Cut(columns, np.empty(0, np.int64), np.empty(0, np.int64), "")
    rule = {Split.FIRST_4: _first, Split.LEAVE_LAST_OUT: _leave_last_out, Split.GLOBAL_TIME: _global_time}[options.split]
    cut = rule(columns, user_ids, options)
    order = np.argsort(cut.targets, kind="stable")
    return Cut(cut.columns, cut.targets[order], cut.splits[order], cut.why)


def _first(columns: Columns, user_ids: Sequence[str], options: PrepareOptions) -> Cut:
    length = options.history_length
    starts, counts = columns.user_spans()
    held = np.zeros(len(starts), dtype=bool)
    order = np.argsort(columns.time[starts + length], kind="stable")
    held[order[len(order) - _held_out_count(len(order), options) :]] = True
    columns, kept_users, why = _without_cold(columns, np.repeat(held, counts), max(length + 1, options.min_interactions))
    if not len(columns):
        return Cut(columns, np.empty(0, np.int64), np.empty(0, np.int64), why)
    held = held[kept_users]
    starts, counts = columns.user_spans()
    split = _halves(columns.user[starts], held, user_ids, options)
    windows = _windows(starts + length, starts + counts, np.where(held, 1, options.train_windows), 1)
    return Cut(columns, windows[0], split[windows[1]], why)


def _without_cold(columns: Columns, held: Mask, least: int) -> tuple[Columns, Mask, str]:
    """Drop held-out rows of items without a training row, then held-out users with fewer than `least` rows left."""
    warm = np.bincount(columns.item[~held], minlength=int(columns.item.max()) + 1) > 0
    keep = ~held | warm[columns.item]
    cold = int(np.count_nonzero(~keep))
    left = np.bincount(columns.user, weights=keep)
    short = held & (left < least)[columns.user]
    keep &= ~short
    starts, _ = columns.user_spans()
    kept_users = ~short[starts]
    why = f"{cold} held-out interactions with cold items; {int(np.count_nonzero(~kept_users))} held-out users then below {least}"
    return columns.at(keep), kept_users, why


def _leave_last_out(columns: Columns, user_ids: Sequence[str], options: PrepareOptions) -> Cut:
    starts, counts = columns.user_spans()
    users = columns.user[starts]
    held = np.zeros(len(users), dtype=bool)
    held[_hashed_order(users, user_ids, options.seed, "held-out")[: _held_out_count(len(users), options)]] = True
    split = _halves(users, held, user_ids, options)
    last = starts + counts - 1
    windows = _windows(last, starts + options.history_length - 1, np.where(held, 1, options.train_windows), -1)
    return Cut(columns, windows[0], split[windows[1]], "nothing: every user has a session")


def _global_time(columns: Columns, user_ids: Sequence[str], options: PrepareOptions) -> Cut:
    times = np.sort(columns.time)
    cut_ms = int(times[min(int((1 - options.held_out) * len(times)), len(times) - 1)]) if options.held_out else int(times[-1]) + 1
    before = columns.time < cut_ms
    warm = np.bincount(columns.item[before], minlength=int(columns.item.max()) + 1) > 0
    keep = before | warm[columns.item]
    why = f"{int(np.count_nonzero(~keep))} interactions at or after the cut ({cut_ms} ms) with items unseen before it"
    columns, before = columns.at(keep), before[keep]
    starts, counts = columns.user_spans()
    cuts = starts + np.add.reduceat(before.astype(np.int64), starts)  # each user's first row at or after the cut
    least = starts + options.history_length
    held = (cuts >= least) & (cuts < starts + counts)
    train = _windows(cuts - 1, least - 1, np.full(len(starts), options.train_windows), -1)
    halves = _halves(columns.user[starts], held, user_ids, options)
    targets = np.concatenate([train[0], cuts[held]])
    return Cut(columns, targets, np.concatenate([np.full(len(train[0]), TRAIN), halves[held]]), why)


def _held_out_count(users: int, options: PrepareOptions) -> int:
    return round(options.held_out * users)


def _windows(first: Ints, stop: Ints, most: Ints, step: int) -> tuple[Ints, Ints]:
    """(target rows, user positions): up to `most` targets per user from `first` on by `step`, short of `stop`."""
    available = np.clip(np.minimum((stop - first) * step, most), 0, None)
    users = np.repeat(np.arange(len(first)), available)
    nth = np.arange(len(users)) - np.repeat(np.cumsum(available) - available, available)
    return first[users] + step * nth, users


def _halves(users: Ints, held: Mask, user_ids: Sequence[str], options: PrepareOptions) -> Ints:
    """The split of each user: TRAIN unless held out, else VALIDATION for one seeded half and TEST for the other."""
    split = np.full(len(users), TRAIN)
    positions = np.flatnonzero(held)
    order = positions[_hashed_order(users[positions], user_ids, options.seed, "halves")]
    split[order[: len(order) // 2]] = VALIDATION
    split[order[len(order) // 2 :]] = TEST
    return split


def _hashed_order(users: Ints, user_ids: Sequence[str], seed: int, purpose: str) -> Ints:
    """Positions of `users` in a pseudo-random order that depends on nothing but the seed, the purpose and the ids."""
    salt = f"{seed}\0{purpose}\0"
    digests = [hashlib.blake2b((salt + user_ids[user]).encode(), digest_size=8).digest() for user in users.tolist()]
    return np.argsort(np.array([int.from_bytes(digest, "big") for digest in digests], dtype=np.uint64), kind="stable")
