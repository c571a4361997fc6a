"""The profile encoder as the trainer sees it: log-probs of rollouts with gradients, and a folder to publish.

The prompt runs once for its G rollouts, with its keys and values kept in the graph; lm_head sees response positions only, in
chunks. The plain dense computation that this must equal lives in the tests. Dropout is off, so the policy that learns is the
policy that samples. Left out: more than one device, lower precision, activation checkpointing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from langptune.errors import FailedPrecondition
from services.trainer.learning.config import RlsoConfig
from services.trainer.learning.packing import PackedGroups, pack
from services.trainer.learning.ports import RolloutGroup
from services.trainer.learning.trainable import choose_trainable

LOGITS_PER_CHUNK = 2**26  # elements of one chunk of logits, 256 MiB in float32


class Policy:
    """A causal language model of the Llama family of architectures (Llama, Gemma, Qwen, Mistral, ...)."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: RlsoConfig) -> None:
        _check_supported(model)
        self.tokenizer = tokenizer
        self.causal_lm = model
        self.wrapped = choose_trainable(model, config)  # the same, or its adapters around it
        self.wrapped.eval()

    @classmethod
    def load(cls, folder: str | Path, config: RlsoConfig) -> Policy:
        """From a Hugging Face folder or hub id, in float32."""
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
        return cls(model, AutoTokenizer.from_pretrained(folder), config)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.causal_lm.device

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""
        return {name: parameter for name, parameter in self.wrapped.named_parameters() if parameter.requires_grad}

    def sequence_logprobs(self, groups: Sequence[RolloutGroup]) -> Tensor:  # [B, G]
        """ln pi(p) in nats of every rollout, summed over its tokens, EOS included; with the graph if gradients are on."""
        packed = pack(groups).to(self.device)
        hidden = self._response_states(packed)  # [B, Q, hidden]
        wanted = hidden.flatten(0, 1).index_select(0, packed.predictors)  # [N, hidden]
        token_logprobs = self._token_logprobs(wanted, packed.labels)  # [N]
        sums = token_logprobs.new_zeros(packed.shape[0] * packed.shape[1])
        return sums.index_add(0, packed.samples, token_logprobs).view(packed.shape)

    def _response_states(self, packed: PackedGroups) -> Tensor:
        decoder = self.causal_lm.base_model
        cache = DynamicCache()
        if packed.prompt_ids.shape[1]:  # right padding is seen by no one: it comes after the prompt, and the mask leaves it out
            decoder(input_ids=packed.prompt_ids, past_key_values=cache, use_cache=True)
        output = decoder(
            input_ids=packed.response_ids,
            position_ids=packed.response_positions,
            attention_mask=packed.mask,
            past_key_values=cache,
            use_cache=True,
        )
        states: Tensor = output.last_hidden_state
        return states

    def _token_logprobs(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """[N, hidden], [N] -> [N]; more than one chunk recomputes its logits in the backward pass instead of keeping them."""
        head = self.causal_lm.get_submodule("lm_head")
        rows = max(1, LOGITS_PER_CHUNK // self.causal_lm.config.get_text_config().vocab_size)
        if len(labels) <= rows:
            return _label_logprobs(head, hidden, labels)
        chunks = zip(torch.split(hidden, rows), torch.split(labels, rows), strict=True)
        return torch.cat([checkpoint(_label_logprobs, head, *chunk, use_reentrant=False) for chunk in chunks])

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the parameters that learn."""
        return {name: parameter.detach().clone() for name, parameter in self.trainable().items()}

    @contextmanager
    def weights(self, snapshot: dict[str, Tensor]) -> Iterator[None]:
        """Within the block the policy has the weights of `snapshot` (the reference policy); no copy is made."""
        parameters = self.trainable()
        own = {name: parameter.data for name, parameter in parameters.items()}
        try:
            for name, parameter in parameters.items():
                parameter.data = snapshot[name]
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = own[name]

    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Take the weights of `snapshot` for good. Raises FailedPrecondition if it is of other parameters."""
        parameters = self.trainable()
        if snapshot.keys() != parameters.keys():
            raise FailedPrecondition("the snapshot holds other parameters than those that learn here", reason="OTHER_PARAMETERS")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(snapshot[name])

    def save(self, folder: Path) -> None:
        """A complete Hugging Face folder: model with adapters merged, and tokenizer with its chat template."""
        model = self.causal_lm
        if isinstance(self.wrapped, PeftModel):
            model = copy.deepcopy(self.wrapped).merge_and_unload()
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _label_logprobs(head: nn.Module, hidden: Tensor, labels: Tensor) -> Tensor:
    logits = head(hidden).float()  # [N, vocabulary]
    chosen: Tensor = logits.gather(1, labels[:, None]).squeeze(1) - logits.logsumexp(dim=1)
    return chosen


def _check_supported(model: PreTrainedModel) -> None:
    """The shared prompt pass gives its own mask and reads plain logits; models that need another mask or more are refused."""
    settings = model.config.get_text_config().to_dict()
    if any(kind != "full_attention" for kind in settings.get("layer_types") or []):
        raise FailedPrecondition("an encoder with sliding-window layers cannot be trained yet", reason="UNSUPPORTED_MODEL")
    if settings.get("final_logit_softcapping"):
        raise FailedPrecondition("an encoder with soft-capped logits cannot be trained yet", reason="UNSUPPORTED_MODEL")
