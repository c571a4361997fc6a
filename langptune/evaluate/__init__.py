"""Ranking quality of a release on a prepared data set, measured through the running services.

`measure` asks the encoder for profiles and the decoder for exact ranks; `baselines` needs neither; `compare` tests two
releases on the same users. The metrics themselves are the decoder's (`langptune.ranking`).
"""

from langptune.evaluate.baselines import popularity_scores, random_scores
from langptune.evaluate.measure import EvaluationOptions, Evaluator, Measured
from langptune.evaluate.scores import METRICS, Comparison, Estimate, Scores, compare

__all__ = [
    "METRICS",
    "Comparison",
    "Estimate",
    "EvaluationOptions",
    "Evaluator",
    "Measured",
    "Scores",
    "compare",
    "popularity_scores",
    "random_scores",
]
