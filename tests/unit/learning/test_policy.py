"""The shared-prompt pass against its dense twin: values and gradients, three architectures, awkward lengths."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from langptune.errors import FailedPrecondition, InvalidArgument
from langptune.weights.golden import GOLDEN_PROMPT, GOLDEN_RESPONSE
from services.trainer.learning import policy as policy_module
from services.trainer.learning.adapters import OneProductLinear
from services.trainer.learning.config import RlsoConfig
from services.trainer.learning.packing import micro_batches, pack
from services.trainer.learning.policy import Policy
from services.trainer.learning.policy_learner import PolicyLearner
from services.trainer.learning.rlso import rlso_loss
from tests.unit.learning.support import dense_logprobs, group, random_model

TOLERANCE = 1e-5  # relative, float32
GROUPS = [
    group(20, [9, 4, 7], seed=1),
    group(3, [1, 12, 2], seed=2, truncated=[1]),  # a response that is only EOS; one that was cut
    group(11, [5, 1, 1], seed=3, truncated=[2]),  # a response of one token that is no EOS
    group(1, [2, 3, 6], seed=4),  # a prompt that is only the token before the responses
]


def make_policy(architecture: str, tokenizer: PreTrainedTokenizerFast, **config: object) -> Policy:
    return Policy(random_model(architecture), tokenizer, RlsoConfig.model_validate(config))


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm().clamp_min(1e-12)).item()


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize(("trainable", "rank"), [("full", 1), ("last_k", 1), ("lora", 1), ("lora", 12)])  # 12: one product
@pytest.mark.parametrize("architecture", ["llama", "gemma", "qwen"])
def test_equals_the_dense_twin_in_loss_and_gradients(
    architecture: str, trainable: str, rank: int, padding: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    """The second pass over a batch takes the frozen layers' output as it was kept by the first; both are checked."""
    policy = make_policy(architecture, tokenizer, trainable=trainable, last_k=2, lora_rank=rank, lora_alpha=2 * rank)
    with torch.no_grad():
        for parameter in policy.trainable().values():  # else an adapter's second matrix is 0, and its first has no gradient
            parameter.add_(0.05 * torch.randn_like(parameter))
    behaviour, rewards = torch.randn(4, 3) - 30, torch.randn(4, 3)

    def gradients(logprobs: torch.Tensor) -> dict[str, torch.Tensor]:
        policy.wrapped.zero_grad()
        rlso_loss(logprobs, behaviour, rewards, 1.0).mean().backward()
        return {name: parameter.grad.clone() for name, parameter in policy.trainable().items()}

    adapters = [layer for layer in policy.wrapped.modules() if isinstance(layer, OneProductLinear)]
    for layer in adapters:
        layer.one_product = False  # the twin takes peft's own way
    dense = dense_logprobs(policy.causal_lm, GROUPS, padding)
    expected = gradients(dense)
    for layer in adapters:
        layer.one_product = True
    batch = policy.batch(GROUPS)
    for _ in range(2):
        fast = policy.sequence_logprobs(batch)
        found = gradients(fast)
        assert relative(fast.detach(), dense.detach()) < TOLERANCE
        for name, value in expected.items():
            assert relative(found[name], value) < TOLERANCE, name
    assert (batch.trunk is not None) == (trainable == "last_k")


def test_what_is_kept_of_frozen_layers_serves_the_reference_too(tokenizer: PreTrainedTokenizerFast) -> None:
    """Other weights in the layers that learn, the same kept states below them."""
    config = RlsoConfig(trainable="last_k", last_k=1, gamma=0.1)
    policy = Policy(random_model("gemma"), tokenizer, config)
    batch, stepper = policy.batch(GROUPS), PolicyLearner(policy, config).stepper
    with torch.no_grad():
        first = policy.sequence_logprobs(batch)
        for parameter in policy.trainable().values():
            parameter.mul_(1.1)
        assert relative(policy.sequence_logprobs(batch), dense_logprobs(policy.causal_lm, GROUPS)) < TOLERANCE
        with stepper.reference():
            assert torch.equal(policy.sequence_logprobs(batch), first)


@pytest.mark.parametrize("groups", [GROUPS[3:], [group(1, [1, 1], seed=5)], [group(2, [1, 1], seed=6), group(1, [1, 3], seed=7)]])
def test_shortest_prompts_and_responses(groups: list, tokenizer: PreTrainedTokenizerFast) -> None:
    policy = make_policy("llama", tokenizer)
    with torch.no_grad():
        assert relative(policy.sequence_logprobs(groups), dense_logprobs(policy.causal_lm, groups)) < TOLERANCE


def test_chunked_logits_change_nothing(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy("llama", tokenizer)
    policy.sequence_logprobs(GROUPS).sum().backward()
    whole = {name: parameter.grad.clone() for name, parameter in policy.trainable().items()}
    policy.wrapped.zero_grad()
    monkeypatch.setattr(policy_module, "LOGITS_PER_CHUNK", 61 * 5)
    policy.sequence_logprobs(GROUPS).sum().backward()
    for name, parameter in policy.trainable().items():
        assert relative(parameter.grad, whole[name]) < TOLERANCE, name


def test_micro_batches_hold_every_group_once_within_the_budget() -> None:
    groups = [group(5 + at % 7, [1 + at % 4, 3], seed=at) for at in range(20)]
    tokens = [pack([each]).ids.shape[1] for each in groups]
    parts = micro_batches(groups, token_budget=40)
    assert sorted(at for part in parts for at in part) == list(range(20))
    assert all(sum(tokens[at] for at in part) <= 40 for part in parts)
    assert len(parts) == -(-sum(tokens) // 40)  # no more than there must be
    assert sorted(micro_batches(groups, token_budget=1)) == [[at] for at in range(20)]


def test_a_row_holds_every_token_that_is_passed_through_the_model_once() -> None:
    """Prompts of 3 and 2 tokens; responses of 2 and 1, of 1 and 3 tokens, whose last tokens are not passed through it.

    Row: p p p r | p p r r, so places 0-3 and 4-7. The first response of the first group is predicted at 2 and 3, the second at 2;
    of the second group the first at 5, the second at 5, 6 and 7.
    """
    groups = [group(3, [2, 1], seed=1), group(2, [1, 3], seed=2)]
    packed = pack(groups)
    first, second = groups
    passed = [
        *first.prompt_token_ids,
        first.rollouts[0].token_ids[0],
        *second.prompt_token_ids,
        *second.rollouts[1].token_ids[:2],
    ]
    assert packed.ids.tolist() == [passed]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 3]]
    assert packed.predictors.tolist() == [2, 3, 2, 5, 5, 6, 7]
    assert packed.kept.tolist() == [2, 3, 5, 6, 7]
    assert packed.samples.tolist() == [0, 0, 1, 2, 3, 3, 3]
    assert packed.spans == [[3, 1, 0], [2, 0, 2]]


@pytest.mark.parametrize("trainable", ["full", "last_k", "lora"])
def test_micro_size_never_changes_an_update(trainable: str, tokenizer: PreTrainedTokenizerFast) -> None:
    quality = torch.tensor([[0.1, 0.9, 0.3], [0.5, 0.2, 0.4], [0.0, 0.0, 1.0], [0.3, 0.3, 0.2]])
    ends = []
    for micro_tokens in (1, 60, 10_000):
        settings = {
            "trainable": trainable,
            "last_k": 1,
            "lora_rank": 4,
            "lora_alpha": 8,
            "gamma": 0.1,
            "micro_tokens": micro_tokens,
        }
        config = RlsoConfig.model_validate({**settings, "learning_rate": 1e-2})
        learner = PolicyLearner(Policy(random_model("llama"), tokenizer, config), config)
        update = learner.update(GROUPS, quality, 1e-2)
        ends.append((update.losses, learner.state_dict()["weights"]))
    for losses, weights in ends[1:]:
        assert losses == pytest.approx(ends[0][0], rel=1e-3)
        for name, value in weights.items():
            assert torch.allclose(value, ends[0][1][name], atol=2e-4), name


@pytest.mark.parametrize("architecture", ["llama", "gemma"])  # gemma: lm_head is tied to the input embedding, which is frozen
def test_last_k_moves_the_top_and_nothing_else(architecture: str, tokenizer: PreTrainedTokenizerFast) -> None:
    config = RlsoConfig(trainable="last_k", last_k=1, learning_rate=1e-2)
    policy = Policy(random_model(architecture), tokenizer, config)
    before = copy.deepcopy(policy.causal_lm.state_dict())
    PolicyLearner(policy, config).update(GROUPS, torch.rand(4, 3), 1e-2)
    moved = {name for name, value in policy.causal_lm.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith(("model.layers.2.", "model.norm", "lm_head")) for name in moved)


@pytest.mark.parametrize("architecture", ["llama", "gemma"])  # gemma: lm_head is tied to the input embedding
def test_saved_adapters_are_merged(architecture: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    config = RlsoConfig(trainable="lora", lora_rank=4, lora_alpha=8, learning_rate=1e-2)
    policy = Policy(random_model(architecture), tokenizer, config)
    with torch.no_grad():
        first = policy.sequence_logprobs(GROUPS)
    PolicyLearner(policy, config).update(GROUPS, torch.rand(4, 3), 1e-2)
    policy.save(tmp_path)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        ours = policy.sequence_logprobs(GROUPS)
        assert relative(dense_logprobs(saved, GROUPS), ours) < TOLERANCE
        assert relative(first, ours) > 1e-3


def test_the_reference_is_lent_for_the_block_only(tokenizer: PreTrainedTokenizerFast) -> None:
    config = RlsoConfig(gamma=0.1)
    policy = Policy(random_model("llama"), tokenizer, config)
    stepper = PolicyLearner(policy, config).stepper
    with torch.no_grad():
        first = policy.sequence_logprobs(GROUPS)
        for parameter in policy.trainable().values():
            parameter.add_(0.05)
        later = policy.sequence_logprobs(GROUPS)
        with stepper.reference():
            assert torch.equal(policy.sequence_logprobs(GROUPS), first)
        assert torch.equal(policy.sequence_logprobs(GROUPS), later)


def test_what_cannot_be_computed_exactly_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InvalidArgument) as refused:
        make_policy("llama", tokenizer, trainable="last_k", last_k=9)
    assert refused.value.field == "rlso.last_k"
    model = random_model("llama")
    model.config = LlamaConfig(
        **{**model.config.to_dict(), "layer_types": ["full_attention", "full_attention", "sliding_attention"]}
    )
    with pytest.raises(FailedPrecondition):
        Policy(model, tokenizer, RlsoConfig())


def test_the_golden_log_prob_is_that_of_the_dense_pass_and_follows_the_weights(tokenizer: PreTrainedTokenizerFast) -> None:
    policy = make_policy("llama", tokenizer)
    learner = PolicyLearner(policy, RlsoConfig())
    golden = learner.golden()
    text = policy.golden_text()
    assert [*text.prompt_token_ids, *text.rollouts[0].token_ids] == tokenizer(GOLDEN_PROMPT + GOLDEN_RESPONSE)["input_ids"]
    dense = dense_logprobs(policy.causal_lm, [text])
    assert golden.log_prob == pytest.approx(dense.item(), rel=1e-5)
    with torch.no_grad():
        next(iter(policy.trainable().values())).mul_(1.5)
    assert golden.deviation(learner.golden().log_prob) > 1e-3
