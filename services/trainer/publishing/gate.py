"""The gate: whether a candidate may be published, from what its job found on its validation users.

It holds the candidate against whatever is live now, on the same users: a one-sided paired t-test of NDCG, and the readability of
the profiles. What cannot be compared is not let through either; an operator can override both with a reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import stats

from langptune.weights import Evaluation, Measurement, Readability, Release, ReleaseRegistry
from services.trainer.settings import TrainerSettings


class Verdict(StrEnum):
    """GateVerdict of the proto."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"
    EXEMPT = "exempt"

    @property
    def passes(self) -> bool:
        """Whether no override is needed."""
        return self in (Verdict.OPEN, Verdict.EXEMPT)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the gate says, and on what grounds."""

    verdict: Verdict
    live_release_id: str
    reasons: tuple[str, ...] = ()
    users: int = 0
    live_ndcg: float = 0.0
    candidate_ndcg: float = 0.0
    p_worse: float = 1.0
    live_readability: Readability | None = None
    candidate_readability: Readability | None = None


class Gate:
    """Asked before every publish."""

    def __init__(self, registry: ReleaseRegistry, settings: TrainerSettings) -> None:
        self._registry = registry
        self._settings = settings

    async def check(self, candidate: Release, live: Release) -> Finding:
        """The candidate against the live release."""
        if await self._registry.has_been_live(candidate.release_id):
            return Finding(Verdict.EXEMPT, live.release_id)
        evaluation = await self._registry.evaluation(candidate.release_id)
        if evaluation is None:
            return _unknown(live, f"{candidate.release_id} was measured on no validation users")
        rival = await self._measured(live, evaluation)
        if rival is None:
            return _unknown(live, f"{live.release_id} was not measured on the users of {candidate.release_id}; train from it")
        return self._compare(candidate, live, evaluation, rival)

    async def _measured(self, live: Release, evaluation: Evaluation) -> tuple[tuple[str, ...], Measurement] | None:
        """User ids and scores of the live release, as comparable with `evaluation`; None if there are none."""
        if evaluation.before.release_id == live.release_id:
            return tuple(evaluation.user_ids), evaluation.before
        own = await self._registry.evaluation(live.release_id)
        if own is None or (own.dataset_uri, own.cutoff) != (evaluation.dataset_uri, evaluation.cutoff):
            return None
        return tuple(own.user_ids), own.after

    def _compare(
        self, candidate: Release, live: Release, evaluation: Evaluation, rival: tuple[tuple[str, ...], Measurement]
    ) -> Finding:
        before = dict(zip(rival[0], rival[1].ndcg, strict=True))
        after = dict(zip(evaluation.user_ids, evaluation.after.ndcg, strict=True))
        users = [user for user in evaluation.user_ids if user in before]
        if len(users) < self._settings.gate_min_users:
            needed = self._settings.gate_min_users
            return _unknown(live, f"{len(users):,} validation users were measured on both; {needed:,} are needed")
        scores = np.array([(before[user], after[user]) for user in users])  # [users, 2]
        p_worse = probability_worse(scores[:, 1] - scores[:, 0])
        live_ndcg, ndcg = scores.mean(axis=0).tolist()
        reasons = []
        if p_worse < self._settings.gate_p_value:
            reasons.append(f"NDCG {ndcg:.4f} is worse than {live_ndcg:.4f} of {live.release_id} (p = {p_worse:.2g})")
        was, now = rival[1].readability, evaluation.after.readability
        reasons += less_readable(was, now, self._settings) if was and now else []
        unmeasured = (was is None or now is None) and candidate.encoder_version != live.encoder_version
        if unmeasured:
            reasons.append("the profiles of one of them were not measured")
        verdict = Verdict.OPEN if not reasons else Verdict.UNKNOWN if unmeasured and len(reasons) == 1 else Verdict.CLOSED
        return Finding(verdict, live.release_id, tuple(reasons), len(users), live_ndcg, ndcg, p_worse, was, now)


def probability_worse(differences: np.ndarray) -> float:  # [users], candidate minus live
    """p of the one-sided paired t-test against "not worse"; 1.0 where no user differs, 0.0 where all are worse by the same."""
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    if spread <= 1e-12 * max(1.0, abs(mean)):
        return 0.0 if mean < 0 else 1.0
    return float(stats.t.cdf(mean / spread * math.sqrt(len(differences)), len(differences) - 1))


def less_readable(was: Readability, now: Readability, settings: TrainerSettings) -> list[str]:
    """A sentence for each measure of readability that has fallen too far."""
    drop, ratio = settings.gate_readability_drop, settings.gate_length_ratio
    pairs = {
        "terminated": (was.terminated, now.terminated),
        "distinct_2": (was.distinct_2, now.distinct_2),
        "wordlike": (was.wordlike, now.wordlike),
    }
    said = [f"{name} has fallen from {old:.2f} to {new:.2f}" for name, (old, new) in pairs.items() if new < old - drop]
    if not was.words / ratio <= now.words <= was.words * ratio:
        said.append(f"profiles went from {was.words:.0f} to {now.words:.0f} words")
    return said


def _unknown(live: Release, reason: str) -> Finding:
    return Finding(Verdict.UNKNOWN, live.release_id, (reason,))
