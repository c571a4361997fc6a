"""The sampling loop: rows join a running batch between any two tokens and leave it the moment they end.

A prompt runs through the model once, by itself, and its cache is forked over its samples; then every row of the batch gets a
token per forward pass. Knows tensors and token ids only: no text, no versions, no threads.

Why this and not the library's continuous batching: that one draws from one random generator for all requests, so what a seed
gives depends on the traffic. Here a row's tokens and log-probs do not, and in fp32 on one CPU thread not even in the last bit:
prompts run alone, a pass has at least MIN_ROWS rows (BLAS computes fewer by other kernels), and attention pads to multiples of
`cache.WIDTH_STEP`, head by head. (More threads split a product by its number of rows, and the last bits follow.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from services.encoder.engines.attention import StepMasks
from services.encoder.engines.cache import SlotCache, States, states_of
from services.encoder.engines.noise import row_keys, uniforms
from services.encoder.engines.port import FinishReason

MIN_ROWS = 4  # measured with MKL on AVX2 and AVX-512: from 4 rows on, a row of a product does not depend on how many there are


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt, to be continued `samples` times."""

    prompt_ids: Sequence[int]
    samples: int
    max_new_tokens: int
    temperature: float  # 0 is greedy
    seed: int  # 0 .. 2^64 - 1
    stream: int = 0  # tells apart the prompts that share a seed


@dataclass(slots=True)
class Sample:
    """One continuation, as far as it is."""

    token_ids: list[int] = field(default_factory=list)  # EOS included, if it came to that
    log_probs: list[float] = field(default_factory=list)  # nats per token, at temperature 1
    finish_reason: FinishReason | None = None  # None: still being written


@dataclass(eq=False, slots=True)
class Draft:
    """All samples of a task, as far as they are."""

    task: Task
    samples: list[Sample]

    @property
    def finished(self) -> bool:
        return all(sample.finish_reason for sample in self.samples)


@dataclass(slots=True)
class _Row:
    """A sample that is being written, and the length of its slot: all its tokens but the newest are in the cache."""

    draft: Draft
    sample: Sample
    key: np.uint64
    length: int


class Batch:
    """The rows that are written with one model."""

    def __init__(self, model: PreTrainedModel, stop_ids: frozenset[int]) -> None:
        self._model = model
        self._stop_ids = stop_ids
        self._rows: list[_Row] = []  # row i has slot i
        self._cache = SlotCache(model.config.get_text_config().num_hidden_layers, model.device)
        self._masks = StepMasks(model.config, model.dtype)
        self._least = MIN_ROWS if model.device.type == "cpu" else 1

    @property
    def rows(self) -> int:
        """How many samples are being written."""
        return len(self._rows)

    @torch.inference_mode()
    def join(self, task: Task) -> Draft:
        """Run the prompt, draw every sample's first token and take those that go on into the batch."""
        draft = Draft(task, [Sample() for _ in range(task.samples)])
        logits, states = self._prefill(task.prompt_ids)
        keys = row_keys(task.seed, task.stream, task.samples)
        rows = [_Row(draft, sample, key, len(task.prompt_ids)) for sample, key in zip(draft.samples, keys, strict=True)]
        self._extend(rows, logits.expand(task.samples, -1))
        open_rows = [row for row in rows if row.sample.finish_reason is None]
        if open_rows:
            self._cache.put(len(self._rows), len(open_rows), states)
            self._rows += open_rows
        return draft

    @torch.inference_mode()
    def step(self) -> None:
        """One more token for every row; rows that end with it leave."""
        logits = self._forward()
        for row in self._rows:
            row.length += 1
        self._extend(self._rows, logits[: len(self._rows)])
        self._remove([at for at, row in enumerate(self._rows) if row.sample.finish_reason])

    @torch.inference_mode()
    def leave(self, draft: Draft) -> None:
        """Take all rows of `draft` out."""
        self._remove([at for at, row in enumerate(self._rows) if row.draft is draft])

    def _prefill(self, prompt_ids: Sequence[int]) -> tuple[Tensor, States]:
        """The logits after the prompt [1, vocabulary] and its states."""
        cache = DynamicCache()  # without a configuration: sliding layers keep every position, too
        ids = torch.tensor([prompt_ids], device=self._model.device)
        logits = self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()
        return logits, states_of(cache)

    def _forward(self) -> Tensor:
        """The logits after every row's newest token. [at least rows, vocabulary]; rows beyond are of no meaning."""
        spare = max(0, self._least - len(self._rows))
        device = self._model.device
        ids = torch.tensor([row.sample.token_ids[-1] for row in self._rows] + [0] * spare, device=device)
        lengths = torch.tensor([row.length for row in self._rows] + [0] * spare, device=device)
        width = self._cache.place(lengths, max(row.length for row in self._rows))
        output = self._model(
            input_ids=ids[:, None],
            attention_mask=self._masks(lengths, width),
            position_ids=lengths[:, None],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _extend(self, rows: Sequence[_Row], logits: Tensor) -> None:
        """Draw the next token of every row and note which rows end with it."""
        temperatures = torch.tensor([row.draft.task.temperature for row in rows], device=logits.device)
        positions = np.array([len(row.sample.token_ids) for row in rows], dtype=np.uint64)
        noise = torch.from_numpy(uniforms(np.array([row.key for row in rows], dtype=np.uint64), positions)).to(logits.device)
        chosen, log_probs = draw(logits, temperatures, noise)
        for row, token, log_prob in zip(rows, chosen.tolist(), log_probs.tolist(), strict=True):
            row.sample.token_ids.append(token)
            row.sample.log_probs.append(log_prob)
            if token in self._stop_ids:
                row.sample.finish_reason = "stop"
            elif len(row.sample.token_ids) == row.draft.task.max_new_tokens:
                row.sample.finish_reason = "length"

    def _remove(self, places: Sequence[int]) -> None:
        for at in reversed(places):  # from the end, so that what moves into a gap is never to be removed itself
            last = self._rows.pop()
            if at < len(self._rows):
                self._cache.move(len(self._rows), at, last.length)
                self._rows[at] = last


def draw(logits: Tensor, temperatures: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """One token for each row by inverting the cumulative distribution at `noise`, and its log-prob at temperature 1.

    logits [rows, vocabulary], temperatures [rows] (0 is greedy), noise [rows] in (0, 1] -> ([rows], [rows]).
    """
    log_probs = logits.log_softmax(dim=1)
    cumulative = (logits / temperatures.clamp(min=1e-6)[:, None]).softmax(dim=1).cumsum(dim=1)
    wanted = (noise * cumulative[:, -1])[:, None]
    sampled = torch.searchsorted(cumulative, wanted).squeeze(1)  # the first entry >= wanted > 0, so its probability is not 0
    chosen = torch.where(temperatures == 0, logits.argmax(dim=1), sampled)
    return chosen, log_probs.gather(1, chosen[:, None]).squeeze(1)


@torch.inference_mode()
def score(model: PreTrainedModel, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> list[float]:
    """ln pi of each response token, in nats, by one pass over prompt and response (teacher forcing)."""
    ids = torch.tensor([[*prompt_ids, *response_ids]], device=model.device)
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(response_ids) + 1).logits[0, :-1].float()
    chosen = ids[0, len(prompt_ids) :, None]
    values: list[float] = logits.log_softmax(dim=1).gather(1, chosen).squeeze(1).tolist()
    return values
