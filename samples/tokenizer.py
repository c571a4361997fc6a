"""The vocabulary that both tiny models share: byte-level BPE trained on the world's own text, about 1,000 tokens.

The fixed parts of the text forms (langptune.text) are tokens of their own, so a history of four films is about 150 tokens;
any other text still works, byte by byte at worst. Like Gemma's and Llama's, the writer's tokenizer puts BOS before plain
text and its chat template begins with BOS too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from langptune.text import ENTRY_SEPARATOR, INSTRUCTION_TEMPLATE, ITEM_TEMPLATE, REVIEW_TEMPLATE

VOCABULARY = 1_024
PAD, BOS, EOS, USER, ASSISTANT = SPECIALS = ("<pad>", "<s>", "</s>", "<user>", "<assistant>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}<user>{{ message['content'] }}"
    "{% else %}<assistant>{{ message['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
_PIECES = r" ?[A-Za-z]+| ?\d+\.\d+\)?| ?\d+|\n+|[^\S\n]+| ?[^\sA-Za-z\d]+"


def template_pieces() -> list[str]:
    """The fixed strings of the text forms that are worth a token, longest first."""
    texts = (INSTRUCTION_TEMPLATE, ITEM_TEMPLATE, REVIEW_TEMPLATE.removeprefix("{item}"))
    pieces = {piece.rstrip(" ") for text in texts for piece in re.split(r"\{\w+\}", text)}
    kept = {piece for piece in pieces if len(piece) > 3}
    kept.add(ENTRY_SEPARATOR + ITEM_TEMPLATE.split("{")[0].rstrip(" "))
    return sorted(kept, key=lambda piece: (-len(piece), piece))


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A BPE vocabulary of at most VOCABULARY tokens, the template pieces included; deterministic in `texts`."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PIECES), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    pieces = template_pieces()
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in pieces])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(pieces),
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    split = re.compile("|".join(map(re.escape, pieces)))
    tokenizer.train_from_iterator((part for text in texts for part in split.split(text)), trainer)
    return tokenizer


def writer_tokenizer(vocabulary: Tokenizer) -> PreTrainedTokenizerFast:
    """For the causal LM: BOS first, padding on the left, chat template."""
    copy = Tokenizer.from_str(vocabulary.to_str())
    copy.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, copy.token_to_id(BOS))])
    return PreTrainedTokenizerFast(
        tokenizer_object=copy,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        model_max_length=1_024,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def embedder_tokenizer(vocabulary: Tokenizer, max_length: int) -> PreTrainedTokenizerFast:
    """For the BERT encoder: BOS stands for CLS, EOS for SEP, padding on the right."""
    copy = Tokenizer.from_str(vocabulary.to_str())
    ends = [(BOS, copy.token_to_id(BOS)), (EOS, copy.token_to_id(EOS))]
    copy.post_processor = processors.TemplateProcessing(single=f"{BOS} $A {EOS}", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=copy,
        cls_token=BOS,
        sep_token=EOS,
        pad_token=PAD,
        padding_side="right",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
