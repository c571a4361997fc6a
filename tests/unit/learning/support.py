"""What the learning tests share: tiny random models of three architectures, rollout groups, and the plain dense twin."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, PreTrainedConfig, PreTrainedModel, Qwen3Config

from langptune.domain import Interaction, Item, Session
from services.trainer.learning.ports import Rollout, RolloutGroup

VOCABULARY = 61
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ARCHITECTURES: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**_SIZES, tie_word_embeddings=False),
    "gemma": GemmaConfig(**_SIZES, tie_word_embeddings=True, hidden_activation="gelu_pytorch_tanh"),
    "qwen": Qwen3Config(**_SIZES, tie_word_embeddings=False),
}


def random_model(architecture: str, seed: int = 0) -> PreTrainedModel:
    """Random weights, larger than the usual initialisation so that every part of the network matters."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(ARCHITECTURES[architecture], attn_implementation="sdpa")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def group(prompt_length: int, response_lengths: Sequence[int], seed: int, truncated: Sequence[int] = ()) -> RolloutGroup:
    """Random tokens; responses end with EOS (2) but those whose position is in `truncated`."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, VOCABULARY, (count,), generator=generator).tolist())

    rollouts = tuple(
        Rollout(tokens(length), "a profile", "length")
        if at in truncated
        else Rollout((*tokens(length - 1), 2), "a profile", "stop")
        for at, length in enumerate(response_lengths)
    )
    return RolloutGroup((1, *tokens(prompt_length - 1)), rollouts, "v0")


def dense_logprobs(model: PreTrainedModel, groups: Sequence[RolloutGroup], padding: str = "left") -> Tensor:
    """The plain twin: one row per rollout, prompt repeated, all rows padded to the longest, full logits. [B, G]"""
    pairs = [(each.prompt_token_ids, rollout.token_ids) for each in groups for rollout in each.rollouts]
    width = max(len(prompt) + len(response) for prompt, response in pairs)
    ids, mask = torch.zeros(2, len(pairs), width, dtype=torch.long)
    starts = []  # of the responses
    for row, (prompt, response) in enumerate(pairs):
        used = len(prompt) + len(response)
        first = width - used if padding == "left" else 0
        ids[row, first : first + used] = torch.tensor([*prompt, *response])
        mask[row, first : first + used] = 1
        starts.append(first + len(prompt))
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    logprobs = logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)  # [rows, width - 1]
    sums = [
        logprobs[row, start - 1 : start - 1 + len(response)].sum()
        for row, (start, (_, response)) in enumerate(zip(starts, pairs, strict=True))
    ]
    return torch.stack(sums).view(len(groups), -1)


def item(number: int) -> Item:
    """One of a numbered catalogue; its title is one word that the tests' tokenizer knows."""
    return Item(f"i{number}", f"w{3 + number}", "", (), 4.0, 9.99)


def session(user: int, history: Sequence[int], target: int) -> Session:
    """A training session over the numbered catalogue."""
    return Session(f"u{user}", tuple(Interaction(item(number), 5.0, "good") for number in history), (f"i{target}",))
