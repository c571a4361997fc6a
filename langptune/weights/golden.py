"""The golden check of an encoder version: a fixed text, and its log-prob under the version's weights.

The trainer computes it when it makes a version and writes it into the manifest; whoever serves the version must find the same.
That proves more than hashes do: that the weights in memory are those on the disk, in a number format that is close enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

GOLDEN_PROMPT = (
    "The user has rated a quiet film about a lighthouse with 5.0 and a loud film about robots with 2.0. The user likes"
)
GOLDEN_RESPONSE = " quiet stories about the sea and dislikes loud films."


@dataclass(frozen=True, slots=True)
class Golden:
    """What is scored, in tokens of the version's tokenizer, and what must come out."""

    prompt_token_ids: Sequence[int]
    response_token_ids: Sequence[int]
    log_prob: float  # ln pi(response | prompt), nats, summed over the response's tokens

    def deviation(self, log_prob: float) -> float:
        """How far `log_prob` is from what must come out, in nats per token; infinite for what is no number."""
        if not math.isfinite(log_prob):
            return math.inf
        return abs(log_prob - self.log_prob) / len(self.response_token_ids)


# For a base version, of which no job has computed a log-prob: tokens that every vocabulary has.
ANY_TEXT = Golden(prompt_token_ids=range(4, 20), response_token_ids=range(20, 36), log_prob=math.nan)
