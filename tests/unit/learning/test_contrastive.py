"""InfoNCE and its false-negative mask against numbers derived by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor

from services.trainer.learning.contrastive import false_negatives, info_nce

NOTHING = torch.zeros(2, 2, dtype=torch.bool)


def test_two_rows() -> None:
    """s = (1, 0; 0.6, 0.8), T = 0.5: row losses ln(1 + e^-2) and ln(1 + e^(1.2 - 1.6)); their mean."""
    queries, items = tensor([[1.0, 0.0], [0.6, 0.8]]), tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-0.4))) / 2
    assert info_nce(queries, items, NOTHING, 0.5).item() == pytest.approx(expected)


def test_a_masked_item_is_no_negative() -> None:
    """As above, but item 0 is known to user 1: row 1 has its positive alone and no loss, and sends item 0 no gradient."""
    queries, items = tensor([[1.0, 0.0], [0.6, 0.8]]), tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    masked = tensor([[False, False], [True, False]])
    loss = info_nce(queries, items, masked, 0.5)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)) / 2)
    assert items.grad is not None
    assert items.grad.isfinite().all()
    assert items.grad[0, 1] == 0  # only query 1 has a second component


def test_copies_and_known_items_are_masked() -> None:
    """Rows 0 and 2 share the target a; user 1 knows a; user 2 knows b. The diagonal stays."""
    masked = false_negatives(["a", "b", "a"], [{"x"}, {"a"}, {"b"}])
    assert masked.tolist() == [[False, False, True], [True, False, True], [True, True, False]]


def test_further_negatives_count_for_every_row_that_does_not_know_them() -> None:
    """Item c = (0, 1) joins the first test's two rows, T = 0.5: row 0 has 1 against 0 and 0, so ln(1 + 2 e^-2). User 1 knows c,
    so row 1 stays ln(1 + e^-0.4); a further copy of a target is masked for its row only."""
    masked = false_negatives(["a", "b"], [set(), {"c"}], ["c"])
    assert masked.tolist() == [[False, False, False], [False, False, True]]
    assert false_negatives(["a", "b"], [set(), set()], ["a"]).tolist() == [[False, False, True], [False, False, False]]
    queries, items = tensor([[1.0, 0.0], [0.6, 0.8]]), tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    expected = (math.log(1 + 2 * math.exp(-2)) + math.log(1 + math.exp(-0.4))) / 2
    assert info_nce(queries, items, masked, 0.5).item() == pytest.approx(expected)


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=8), st.data())
@settings(max_examples=40, deadline=None)
def test_a_mask_equals_leaving_the_items_out(targets: list[str], data: st.DataObject) -> None:
    """Each row's loss is that of a softmax over its own remaining items."""
    known = [data.draw(st.sets(st.sampled_from("abcdef"))) for _ in targets]
    size = len(targets)
    generator = torch.Generator().manual_seed(len(targets))
    queries, items = torch.randn(2, size, 4, generator=generator, dtype=torch.float64)
    masked = false_negatives(targets, known)
    rows = []
    for at in range(size):
        kept = [
            other for other in range(size) if other == at or not (targets[other] == targets[at] or targets[other] in known[at])
        ]
        scores = queries[at] @ items[kept].T / 0.1
        rows.append(scores.logsumexp(0) - scores[kept.index(at)])
    assert info_nce(queries, items, masked, 0.1).item() == pytest.approx(torch.stack(rows).mean().item(), rel=1e-9)
