"""A causal language model too small to say anything, with a byte-level tokenizer, a chat template, and histories for it."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from langptune.domain import Interaction, Item

CHAT_TEMPLATE = "{{ bos_token }}{% for message in messages %}<user>{{ message['content'] }}{% endfor %}<assistant>"
CONTEXT = 2_048
SPECIALS = ("<pad>", "<s>", "</s>", "<user>", "<assistant>")


def micro_tokenizer(*, chat: bool = True) -> PreTrainedTokenizerFast:
    """One token for a byte, BOS before plain text; `chat` adds a chat template that begins with BOS itself."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: at for at, token in enumerate((*SPECIALS, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<user>", "<assistant>"],
        chat_template=CHAT_TEMPLATE if chat else None,
        clean_up_tokenization_spaces=False,
    )


def micro_model(seed: int = 0) -> LlamaForCausalLM:
    """Two layers, grouped key-value heads, uneven distributions."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(SPECIALS) + 256,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.4,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    return model


def save_micro_writer(folder: Path, seed: int = 0) -> Path:
    """An ordinary Hugging Face folder."""
    micro_model(seed).save_pretrained(folder)
    micro_tokenizer().save_pretrained(folder)
    return folder


def interaction(title: str, description: str = "", review: str = "Good.") -> Interaction:
    """A rating of four stars for an item of this title."""
    item = Item(item_id=title.replace(" ", "-") or "x", title=title, description=description, categories=("Drama",), price=7.99)
    return Interaction(item=item, rating=4.0, review=review, time_ms=1_000)
