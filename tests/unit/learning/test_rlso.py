"""RLSO's pure functions against numbers derived by hand, and the properties that the derivation promises."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, tensor

from services.trainer.learning.rlso import rlso_loss, standardised, with_kl_penalty, with_truncation


def batches(*, histories: int = 3) -> st.SearchStrategy[tuple[Tensor, Tensor, Tensor]]:
    """(logprobs, behaviour, rewards), each [B, G], G from 2 to 6, double precision."""
    values = st.floats(-20, 20, allow_nan=False, width=32)
    return st.integers(2, 6).flatmap(
        lambda samples: st.tuples(
            *[arrays("float64", (histories, samples), elements=values).map(torch.from_numpy) for _ in range(3)]
        )
    )


def test_two_samples() -> None:
    """eta = 2: l - b = (-1 - (-2), -4 - (-3)) = (1, -1); d = (1 - 2 * 0.5, -1 - 2 * 0.25) = (0, -1.5); (d1 - d2)^2 = 2.25."""
    loss = rlso_loss(tensor([[-1.0, -4.0]]), tensor([[-2.0, -3.0]]), tensor([[0.5, 0.25]]), eta=2.0)
    assert loss.tolist() == pytest.approx([2.25])


def test_three_samples() -> None:
    """d = (0, 1, 5): the pairs give 1, 25, 16, their mean is 42 / 3 = 14. O(G): mean 2; 2/2 * (4 + 1 + 9) = 14."""
    loss = rlso_loss(tensor([[0.0, 1.0, 5.0]]), torch.zeros(1, 3), torch.zeros(1, 3), eta=1.0)
    assert loss.tolist() == pytest.approx([14.0])


def test_gradient_at_the_behaviour_policy() -> None:
    """G = 2, l = b, r = (1, 0), eta = 1: d = (-1, 0), L = (d1 - d2)^2, dL/dl1 = 2 (d1 - d2) = -2: the better sample goes up."""
    logprobs = torch.zeros(1, 2, requires_grad=True)
    rlso_loss(logprobs, torch.zeros(1, 2), tensor([[1.0, 0.0]]), eta=1.0).sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [[-2.0, 2.0]]


def test_the_solution_of_the_regression_has_no_loss() -> None:
    """Eq. 7: where l - b = eta r + c(h) for any c of the history, the squared residual is 0."""
    rewards = tensor([[0.3, -1.0, 2.0], [0.0, 0.5, 0.5]])
    assert rlso_loss(4.0 * rewards + tensor([[7.0], [-3.0]]), torch.zeros(2, 3), rewards, eta=4.0).abs().max() < 1e-9


@given(batches(), st.floats(0.1, 5))
@settings(max_examples=50, deadline=None)
def test_pair_form_equals_linear_form(batch: tuple[Tensor, Tensor, Tensor], eta: float) -> None:
    """L = 2 / (G (G - 1)) * sum over i < j of (d_i - d_j)^2."""
    logprobs, behaviour, rewards = batch
    d = (logprobs - behaviour) - eta * rewards
    samples = d.shape[1]
    pairs = sum((d[:, i] - d[:, j]) ** 2 for i in range(samples) for j in range(i + 1, samples)) * 2 / (samples * (samples - 1))
    assert torch.allclose(rlso_loss(logprobs, behaviour, rewards, eta), pairs, rtol=1e-9, atol=1e-9)


@given(batches(), arrays("float64", (3, 1), elements=st.floats(-10, 10)).map(torch.from_numpy))
@settings(max_examples=50, deadline=None)
def test_a_constant_per_history_changes_nothing(batch: tuple[Tensor, Tensor, Tensor], shift: Tensor) -> None:
    """The partition function Z(h, f) of Eq. 5 cancels; so does anything that all samples of a history share."""
    logprobs, behaviour, rewards = batch
    plain = rlso_loss(logprobs, behaviour, rewards, 1.0)
    assert torch.allclose(rlso_loss(logprobs, behaviour, rewards + shift, 1.0), plain, rtol=1e-7, atol=1e-7)
    assert torch.allclose(rlso_loss(logprobs, behaviour + shift, rewards, 1.0), plain, rtol=1e-7, atol=1e-7)


def test_standardised_over_the_whole_batch() -> None:
    """(1, 2; 3, 6): mean 3, biased variance (4 + 1 + 0 + 9) / 4 = 3.5."""
    scale = math.sqrt(3.5 + 1e-8)
    expected = [[-2 / scale, -1 / scale], [0.0, 3 / scale]]
    assert torch.allclose(standardised(tensor([[1.0, 2.0], [3.0, 6.0]])), tensor(expected))


def test_equal_rewards_standardise_to_zero() -> None:
    """Variance 0: the floor of 1e-8 keeps 0 / 0 away."""
    assert standardised(torch.full((2, 2), 0.5)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_kl_penalty() -> None:
    """r = U - gamma (ln pi_t - ln pi_0): 0.5 - 0.2 * (-10 - -12) = 0.1; 0.5 - 0.2 * (-10 - -9) = 0.7."""
    rewards = with_kl_penalty(tensor([[0.5, 0.5]]), tensor([[-10.0, -10.0]]), tensor([[-12.0, -9.0]]), gamma=0.2)
    assert rewards[0].tolist() == pytest.approx([0.1, 0.7])


def test_gamma_replaces_what_did_not_terminate() -> None:
    """U = 0.9 was cut at the length limit: it counts as Gamma = -0.5; 0.4 ended with EOS and stays."""
    assert with_truncation(tensor([[0.9, 0.4]]), tensor([[False, True]]), -0.5)[0].tolist() == pytest.approx([-0.5, 0.4])
