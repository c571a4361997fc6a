"""The profile encoder as the trainer sees it: log-probs of rollouts with gradients, and a folder to publish.

The prompt runs once for its G rollouts, in one row with them (`packing`, `attention`); its last layer computes only what the
responses need (`trunk`); lm_head sees response positions only, in chunks (`logprobs`); frozen layers run once per batch. The
plain dense computation that this must equal lives in the tests. Dropout is off, so the policy that learns is the policy that
samples. Left out: activation checkpointing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from langptune.errors import FailedPrecondition
from langptune.weights.golden import GOLDEN_PROMPT, GOLDEN_RESPONSE
from services.trainer.learning.attention import prepare, response_mask
from services.trainer.learning.config import RlsoConfig
from services.trainer.learning.logprobs import label_logprobs
from services.trainer.learning.packing import PackedGroups, pack
from services.trainer.learning.parallel import Weights
from services.trainer.learning.ports import Rollout, RolloutGroup
from services.trainer.learning.trainable import choose_trainable, merged
from services.trainer.learning.trunk import frozen_layers, lower_part, narrowed, upper_part

LOGITS_PER_CHUNK = 2**26  # elements of one chunk of logits, 256 MiB in float32


@dataclass(slots=True)
class Batch:
    """Groups laid out once for all passes over them, and what the frozen layers make of them."""

    packed: PackedGroups
    chunks: int  # of lm_head; processes that pass together need equally many
    trunk: Tensor | None = None  # states [1, T, hidden]


class Policy:
    """A causal language model of the Llama family of architectures (Llama, Gemma, Qwen, Mistral, ...)."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: RlsoConfig) -> None:
        _check_supported(model)
        prepare(model)
        self.tokenizer = tokenizer
        self.causal_lm = model
        self.wrapped = choose_trainable(model, config)  # the same, or its adapters around it
        self.wrapped.eval()
        self._frozen = frozen_layers(self._decoder)  # layers that run once per batch

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

    def batch(self, groups: Sequence[RolloutGroup]) -> Batch:
        """For several passes over the same groups."""
        packed = pack(groups).to(self.device)
        rows = max(1, LOGITS_PER_CHUNK // self.causal_lm.config.get_text_config().vocab_size)
        return Batch(packed, chunks=-(-len(packed.labels) // rows))

    def sequence_logprobs(self, groups: Sequence[RolloutGroup] | Batch) -> Tensor:  # [B, G]
        """ln pi(p) in nats of every rollout, summed over its tokens, EOS included; with the graph if gradients are on."""
        batch = groups if isinstance(groups, Batch) else self.batch(groups)
        packed = batch.packed
        wanted = self._states(batch)[0].index_select(0, packed.predictors)  # [N, hidden]
        token_logprobs = label_logprobs(self.causal_lm.get_submodule("lm_head"), wanted, packed.labels, batch.chunks)  # [N]
        sums = token_logprobs.new_zeros(packed.shape[0] * packed.shape[1])
        return sums.index_add(0, packed.samples, token_logprobs).view(packed.shape)

    def _states(self, batch: Batch) -> Tensor:
        """The last hidden states where they predict, [1, T, hidden]."""
        decoder, packed = self._decoder, batch.packed
        if not self._frozen:
            return _run(narrowed(decoder, packed.kept), packed, input_ids=packed.ids)
        if batch.trunk is None:
            with torch.no_grad():
                batch.trunk = _run(lower_part(decoder, self._frozen), packed, input_ids=packed.ids)
        upper = upper_part(decoder, self._frozen, batch.trunk)
        return _run(narrowed(upper, packed.kept), packed, inputs_embeds=batch.trunk)

    def golden_text(self) -> RolloutGroup:
        """The fixed text by which an engine that serves these weights is checked, in this model's tokens.

        They are the tokens of the whole text, cut where the prompt ends, so that an engine which takes text sees the same.
        """
        prompt: list[int] = self.tokenizer(GOLDEN_PROMPT)["input_ids"]
        whole: list[int] = self.tokenizer(GOLDEN_PROMPT + GOLDEN_RESPONSE)["input_ids"]
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, whole, strict=False)))
        response = Rollout(tuple(whole[shared:]), GOLDEN_RESPONSE, "length")
        return RolloutGroup(tuple(whole[:shared]), (response,), encoder_version="")

    @property
    def _decoder(self) -> PreTrainedModel:
        """The model below its lm_head."""
        decoder: PreTrainedModel = self.causal_lm.base_model  # type: ignore[assignment]  # annotated as any module
        return decoder

    def save(self, folder: Path, weights: Weights | None = None) -> None:
        """A complete Hugging Face folder: model with adapters merged, and tokenizer with its chat template.

        `weights` are all parameters of `wrapped` by name, where they are not to be found in it (`Stepper.save`).
        """
        own = weights or {name: parameter.detach() for name, parameter in self.wrapped.named_parameters()}
        self.causal_lm.save_pretrained(folder, state_dict=merged(self.wrapped, own))
        self.tokenizer.save_pretrained(folder)


def _run(decoder: PreTrainedModel, packed: PackedGroups, **inputs: Tensor) -> Tensor:
    """The last hidden states of the row [1, T, hidden], from `input_ids` or `inputs_embeds`."""
    mask = response_mask(packed.spans, decoder.device, decoder.dtype)
    output = decoder(**inputs, position_ids=packed.positions, attention_mask=mask, use_cache=False, spans=packed.spans)
    states: Tensor = output.last_hidden_state
    return states


def _check_supported(model: PreTrainedModel) -> None:
    """The shared row has its own attention and reads plain logits; models that need another mask or more are refused."""
    settings = model.config.get_text_config().to_dict()
    if any(kind != "full_attention" for kind in settings.get("layer_types") or []):
        raise FailedPrecondition("an encoder with sliding-window layers cannot be trained yet", reason="UNSUPPORTED_MODEL")
    if settings.get("final_logit_softcapping"):
        raise FailedPrecondition("an encoder with soft-capped logits cannot be trained yet", reason="UNSUPPORTED_MODEL")
