"""Head room of the world, before anything is trained: what idealised profiles reach under an idealised embedder.

The embedder here is the bag of attributes: sim = cosine of two 0/1 vectors, ties broken at random. `correlation` is the
signal-to-noise of the reward: within one history, how much U moves with what a random teacher profile gets right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from langptune.domain import Session
from samples.lexicon import ATTRIBUTES
from samples.teacher import Evidence, parse, write_profile
from samples.users import User
from samples.world import COLUMN, Catalogue

CUTOFF = 20


@dataclass(frozen=True)
class HeadRoom:
    """NDCG@20 of idealised profiles under the bag-of-attributes embedder, and the reward's signal."""

    random: float
    popular: float
    teacher: float  # what the teacher states, polarity ignored
    seen: float  # every attribute of the history
    liked_films: float  # every attribute of films rated 4.0 and above
    praised: float  # every attribute that a review praises
    perfect: float  # the user's latent likes
    correlation: float  # within-history correlation of U (full NDCG) with the number of latent likes stated

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def ndcg(ranks: np.ndarray, cutoff: int | None = None) -> np.ndarray:
    """1/log2(1 + rank) of one target; 0 beyond `cutoff`."""
    gains = 1 / np.log2(1 + ranks)
    return gains if cutoff is None else np.where(ranks <= cutoff, gains, 0.0)


def measure_headroom(catalogue: Catalogue, users: Sequence[User], sessions: Sequence[Session], seed: int = 0) -> HeadRoom:
    """All figures over `sessions`; user i made session i."""
    rng = np.random.default_rng([seed, 4])
    position = {item.item_id: at for at, item in enumerate(catalogue.items)}
    unit = catalogue.attributes / np.linalg.norm(catalogue.attributes, axis=1, keepdims=True)

    def rank(session: Session, scores: np.ndarray) -> int:
        noisy = scores + 1e-6 * rng.random(len(scores))
        noisy[[position[entry.item.item_id] for entry in session.history]] = -np.inf
        return 1 + int((noisy > noisy[position[session.target_item_ids[0]]]).sum())

    def of(profile: Callable[[int, Session], np.ndarray]) -> float:
        ranks = [rank(session, profile(at, session)) for at, session in enumerate(sessions)]
        return float(ndcg(np.array(ranks), CUTOFF).mean())

    def bag(words: frozenset[str]) -> np.ndarray:
        vector = np.zeros(len(ATTRIBUTES), dtype=np.float32)
        vector[[COLUMN[word] for word in words]] = 1
        return np.asarray(unit @ (vector / max(1.0, float(np.linalg.norm(vector)))))

    def stated(session: Session) -> frozenset[str]:
        return frozenset(word for statement in parse(write_profile(session.history, rng)) for word in statement.attributes)

    def liked_films(session: Session) -> frozenset[str]:
        return Evidence.of([entry for entry in session.history if entry.rating >= 4] or session.history).seen

    targets = np.zeros(len(catalogue.items))
    for session in sessions:
        targets[position[session.target_item_ids[0]]] += 1
    return HeadRoom(
        random=of(lambda at, session: np.zeros(len(catalogue.items))),
        popular=of(lambda at, session: catalogue.quality),
        teacher=of(lambda at, session: bag(stated(session))),
        seen=of(lambda at, session: bag(Evidence.of(session.history).seen)),
        liked_films=of(lambda at, session: bag(liked_films(session))),
        praised=of(lambda at, session: bag(Evidence.of(session.history).praised)),
        perfect=of(lambda at, session: bag(users[at].likes)),
        correlation=_correlation(users, sessions, lambda session: (words := stated(session), rank(session, bag(words)))),
    )


def _correlation(
    users: Sequence[User], sessions: Sequence[Session], sample: Callable[[Session], tuple[frozenset[str], int]], samples: int = 8
) -> float:
    """Pooled correlation of U and the likes stated, both centred within each history."""
    rewards, hits = [], []
    for user, session in zip(users, sessions, strict=True):
        drawn = [sample(session) for _ in range(samples)]
        reward = ndcg(np.array([rank for _, rank in drawn]))
        hit = np.array([len(words & user.likes) for words, _ in drawn], dtype=float)
        rewards.append(reward - reward.mean())
        hits.append(hit - hit.mean())
    return float(np.corrcoef(np.concatenate(rewards), np.concatenate(hits))[0, 1])
