"""The users: latent likes and dislikes, sharp choices, ratings, and short reviews that say what was liked and what was not.

A session is four films of history and one target. All are chosen by preference (Gumbel top-k over the whole catalogue),
but one film of most histories is a disappointment: a pick that has what the user dislikes. That is where dislikes show.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from langptune.domain import Interaction, Session
from samples.lexicon import ATTRIBUTES, BLAME, KINDS, PRAISE, listing, singular
from samples.world import COLUMN, Catalogue, kind_weights

TASTE_SIZE = {"genre": 1, "theme": 2, "setting": 1, "tone": 1}  # liked, and as many disliked
TASTE_WEIGHT = {"genre": 1.0, "theme": 1.2, "setting": 0.8, "tone": 1.0}
DISAPPOINTMENT = 0.8  # share of histories with one disappointing film
HISTORY_LENGTH = 4
MENTIONS = 2  # at most so many attributes praised, and so many blamed, in one review
FIRST_TIME_MS = 1_640_995_200_000  # 2022-01-01 UTC
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Choice:
    """How films are chosen: logit = sharpness * (weighted likes - dislikes) + popularity * quality."""

    sharpness: float = 3.5
    popularity: float = 1.2  # quality shows in the average rating: texts alone do not say that it counts, CL can learn it


PRETRAINING_CHOICE = Choice(sharpness=3.0, popularity=0.3)  # of the users that the shipped writer learnt from


@dataclass(frozen=True)
class User:
    """What nobody sees: the latent taste behind a session."""

    user_id: str
    likes: frozenset[str]
    dislikes: frozenset[str]


def make_users(count: int, seed: int, first: int = 0) -> list[User]:
    """`count` users numbered from `first`; deterministic in (count, seed)."""
    rng = np.random.default_rng([seed, 2])
    return [_make_user(f"user-{first + at:05d}", rng) for at in range(count)]


def _make_user(user_id: str, rng: np.random.Generator) -> User:
    likes: list[str] = []
    dislikes: list[str] = []
    for kind, words in KINDS.items():
        size = TASTE_SIZE[kind]
        drawn = [str(word) for word in rng.choice(words, 2 * size, replace=False)]
        likes += drawn[:size]
        dislikes += drawn[size:]
    return User(user_id, frozenset(likes), frozenset(dislikes))


def make_sessions(
    catalogue: Catalogue,
    users: Sequence[User],
    seed: int,
    split: str = "train",
    choice: Choice = Choice(),
    length: int = HISTORY_LENGTH,
) -> Iterator[Session]:
    """One session a user: `length` films that were watched and reviewed, then the one that was chosen next."""
    rng = np.random.default_rng([seed, 3])
    weights = kind_weights(TASTE_WEIGHT)
    for user in users:
        liked = catalogue.attributes @ (_indicator(user.likes) * weights)  # [items]
        disliked = catalogue.attributes @ (_indicator(user.dislikes) * weights)
        preference = choice.sharpness * (liked - disliked)
        chosen = list(_top(preference + choice.popularity * catalogue.quality, length + 1, rng))
        *history, target = chosen
        if rng.random() < DISAPPOINTMENT:
            logits = -preference
            logits[chosen] = -np.inf
            history[rng.integers(length)] = _top(logits, 1, rng)[0]
        start = FIRST_TIME_MS + int(rng.integers(365)) * DAY_MS
        entries = []
        for position, at in enumerate(history):
            rating = float(np.clip(np.rint(3.0 + 0.7 * liked[at] - 0.8 * disliked[at] + 0.4 * rng.standard_normal()), 1, 5))
            review = _review(user, catalogue, int(at), rng)
            entries.append(Interaction(catalogue.items[at], rating, review, start + position * 9 * DAY_MS))
        yield Session(user.user_id, tuple(entries), (catalogue.items[target].item_id,), split)


def _indicator(words: frozenset[str]) -> np.ndarray:
    vector = np.zeros(len(ATTRIBUTES), dtype=np.float32)
    vector[[COLUMN[word] for word in words]] = 1
    return vector


def _top(logits: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` distinct positions drawn from softmax(logits) without replacement, in the order drawn."""
    noisy = logits + rng.gumbel(size=len(logits))
    best = np.argpartition(-noisy, count - 1)[:count]
    return np.asarray(best[np.argsort(-noisy[best])])


def _review(user: User, catalogue: Catalogue, at: int, rng: np.random.Generator) -> str:
    """Says up to MENTIONS liked and MENTIONS disliked attributes of the film, and calls the rest nothing."""
    traits = [ATTRIBUTES[column] for column in np.flatnonzero(catalogue.attributes[at])]
    praised = _mention([word for word in traits if word in user.likes], PRAISE, rng)
    blamed = _mention([word for word in traits if word in user.dislikes], BLAME, rng)
    if not praised or not blamed:
        return f"{praised or blamed or 'It was fine'}."
    return f"{praised} but {blamed[0].lower()}{blamed[1:]}."


def _mention(words: list[str], verbs: Sequence[str], rng: np.random.Generator) -> str:
    if not words:
        return ""
    picked = rng.permutation(words)[: rng.integers(1, MENTIONS + 1)]
    return f"{rng.choice(verbs)} {listing([f'the {singular(str(word))}' for word in picked])}"
