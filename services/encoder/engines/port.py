"""The port that every engine implements, in the system's own nouns: histories in, profiles out.

An engine renders the prompt, keeps weights versions resident and runs the model. It knows no gRPC. Errors are those of
`langptune.errors`: NotFound (no such version), FailedPrecondition (its files are not what was published, or no model),
InvalidArgument (not even the newest entry fits the prompt), ResourceExhausted (too much is waiting).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from langptune.domain import Interaction
from langptune.errors import InvalidArgument

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Options:
    """How to write; defaults are filled in already."""

    max_new_tokens: int  # tokens of the language model
    temperature: float  # 0 is greedy
    seed: int  # 0 .. 2^64 - 1


@dataclass(frozen=True, slots=True)
class Work:
    """Histories to be written about with one weights version."""

    version: str
    histories: Sequence[Sequence[Interaction]]  # each oldest first, at least one entry
    domain: str  # what the items are, in the plural
    options: Options
    samples: int = 1  # profiles per history


@dataclass(frozen=True, slots=True)
class Rollout:
    """One profile as it was sampled."""

    text: str  # without special tokens and surrounding white space
    token_ids: Sequence[int]  # EOS included, if it came to that
    log_probs: Sequence[float]  # nats per token, at temperature 1
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """The profiles of one history."""

    index: int  # which of the histories
    prompt_token_ids: Sequence[int]
    rollouts: Sequence[Rollout]
    coverage: float  # share of the history's entries that the prompt had room for


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How busy an engine is at one moment."""

    calls: int  # that run or wait
    rows: int  # profiles that are being written
    queued: tuple[int, int]  # prompts that wait for room: live, rollouts


class Engine(Protocol):
    """Something that runs the profile encoder."""

    async def start(self, base_version: str) -> None:
        """Become ready: with the base version, or what else is served. Raises FailedPrecondition, with what to do."""

    async def generate(self, work: Work) -> RolloutGroup:
        """One profile of the one history of `work`, ahead of any waiting rollouts."""

    def stream(self, work: Work) -> AsyncGenerator[str | RolloutGroup, None]:
        """The one profile of the one history of `work` as it is written: pieces of text, at last the whole.

        The pieces joined are the text of the whole. Closing the iterator calls the rest off.
        """

    def sample_rollouts(self, work: Work) -> AsyncGenerator[RolloutGroup, None]:
        """The groups of all histories, in the order in which they finish. Closing the iterator calls the rest off."""

    async def score(self, version: str, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> list[float]:
        """ln pi of each token of the response given what stands before it, in nats, at temperature 1, by teacher forcing.

        Deterministic for a version and an engine; between engines and number formats equal within rounding. What proves that the
        weights an engine serves are those that were published. Raises InvalidArgument `response_ids` when empty, and
        `prompt_ids` when empty or over the model's context together with the response.
        """

    async def load(self, version: str) -> bool:
        """Make a version resident; whether it was before."""

    async def unload(self, version: str) -> None:
        """Forget a version; work that uses it goes on with it."""

    def versions(self) -> list[str]:
        """The resident versions, the least recently used first."""

    def occupancy(self) -> Occupancy:
        """How busy it is now; from any thread."""

    async def close(self) -> None:
        """End all work."""


def check_scored(prompt_ids: Sequence[int], response_ids: Sequence[int], context: int) -> None:
    """The checks of `Engine.score`. Raises InvalidArgument."""
    for field, ids in (("prompt_ids", prompt_ids), ("response_ids", response_ids)):
        if not ids:
            raise InvalidArgument(field, "must not be empty")
    if len(prompt_ids) + len(response_ids) > context:
        raise InvalidArgument("prompt_ids", f"prompt and response are over the model's context of {context:,} tokens")
