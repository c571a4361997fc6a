"""A sentence-transformers model small enough to make in a fixture: BERT, random weights, a vocabulary of a few dozen words.

Random token vectors make texts that share words similar, which is all that the decoder's tests need.
"""

from __future__ import annotations

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

_TEXT = (
    "title description category price average rating none space robot heist love war ghost train river island winter summer "
    "quiet loud old new red blue green king queen dragon detective doctor music dance school city farm sea moon star tale night "
    "the a of and in on with user profile likes dislikes films story about"
)
WORDS = _TEXT.split()
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789:.(),'-"


def make_micro_embedder(
    folder: Path, *, dimensions: int = 16, seed: int = 0, max_tokens: int = 64, pooling: str = "mean", query_prompt: str = ""
) -> Path:
    """Write the model to `folder` and return it. Models of different seeds rank differently."""
    source = folder.parent / f"{folder.name}-source"
    source.mkdir(parents=True)
    pieces = [*_CHARACTERS, *(f"##{character}" for character in _CHARACTERS)]
    vocabulary = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *pieces]))
    (source / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab=str(source / "vocab.txt"), model_max_length=max_tokens).save_pretrained(source)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=dimensions,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * dimensions,
        max_position_embeddings=max_tokens,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(source)
    transformer = Transformer(str(source), max_seq_length=max_tokens)
    model = SentenceTransformer(modules=[transformer, Pooling(dimensions, pooling_mode=pooling)], device="cpu")
    model.prompts = {"query": query_prompt, "document": ""}
    model.save_pretrained(str(folder))
    return folder
