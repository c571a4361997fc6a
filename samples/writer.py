"""Supervised pre-training of the tiny profile writer: a Llama of 0.4M parameters that copies what a history says.

Curriculum of 1, 2, then 4 films; straight on 4 it learns the grammar and copies nothing. A refinement with longer profiles
and a penalty on the probability of repeats follows, so that the writer repeats little when RLSO makes it say more. The loss
is on the profile and, at a lower weight, on the attribute words of the reviews in the prompt, which are copies as well.
Matrices learn by Muon, the rest by AdamW. Deterministic in the seed on one thread. It is no part of LangPTune's training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from langptune.domain import Interaction
from langptune.text import prompt_text
from samples.dataset import MODEL_SEEDS
from samples.lexicon import ATTRIBUTES
from samples.teacher import THOROUGH, write_profile
from samples.users import PRETRAINING_CHOICE, make_sessions, make_users
from samples.world import make_catalogue

CHUNK = 1_024  # sessions made from one fresh catalogue
MAX_NEW_TOKENS = 80


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the curriculum."""

    films: int  # per history
    steps: int
    batch: int
    thorough: float  # share of profiles of the longer kind
    seed: int  # of its data, added to the seed of the models


@dataclass(frozen=True, slots=True)
class Phase:
    """Stages that share their optimizers and one linear decay of the learning rates."""

    rate: float  # times MUON_RATE and ADAM_RATE
    repeats: float  # weight of the penalty on repeats
    stages: tuple[Stage, ...]


CURRICULUM = (
    Phase(1.0, 0.0, (Stage(1, 500, 32, 0.0, 0), Stage(2, 300, 32, 0.0, 200), Stage(4, 2_200, 32, 0.0, 400))),
    Phase(0.5, 1.0, (Stage(4, 800, 32, 0.4, 600),)),
)
MUON_RATE = 1e-2
ADAM_RATE = 3e-3
WARMUP_STEPS = 50
REVIEW_WEIGHT = 0.3


@dataclass(frozen=True, slots=True)
class Example:
    """One supervised example."""

    tokens: list[int]  # prompt, profile, EOS
    prompt_length: int
    copied: list[int]  # positions in the prompt's reviews that repeat an attribute of the film
    stated: list[int]  # positions in the profile that state an attribute


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """An untrained writer for `tokenizer`."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1_024,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=MAX_NEW_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def chat_ids(tokenizer: PreTrainedTokenizerFast, history: Sequence[Interaction]) -> list[int]:
    """The tokens of the prompt for `history`, as serving makes them."""
    messages = [{"role": "user", "content": prompt_text(history)}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def make_examples(tokenizer: PreTrainedTokenizerFast, stage: Stage, seed: int) -> Iterator[Example]:
    """Examples without end; every CHUNK of them has its own catalogue and its own users."""
    names = {tokenizer.convert_tokens_to_ids(tokenizer.tokenize(f" {word}")[0]) for word in ATTRIBUTES}
    rating = tokenizer.convert_tokens_to_ids("\nReview from the user: (rating:")
    title = tokenizer.convert_tokens_to_ids("\n\nTitle:")
    while True:
        catalogue = make_catalogue(seed=seed)
        rng = np.random.default_rng([seed, 5])
        for session in make_sessions(catalogue, make_users(CHUNK, seed), seed, choice=PRETRAINING_CHOICE):
            kept = sorted(rng.choice(len(session.history), stage.films, replace=False))
            history = [session.history[at] for at in kept]
            prompt = chat_ids(tokenizer, history)
            thorough = stage.thorough > 0 and rng.random() < stage.thorough
            written = write_profile(history, rng, THOROUGH, slip=0.0) if thorough else write_profile(history, rng)
            profile = tokenizer(written, add_special_tokens=False)["input_ids"]
            copied, inside = [], False
            for at, token in enumerate(prompt):
                inside = token == rating or (inside and token != title)
                if inside and token in names:
                    copied.append(at)
            stated = [at for at, token in enumerate(profile, start=len(prompt)) if token in names]
            yield Example([*prompt, *profile, tokenizer.eos_token_id], len(prompt), copied, stated)
        seed += 1


def batches(examples: Iterator[Example], size: int, steps: int) -> Iterator[list[Example]]:
    """`steps` batches of similar length: eight batches are drawn together and sorted."""
    order = np.random.default_rng(size)
    for first in range(0, steps, 8):
        pool = sorted((next(examples) for _ in range(8 * size)), key=lambda example: len(example.tokens))
        for at in order.permutation(8)[: steps - first]:
            yield pool[at * size : (at + 1) * size]


def loss_of(model: LlamaForCausalLM, batch: Sequence[Example], repeats: float = 0.0) -> Tensor:
    """Mean negative log-likelihood of the profile tokens plus REVIEW_WEIGHT times that of the copies in the prompt.

    `repeats` weighs a further term, the mean of -ln(1 - p), p the probability of any attribute that was stated before.
    """
    longest = max(len(example.tokens) for example in batch)
    tokens = torch.zeros(len(batch), longest, dtype=torch.long)  # right-padded: causal attention needs no mask
    weights = torch.zeros(len(batch), longest)
    for row, example in enumerate(batch):
        tokens[row, : len(example.tokens)] = torch.tensor(example.tokens)
        weights[row, example.prompt_length : len(example.tokens)] = 1.0
        weights[row, example.copied] = REVIEW_WEIGHT
    chosen = weights[:, 1:] > 0
    hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1][chosen]  # [chosen, hidden]
    logits = model.lm_head(hidden)  # [chosen, vocabulary]
    losses = torch.nn.functional.cross_entropy(logits, tokens[:, 1:][chosen], reduction="none")
    picked = weights[:, 1:][chosen]
    loss = (losses * picked).sum() / picked.sum()
    if repeats:
        stated_before = _stated_before(batch, tokens, logits.shape[1])[chosen]  # [chosen, vocabulary]
        again = (logits.softmax(dim=1) * stated_before).sum(dim=1)
        loss = loss - repeats * torch.log1p(-again.clamp(max=0.99)).mean()
    return loss


def _stated_before(batch: Sequence[Example], tokens: Tensor, vocabulary: int) -> Tensor:
    """[batch, length - 1, vocabulary] of 0/1: the attributes that the profile has stated up to each position."""
    stated = torch.zeros(len(batch), tokens.shape[1] - 1, vocabulary)
    for row, example in enumerate(batch):
        for at in example.stated:
            stated[row, at:, tokens[row, at]] = 1.0
    return stated


def optimizers(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    matrices = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embed" not in name]
    others = [weight for name, weight in model.named_parameters() if weight.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.01, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train_writer(
    tokenizer: PreTrainedTokenizerFast,
    seed: int = 0,
    curriculum: Sequence[Phase] = CURRICULUM,
    on_step: Callable[[int, float, LlamaForCausalLM], None] = lambda step, loss, model: None,
) -> LlamaForCausalLM:
    """A trained writer. `on_step` is told (step, loss, model) after every optimizer step."""
    model = make_model(tokenizer, seed)
    model.train()
    done = 0
    for phase in curriculum:

        def report(step: int, loss: float, before: int = done) -> None:
            on_step(before + step, loss, model)

        train_phase(model, tokenizer, phase, MODEL_SEEDS * (1 + seed), report)
        done += sum(stage.steps for stage in phase.stages)
    model.eval()
    return model


def train_phase(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, phase: Phase, seed: int, on_step: Callable[[int, float], None]
) -> None:
    """One phase of the curriculum; `on_step` counts from 1."""
    active = optimizers(model)
    rates = [phase.rate * optimizer.param_groups[0]["lr"] for optimizer in active]
    total = sum(stage.steps for stage in phase.stages)
    step = 0
    for stage in phase.stages:
        for batch in batches(make_examples(tokenizer, stage, seed + stage.seed), stage.batch, stage.steps):
            scale = min((step + 1) / WARMUP_STEPS, max(0.02, (total - step) / total))
            for optimizer, rate in zip(active, rates, strict=True):
                optimizer.param_groups[0]["lr"] = rate * scale
                optimizer.zero_grad(set_to_none=True)
            loss = loss_of(model, batch, phase.repeats)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in active:
                optimizer.step()
            step += 1
            on_step(step, loss.item())


@torch.inference_mode()
def sample_profiles(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    histories: Sequence[Sequence[Interaction]],
    seed: int,
    batch: int = 64,
) -> list[str]:
    """One profile a history at temperature 1, no top-p, no top-k; the generator is torch's global one, seeded here."""
    torch.manual_seed(seed)
    generate = cast(Any, model).generate  # its stub asks for a protocol that no model class meets
    profiles: list[str] = []
    for first in range(0, len(histories), batch):
        prompts = [chat_ids(tokenizer, history) for history in histories[first : first + batch]]
        padded = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
        output = generate(**padded, max_new_tokens=MAX_NEW_TOKENS, do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
        new = output[:, padded["input_ids"].shape[1] :]
        profiles += [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
    return profiles


def save_writer(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """An ordinary Hugging Face folder."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
