"""The embedder as the trainer sees it, and the figures that are taken from rollouts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedTokenizerFast

from langptune.text import history_text
from services.trainer.learning.config import ContrastiveConfig
from services.trainer.learning.embedder import ContrastiveExample, Embedder, EmbedderLearner
from services.trainer.learning.ports import Rollout, RolloutGroup
from services.trainer.learning.progress import RolloutFigures, distinct_share, logprob_gap
from tests.unit.learning.support import session
from tests.unit.learning.world import tiny_embedder

TEXTS = ["w3 w4 w5", "w9", "w10 w11 w12 w13 w14 w15", "w3", "w20 w21"]


def test_unit_vectors_in_order_whatever_the_grouping(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = tiny_embedder(tmp_path / "base", tokenizer)
    alone = torch.cat([Embedder(model, rows=1).embed([text]) for text in TEXTS])
    for rows in (1, 2, 100):
        vectors = Embedder(model, rows).embed(TEXTS)
        assert torch.allclose(vectors, alone, atol=1e-6)
        assert vectors.requires_grad
    assert torch.allclose(alone.norm(dim=1), torch.ones(5))


def test_cached_negatives_equal_the_plain_pass_in_loss_and_gradients(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Parts of one, two and all texts; rows 0 and 3 share a target and row 1 knows another's, so masks count too."""
    rows = [
        ContrastiveExample(query, f"i{number % 3}", f"w{30 + number % 3} w{40 + number % 3} w5", known)
        for number, (query, known) in enumerate(zip(TEXTS, [set(), {"i2"}, set(), set(), {"i0"}], strict=True))
    ]
    updates, weights = [], []
    for cached, size in ((False, 100), (True, 1), (True, 2), (True, 100)):
        embedder = Embedder(tiny_embedder(tmp_path / f"{cached}-{size}", tokenizer), size)
        learner = EmbedderLearner(embedder, ContrastiveConfig(cached=cached, learning_rate=1e-9, micro_rows=size))
        weights.append(_gradients_of(embedder))
        updates.append(learner.update(rows, 1e-9))
    for update, gradients in zip(updates[1:], weights[1:], strict=True):
        assert update.loss == pytest.approx(updates[0].loss, rel=1e-6)
        assert update.gradient_norm == pytest.approx(updates[0].gradient_norm, rel=1e-5)
        assert update.accuracy == updates[0].accuracy
        assert gradients.keys() == weights[0].keys()
        for name, value in gradients.items():
            own = weights[0][name]
            scale = max(own.norm().item(), 1e-3 * updates[0].gradient_norm)  # a bias that the softmax cancels has none of its own
            assert (value - own).norm().item() / scale < 1e-5, name


def _gradients_of(embedder: Embedder) -> dict[str, torch.Tensor]:
    """Filled during the next update, by parameter: the gradients as they are after their last addition."""
    found: dict[str, torch.Tensor] = {}
    for name, parameter in embedder.model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda own, name=name: found.__setitem__(name, own.grad.clone()))
    return found


def test_saved_is_what_the_decoder_loads(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    embedder = Embedder(tiny_embedder(tmp_path / "base", tokenizer), rows=2)
    embedder.save(tmp_path / "saved")
    served = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(
        TEXTS, normalize_embeddings=True, convert_to_tensor=True
    )
    assert torch.allclose(served, embedder.embed(TEXTS), atol=1e-6)
    again = Embedder.load(tmp_path / "saved", rows=2)
    assert torch.equal(again.embed(TEXTS), embedder.embed(TEXTS))


def test_a_history_is_read_from_its_newest_end(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Three entries; as there is room for fewer tokens, the oldest loses its words first, and the newest is never lost."""
    embedder = Embedder(tiny_embedder(tmp_path / "base", tokenizer), rows=2)
    history = session(0, [1, 2, 3], 4).history
    whole = len(tokenizer(history_text(history))["input_ids"])
    embedder.model.max_seq_length = whole
    assert embedder.text_of(history) == history_text(history)
    for limit in range(whole - 1, whole // 3, -1):
        embedder.model.max_seq_length = limit
        text = embedder.text_of(history)
        assert len(tokenizer(text)["input_ids"]) <= limit
        assert f"Title: {history[-1].item.title}\n" in text
    assert f"Title: {history[0].item.title}\n" not in text


def test_figures_of_rollouts() -> None:
    """Lengths 4 and 2, one of two cut; (5, 6, 5, 6): 2 of 4 tokens and 2 of 3 pairs are distinct; (7, 2): all of them."""
    rollouts = (Rollout((5, 6, 5, 6), "x", "length", (-1.0, -1.0, -1.0, -1.0)), Rollout((7, 2), "y", "stop", (-0.5, -0.5)))
    groups = [RolloutGroup((1,), rollouts, "v0")]
    figures = RolloutFigures.of(groups, ["the history"])
    assert (figures.response_tokens, figures.truncated_share) == (3.0, 0.5)
    assert figures.distinct_1 == pytest.approx((2 / 4 + 1) / 2)
    assert figures.distinct_2 == pytest.approx((2 / 3 + 1) / 2)
    assert distinct_share((5,), 2) == 1.0
    # engine -4 and -1; trainer -4.4 over 4 tokens and -1 over 2: (0.1 + 0) / 2
    assert logprob_gap(groups, torch.tensor([[-4.4, -1.0]])) == pytest.approx(0.05)
    assert logprob_gap([RolloutGroup((1,), (Rollout((2,), "", "stop"),), "v0")], torch.zeros(1, 1)) is None
