"""How much history does a profile need? Profiles from the last k items only: cold start (k = 1 to 4), and long histories.

The same users and targets for every k, the whole history masked for every k: only what the system may read changes. On the sample
world the users are its test users with LONGEST items each, drawn as their usual four are; on other data, the sessions' histories.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.beyond.attributes import SAMPLE_GENERATOR
from experiments.beyond.reopen import Reopened, training_data
from experiments.runs import Result
from experiments.scoring import CUTOFF, target_ranks
from langptune.domain import Session
from langptune.ranking import ranking_quality
from samples.users import make_sessions, make_users
from samples.world import make_catalogue

LENGTHS = (1, 2, 3, 4, 8, 16)
LONGEST = max(LENGTHS)


def measure(result: Result, users: int) -> dict[str, Any]:
    """NDCG of the first `users` test users with at least k items, by k, each a list over the same users."""
    run = Reopened(result)
    sessions = long_sessions(run, users)
    reach = min(len(session.history) for session in sessions)
    lengths = [length for length in LENGTHS if length <= reach]
    data = training_data(run.dataset, sessions)
    order = np.random.default_rng([run.seed, 11]).permutation(len(data.items))
    ndcg = {}
    for length in lengths:
        texts = run.write([session.history[-length:] for session in sessions], run.seed)
        scores = run.similarities(texts)
        ranks = [target_ranks(row, data, session, order) for row, session in zip(scores, sessions, strict=True)]
        ndcg[str(length)] = [ranking_quality(places, CUTOFF).ndcg for places in ranks]
    return {"users": [session.user_id for session in sessions], "ndcg": ndcg}


def long_sessions(run: Reopened, users: int) -> list[Session]:
    """Test users with histories as long as there are."""
    info = run.dataset.info
    if info.get("generator") != SAMPLE_GENERATOR:
        return run.sessions[:users]
    people = make_users(info["users"], info["seed"])
    tested = {session.user_id for session in run.sessions[:users]}
    catalogue = make_catalogue(info["items"], info["seed"])
    chosen = [person for person in people if person.user_id in tested]
    return list(make_sessions(catalogue, chosen, info["seed"], "test", length=LONGEST))
