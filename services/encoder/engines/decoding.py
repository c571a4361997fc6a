"""The sampling loop: many prompts, several samples each, one forward pass per position.

Every prompt runs through the model once; its cache is forked over its samples. Rows that have ended leave the batch. Knows
tensors and token ids only: no text, no versions, no threads. Left out: rows that join a running batch, streaming of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from services.encoder.engines.cache import new_cache
from services.encoder.engines.noise import row_keys, uniforms
from services.encoder.engines.port import FinishReason

DRAWN = 64  # positions that random numbers are drawn for at a time
LEAVE_SHARE = 0.125  # ended rows are taken out of the batch once they are this share of it


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt, to be continued `samples` times."""

    prompt_ids: Sequence[int]
    samples: int
    max_new_tokens: int
    temperature: float  # 0 is greedy
    seed: int  # 0 .. 2^64 - 1
    stream: int = 0  # tells apart the prompts that share a seed


@dataclass(frozen=True, slots=True)
class Sample:
    """One continuation."""

    token_ids: tuple[int, ...]  # EOS included, if it came to that
    log_probs: tuple[float, ...]  # nats per token, at temperature 1
    finish_reason: FinishReason


def never(_task: int) -> bool:
    """For callers who call nothing off."""
    return False


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    stop_ids: Sequence[int],
    tasks: Sequence[Task],
    cancelled: Callable[[int], bool] = never,
) -> Iterator[tuple[int, list[Sample]]]:
    """Yield (place of the task, its samples) as tasks finish; at every step tasks for which `cancelled` is true are dropped."""
    batch = _Batch(model, torch.tensor(sorted(stop_ids), device=model.device), tasks)
    logits = batch.prefill()  # [rows, vocabulary]
    while True:
        yield from batch.advance(logits, cancelled)
        if not len(batch.rows):
            return
        logits = batch.forward()


class _Batch:
    """The rows still being written, and what all rows have got so far; a row is one sample of one task."""

    def __init__(self, model: PreTrainedModel, stop_ids: Tensor, tasks: Sequence[Task]) -> None:
        self.model = model
        self.stop_ids = stop_ids
        self.tasks = tasks
        self.cache = new_cache(model.config)
        device = model.device
        counts = torch.tensor([task.samples for task in tasks])
        self.owner = torch.repeat_interleave(torch.arange(len(tasks)), counts)  # [all rows] -> task
        self.first_row = (counts.cumsum(0) - counts).tolist()
        self.unfinished = counts.tolist()  # rows per task
        self.step = 0  # tokens that every row has got
        longest = max(task.max_new_tokens for task in tasks)
        self.tokens = torch.zeros(len(self.owner), longest, dtype=torch.long)  # [all rows, position]
        self.log_probs = torch.zeros(len(self.owner), longest, dtype=torch.float32)
        self.lengths = torch.zeros(len(self.owner), dtype=torch.long)
        self.stopped = torch.zeros(len(self.owner), dtype=torch.bool)
        self.rows = torch.arange(len(self.owner))  # rows in the batch; the tensors below are in their order
        self.ended = torch.zeros(len(self.owner), dtype=torch.bool)
        self.limits = torch.tensor([task.max_new_tokens for task in tasks])[self.owner]
        temperatures = torch.tensor([task.temperature for task in tasks], dtype=torch.float32)
        self.temperatures = temperatures[self.owner].to(device)
        self.keys = np.concatenate([row_keys(task.seed, task.stream, task.samples) for task in tasks])
        self.noise = torch.empty(0)  # [rows, DRAWN]
        self.last: Tensor = torch.empty(0)  # [rows] the newest token
        self.mask, self.positions = _left_padding_mask([len(task.prompt_ids) for task in tasks], longest, device)

    def prefill(self) -> Tensor:
        """Run every prompt once and fork the caches; the logits of the first position. [rows, vocabulary]"""
        width = max(len(task.prompt_ids) for task in self.tasks)
        ids = torch.zeros(len(self.tasks), width, dtype=torch.long)  # [tasks, width], left-padded
        for at, task in enumerate(self.tasks):
            ids[at, width - len(task.prompt_ids) :] = torch.tensor(task.prompt_ids)
        mask = self.mask[:, :width]
        logits = self._run(ids.to(self.model.device), mask, (mask.cumsum(1) - 1).clamp(min=0))
        rows = self.owner.to(self.model.device)
        if len(rows) > len(self.tasks):
            self.cache.batch_select_indices(rows)
        self.mask, self.positions = self.mask[rows], self.positions[rows]
        return logits[rows]

    def forward(self) -> Tensor:
        """One position further. [rows, vocabulary]"""
        length = self.cache.get_seq_length() + 1
        return self._run(self.last[:, None], self.mask[:, :length], self.positions[:, None] + (self.step - 1))

    def advance(self, logits: Tensor, cancelled: Callable[[int], bool]) -> Iterator[tuple[int, list[Sample]]]:
        """Draw a token for each row, close the rows that end with it, and take ended rows out where it pays."""
        chosen, log_probs = draw(logits, self.temperatures, self._noise().to(logits.device))
        self.last = chosen
        on_host = chosen.cpu()
        self.tokens[self.rows, self.step] = on_host
        self.log_probs[self.rows, self.step] = log_probs.cpu()
        self.step += 1
        stopped = torch.isin(chosen, self.stop_ids).cpu()
        ending = (stopped | (self.limits <= self.step)) & ~self.ended
        if ending.any():
            self.lengths[self.rows[ending]] = self.step
            self.stopped[self.rows[ending]] = stopped[ending]
            self.ended |= ending
            yield from self._finished(self.owner[self.rows[ending]].tolist())
        self._drop([task for task, left in enumerate(self.unfinished) if left and cancelled(task)])
        if int(self.ended.sum()) >= max(1, LEAVE_SHARE * len(self.rows)):
            self._keep((~self.ended).nonzero().squeeze(1))

    def _run(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _noise(self) -> Tensor:
        at = self.step % DRAWN
        if at == 0:
            self.noise = torch.from_numpy(uniforms(self.keys, self.step, DRAWN))
        return self.noise[:, at]

    def _finished(self, owners: Sequence[int]) -> Iterator[tuple[int, list[Sample]]]:
        for task in owners:
            self.unfinished[task] -= 1
            if not self.unfinished[task]:
                first = self.first_row[task]
                yield task, [self._sample(row) for row in range(first, first + self.tasks[task].samples)]

    def _sample(self, row: int) -> Sample:
        length = int(self.lengths[row])
        return Sample(
            token_ids=tuple(self.tokens[row, :length].tolist()),
            log_probs=tuple(self.log_probs[row, :length].tolist()),
            finish_reason="stop" if self.stopped[row] else "length",
        )

    def _drop(self, tasks: Sequence[int]) -> None:
        for task in tasks:
            self.unfinished[task] = 0
            self.ended |= self.owner[self.rows] == task

    def _keep(self, kept: Tensor) -> None:
        """Only the rows at places `kept` go on."""
        on_device = kept.to(self.model.device)
        self.rows, self.ended, self.limits = self.rows[kept], self.ended[kept], self.limits[kept]
        self.noise, self.keys = self.noise[kept], self.keys[kept.numpy()]
        self.last, self.temperatures = self.last[on_device], self.temperatures[on_device]
        self.mask, self.positions = self.mask[on_device], self.positions[on_device]
        if len(kept):
            self.cache.batch_select_indices(on_device)


def draw(logits: Tensor, temperatures: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """One token for each row by inverting the cumulative distribution at `noise`, and its log-prob at temperature 1.

    logits [rows, vocabulary], temperatures [rows] (0 is greedy), noise [rows] in (0, 1] -> ([rows], [rows]).
    """
    log_probs = logits.log_softmax(dim=1)
    plain = bool((temperatures == 1).all())
    scaled = log_probs.exp() if plain else (logits / temperatures.clamp(min=1e-6)[:, None]).softmax(dim=1)
    cumulative = scaled.cumsum(dim=1)
    wanted = (noise * cumulative[:, -1])[:, None]
    chosen = torch.searchsorted(cumulative, wanted).squeeze(1)  # the first entry >= wanted > 0, so its probability is not 0
    if not plain:
        chosen = torch.where(temperatures == 0, logits.argmax(dim=1), chosen)
    return chosen, log_probs.gather(1, chosen[:, None]).squeeze(1)


def _left_padding_mask(lengths: Sequence[int], room: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """1 where there is a token, for left-padded prompts and `room` positions after them; and the first position after each."""
    width = max(lengths)
    first = torch.tensor([width - length for length in lengths])
    mask = (torch.arange(width + room)[None, :] >= first[:, None]).long()  # [tasks, width + room]
    return mask.to(device), torch.tensor(lengths, device=device)


@torch.inference_mode()
def score(model: PreTrainedModel, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> list[float]:
    """ln pi of each response token, in nats, by one pass over prompt and response (teacher forcing)."""
    ids = torch.tensor([[*prompt_ids, *response_ids]], device=model.device)
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(response_ids) + 1).logits[0, :-1].float()
    chosen = ids[0, len(prompt_ids) :, None]
    values: list[float] = logits.log_softmax(dim=1).gather(1, chosen).squeeze(1).tolist()
    return values
