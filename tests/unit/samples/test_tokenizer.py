"""The shared vocabulary: attributes are single tokens, any text survives, BOS is where production tokenizers have it."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from langptune.text import item_text, prompt_text
from samples.lexicon import ATTRIBUTES
from samples.models import make_vocabulary
from samples.tokenizer import VOCABULARY, embedder_tokenizer, template_pieces, writer_tokenizer
from samples.users import make_sessions, make_users
from samples.world import make_catalogue
from samples.writer import chat_ids


@pytest.fixture(scope="module")
def vocabulary() -> Tokenizer:
    return make_vocabulary()


def test_every_attribute_and_every_template_piece_is_one_token(vocabulary: Tokenizer) -> None:
    assert vocabulary.get_vocab_size() == VOCABULARY
    for word in ATTRIBUTES:
        assert len(vocabulary.encode(f" {word}").ids) == 1
    for piece in template_pieces():
        assert len(vocabulary.encode(piece).ids) == 1


def test_prompts_are_short_and_lossless(vocabulary: Tokenizer) -> None:
    tokenizer = writer_tokenizer(vocabulary)
    for session in make_sessions(make_catalogue(100, 2), make_users(20, 2), 2):
        ids = chat_ids(tokenizer, session.history)
        assert len(ids) < 200
        assert tokenizer.decode(ids) == f"<s><user>{prompt_text(session.history)}<assistant>"
        assert ids.count(tokenizer.bos_token_id) == 1
        assert ids[0] == tokenizer.bos_token_id


@pytest.mark.parametrize("text", ["Hello, wörld 12.5!", "日本語 \t\n tabs", "", "x" * 300])
def test_any_text_survives(vocabulary: Tokenizer, text: str) -> None:
    tokenizer = writer_tokenizer(vocabulary)
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_plain_text_gets_the_special_tokens_of_its_architecture(vocabulary: Tokenizer) -> None:
    writer, embedder = writer_tokenizer(vocabulary), embedder_tokenizer(vocabulary, 256)
    item = item_text(make_catalogue(1).items[0])
    assert writer(item)["input_ids"][0] == writer.bos_token_id
    assert writer.padding_side == "left"
    assert embedder.padding_side == "right"
    ids = embedder(item)["input_ids"]
    assert (ids[0], ids[-1]) == (embedder.cls_token_id, embedder.sep_token_id)
