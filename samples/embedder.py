"""Contrastive pre-training of the tiny embedder: a BERT of 0.4M parameters, mean pooling, unit length.

InfoNCE of a text about a film against the film, other films of the batch and hard negatives. Deterministic in the seed on
one thread. The result is generic: it knows what films are about, not what people choose; CL learns that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from samples.dataset import MODEL_SEEDS
from samples.queries import Pairs, make_pairs

MAX_LENGTH = 256
DIMENSION = 128
WARMUP_STEPS = 100
TEMPERATURE = 0.07


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the training, with an optimizer of its own."""

    steps: int
    batch: int
    rate: float
    negation: float  # share of negation queries
    seed: int  # of its data, added to the seed of the models


CURRICULUM = (Stage(1_600, 128, 2e-3, 0.0, 600), Stage(900, 64, 1e-3, 0.75, 800))


def make_embedder(tokenizer: PreTrainedTokenizerFast, seed: int) -> SentenceTransformer:
    """An untrained embedder; sentence-transformers reads its parts from an ordinary Hugging Face folder."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=DIMENSION,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=MAX_LENGTH,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    with tempfile.TemporaryDirectory() as folder:
        BertModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        transformer = Transformer(folder, max_seq_length=MAX_LENGTH)
    return SentenceTransformer(modules=[transformer, Pooling(DIMENSION, pooling_mode="mean"), Normalize()], device="cpu")


def embed(model: SentenceTransformer, texts: list[str]) -> Tensor:
    """[texts, DIMENSION], with gradients."""
    embedded: Tensor = model(model.preprocess(texts))["sentence_embedding"]
    return embedded


def contrastive_loss(model: SentenceTransformer, pairs: Pairs) -> Tensor:
    """InfoNCE over the films of the batch and the hard negatives."""
    queries = embed(model, pairs.queries)  # [batch, dim]
    films = embed(model, pairs.films + pairs.negatives)  # [batch + negatives, dim]
    return torch.nn.functional.cross_entropy(queries @ films.T / TEMPERATURE, torch.arange(len(pairs.queries)))


def train_embedder(
    tokenizer: PreTrainedTokenizerFast,
    seed: int = 0,
    curriculum: Sequence[Stage] = CURRICULUM,
    on_step: Callable[[int, float, SentenceTransformer], None] = lambda step, loss, model: None,
) -> SentenceTransformer:
    """A trained embedder. `on_step` is told (step, loss, model) after every optimizer step."""
    model = make_embedder(tokenizer, seed)
    model.train()
    done = 0
    for stage in curriculum:

        def report(step: int, loss: float, before: int = done) -> None:
            on_step(before + step, loss, model)

        train_stage(model, stage, MODEL_SEEDS * (1 + seed), report)
        done += stage.steps
    model.eval()
    return model


def train_stage(model: SentenceTransformer, stage: Stage, seed: int, on_step: Callable[[int, float], None]) -> None:
    """One stage of the curriculum; `on_step` counts from 1."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.01)
    for step, pairs in enumerate(make_pairs(stage.batch, stage.steps, seed + stage.seed, stage.negation), start=1):
        scale = min(step / WARMUP_STEPS, max(0.02, (stage.steps - step) / stage.steps))
        optimizer.param_groups[0]["lr"] = stage.rate * scale
        optimizer.zero_grad(set_to_none=True)
        loss = contrastive_loss(model, pairs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        on_step(step, loss.item())
