"""From a history to the prompt's tokens: the text form, the model's own chat template, and the limit of length.

The template is rendered to text and that text is tokenised without further special tokens, because it brings its own BOS. Token
strings that steer the model ("<end_of_turn>", "</s>") are taken out of what users and catalogues say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from langptune.domain import Interaction
from langptune.errors import InvalidArgument
from langptune.text import fit_history, prompt_text


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the model sees it."""

    text: str  # chat template rendered, BOS included
    token_ids: list[int]
    coverage: float  # share of the history's entries that are in it, 0.0 to 1.0


class PromptBuilder:
    """Builds prompts of at most `limit` tokens for one tokenizer. Not to be used by two threads at once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, limit: int) -> None:
        self._tokenizer = tokenizer
        self._limit = limit
        special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        steering = sorted(special, key=len, reverse=True)
        self._steering = re.compile("|".join(map(re.escape, steering)) if steering else r"(?!)")
        self._longest_token = max(len(token) for token in tokenizer.get_vocab())  # characters

    def build(self, history: Sequence[Interaction], domain: str, field: str) -> Prompt:
        """The prompt for `history`, cut to the limit by `fit_history`.

        Raises InvalidArgument naming the newest entry of `field` when not even that fits.
        """
        fitted = fit_history(history, self._limit, lambda entries: self._count(self._render(entries, domain)), "truncate")
        if fitted is None:
            place = f"{field}.interactions[{len(history) - 1}]"
            raise InvalidArgument(place, f"the newest interaction alone is over the prompt limit of {self._limit:,} tokens")
        text = self._render(fitted.history, domain)
        return Prompt(text, self._tokenize(text), fitted.coverage)

    def _render(self, history: Sequence[Interaction], domain: str) -> str:
        text = self._steering.sub(" ", prompt_text(history, domain))
        if self._tokenizer.chat_template is None:
            return text
        message = {"role": "user", "content": text}
        return str(self._tokenizer.apply_chat_template([message], add_generation_prompt=True, tokenize=False))

    def _count(self, text: str) -> int:
        """Tokens of `text`; for one that is far too long a number over the limit, without tokenising megabytes."""
        if len(text) > self._limit * self._longest_token:
            return self._limit + 1
        return len(self._tokenize(text))

    def _tokenize(self, text: str) -> list[int]:
        special = self._tokenizer.chat_template is None
        return list(self._tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])
