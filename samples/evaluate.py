"""The two models measured together, in process: sample a profile, embed it, rank the whole catalogue, mask the history.

For the figures of the model cards. The system's own evaluation goes through the services; this one needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from sentence_transformers import SentenceTransformer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from langptune.domain import Item, Session
from langptune.text import history_text, item_text
from samples.headroom import CUTOFF, ndcg
from samples.lexicon import listing, plural
from samples.measure import ProfileQuality, measure_profiles
from samples.teacher import Evidence
from samples.writer import sample_profiles


@dataclass(frozen=True)
class ZeroShot:
    """NDCG@20 on the given sessions under the untrained embedder."""

    users: int
    zero_shot: float  # sampled profiles
    history: float  # the history text itself (NoProfile-0)
    praised: float  # a profile of all that the reviews praise: what a perfect reader could write
    random: float
    popular: float  # by average rating

    def to_dict(self) -> dict[str, float | int]:
        return asdict(self)


def target_ranks(
    model: SentenceTransformer, items: Sequence[Item], sessions: Sequence[Session], texts: Sequence[str]
) -> np.ndarray:
    """The exact rank of each session's target for its text; [sessions], from 1."""
    films = model.encode([item_text(item) for item in items], convert_to_numpy=True, show_progress_bar=False)
    scores = model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False) @ films.T
    return ranks_of(scores, items, sessions)


def ranks_of(scores: np.ndarray, items: Sequence[Item], sessions: Sequence[Session]) -> np.ndarray:
    """1 + the number of films that score above the target, the history masked; scores is [sessions, items]."""
    position = {item.item_id: at for at, item in enumerate(items)}
    masked = scores.copy()
    for row, session in enumerate(sessions):
        masked[row, [position[entry.item.item_id] for entry in session.history]] = -np.inf
    targets = masked[np.arange(len(sessions)), [position[session.target_item_ids[0]] for session in sessions]]
    return np.asarray(1 + (masked > targets[:, None]).sum(axis=1))


def praised_profile(session: Session) -> str:
    """All that the reviews praise, in one sentence of the grammar."""
    praised = sorted(Evidence.of(session.history).praised)
    return f"They like {listing([plural(word) for word in praised])}." if praised else "The taste is varied."


def measure_zero_shot(
    writer: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    embedder: SentenceTransformer,
    items: Sequence[Item],
    sessions: Sequence[Session],
    seed: int = 0,
) -> tuple[ZeroShot, ProfileQuality]:
    """One sampled profile a session: how it ranks, and what it is worth as text."""
    profiles = sample_profiles(writer, tokenizer, [session.history for session in sessions], seed)
    rng = np.random.default_rng([seed, 7])
    ratings = np.array([item.average_rating or 0.0 for item in items])
    shape = (len(sessions), len(items))

    def mean_ndcg(ranks: np.ndarray) -> float:
        return float(ndcg(ranks, CUTOFF).mean())

    def of(texts: Sequence[str]) -> float:
        return mean_ndcg(target_ranks(embedder, items, sessions, texts))

    zero_shot = ZeroShot(
        users=len(sessions),
        zero_shot=of(profiles),
        history=of([history_text(session.history) for session in sessions]),
        praised=of([praised_profile(session) for session in sessions]),
        random=mean_ndcg(ranks_of(rng.random(shape), items, sessions)),
        popular=mean_ndcg(ranks_of(np.broadcast_to(ratings, shape) + 1e-6 * rng.random(shape), items, sessions)),
    )
    return zero_shot, measure_profiles([(session.history, profile) for session, profile in zip(sessions, profiles, strict=True)])
