"""The mixed-centric loss by hand."""

from __future__ import annotations

import math

import pytest
import torch

from experiments.systems.mixed_centric import MclOptions, mixed_centric_loss

PLAIN = MclOptions(alpha=1.0, beta=1.0, lambda_p=0.0, lambda_n=0.0, margin=1.0)


def test_two_users_with_mining() -> None:
    """User 0: liked at 1, unseen at 1.5 and 3; user 1: liked at .2, unseen at 4 and .5; margin 1.

    Unseen mined: below 1 + 1 = 2: 1.5; below .2 + 1 = 1.2: .5. Liked mined: above 1.5 - 1 = .5: 1; above .5 - 1: .2.
    ln(1 + (e^-1.5 + e^-.5) / 2) + ln(1 + (e^1 + e^.2) / 2) = ln 1.414832 + ln 2.969842 = .347011 + 1.088509.
    """
    loss = mixed_centric_loss(torch.tensor([1.0, 0.2]), torch.tensor([[1.5, 3.0], [4.0, 0.5]]), torch.tensor([0, 1]), PLAIN)
    assert loss.item() == pytest.approx(0.347011 + 1.088509, abs=1e-5)


def test_the_weights_of_both_sides() -> None:
    """One user, liked and unseen at 1; alpha 2, beta 4, lambda_p .5, lambda_n -.25.

    ln(1 + e^(-4 x .75)) / 4 + ln(1 + e^(2 x 1.5)) / 2 = .048587 / 4 + 3.048587 / 2.
    """
    options = MclOptions(alpha=2.0, beta=4.0, lambda_p=0.5, lambda_n=-0.25)
    loss = mixed_centric_loss(torch.tensor([1.0]), torch.tensor([[1.0]]), torch.tensor([0]), options)
    assert loss.item() == pytest.approx(0.048587 / 4 + 3.048587 / 2, abs=1e-6)


def test_mining_is_per_user_over_all_of_its_pairs() -> None:
    """One user with two liked items, at .1 and 3: the unseen at 2 counts for both rows, since 2 < 3 + 1; the liked at .1 does not
    count, since .1 < 2 - 1. With N = 1: ln(1 + 2 e^-2) + ln(1 + e^3)."""
    loss = mixed_centric_loss(torch.tensor([0.1, 3.0]), torch.tensor([[2.0], [2.0]]), torch.tensor([0, 0]), PLAIN)
    assert loss.item() == pytest.approx(math.log(1 + 2 * math.exp(-2)) + math.log(1 + math.exp(3)), abs=1e-5)


def test_a_user_that_is_well_placed_adds_nothing() -> None:
    """Liked at .1, unseen at 5: nothing is mined, so loss and gradient are 0; and huge distances do not overflow."""
    liked, unseen = torch.tensor([0.1], requires_grad=True), torch.tensor([[5.0]], requires_grad=True)
    loss = mixed_centric_loss(liked, unseen, torch.tensor([0]), PLAIN)
    loss.backward()
    assert loss.item() == 0.0
    assert liked.grad is not None
    assert liked.grad.item() == 0.0
    far = mixed_centric_loss(torch.tensor([1_000.0]), torch.tensor([[0.0]]), torch.tensor([0]), MclOptions())
    assert far.item() == pytest.approx(1_006.5, rel=1e-3)
