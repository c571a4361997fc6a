"""RLSO as tiny pure functions: ranking quality, rewards and the squared-regression loss (Section 3.2.1, Eq. 8 and 11).

No model and no sampling here; tensors in, tensors out. B histories, G rollouts of each.
"""

from __future__ import annotations

import torch
from torch import Tensor

VARIANCE_FLOOR = 1e-8


def with_truncation(
    quality: Tensor,  # [B, G] U of every rollout
    terminated: Tensor,  # [B, G] bool: ended with EOS within the length limit, and is a text at all
    truncated_reward: float,  # Gamma
) -> Tensor:  # [B, G]
    """U, with Gamma in place of it where the rollout did not terminate."""
    return torch.where(terminated, quality, truncated_reward)


def with_kl_penalty(
    quality: Tensor,  # [B, G]
    behaviour: Tensor,  # [B, G] ln pi_t(p), nats, summed over the response
    reference: Tensor,  # [B, G] ln pi_0(p), nats
    gamma: float,
) -> Tensor:  # [B, G]
    """Eq. 11: r = U - gamma (ln pi_t(p) - ln pi_0(p)), at sampling time."""
    return quality - gamma * (behaviour - reference)


def standardised(rewards: Tensor) -> Tensor:  # [B, G] -> [B, G]
    """(r - mean) / sqrt(var + 1e-8) over all B x G values; biased variance, as in the research code."""
    return (rewards - rewards.mean()) / torch.sqrt(rewards.var(correction=0) + VARIANCE_FLOOR)


def rlso_loss(
    logprobs: Tensor,  # [B, G] l_g = ln pi(p_g) under the policy that learns; carries the gradient
    behaviour: Tensor,  # [B, G] b_g = ln pi_t(p_g)
    rewards: Tensor,  # [B, G] r_g
    eta: float,
) -> Tensor:  # [B]
    """Eq. 8 for G >= 2 samples, one value per history (times eta^2: the same at the paper's eta = 1).

    With d_g = (l_g - b_g) - eta r_g it is the mean over all pairs of (d_i - d_j)^2, in its O(G) form
    2/(G-1) sum_g (d_g - mean d)^2. A constant added to all rewards of one history changes nothing.
    """
    residual = (logprobs - behaviour) - eta * rewards
    centred = residual - residual.mean(dim=1, keepdim=True)
    return 2.0 / (logprobs.shape[1] - 1) * centred.square().sum(dim=1)
