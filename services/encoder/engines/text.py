"""From tokens to a profile's text, whole or piece by piece. The same for every engine."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from langptune.convert import without_controls

_CUT_SHORT = "\N{REPLACEMENT CHARACTER}"  # how a character looks whose bytes are not all there yet


def profile_text(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """The text of a whole profile: no special tokens, no control characters, no white space around it."""
    text = tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return without_controls(str(text)).strip()


class TextPieces:
    """Cuts a growing profile into pieces that, joined, are the text of the whole."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._token_ids: list[int] = []
        self._told = ""

    def add(self, token_id: int) -> str:
        """What is new with this token; empty while a character or a run of white space is not over."""
        self._token_ids.append(token_id)
        text = profile_text(self._tokenizer, self._token_ids)
        return "" if text.endswith(_CUT_SHORT) else self._new(text)

    def rest(self) -> str:
        """What is still untold when the last token has been added."""
        return self._new(profile_text(self._tokenizer, self._token_ids))

    def _new(self, text: str) -> str:
        if not text.startswith(self._told):
            return ""
        piece, self._told = text[len(self._told) :], text
        return piece
