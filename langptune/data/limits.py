"""Step 4: which item texts and which prompts are within the token limits. Counts each text once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from langptune.data.columns import Columns, Ints, Mask
from langptune.data.options import PrepareOptions
from langptune.data.raw import Progress
from langptune.data.reading import Texts
from langptune.data.tokens import TokenCounter
from langptune.text import item_text, prompt_text

_BATCH = 1_024  # texts given to a tokenizer at a time


@dataclass(frozen=True)
class Limits:
    """The limits of `options`, measured with the tokenizers of the two models."""

    options: PrepareOptions
    embedder: TokenCounter
    encoder: TokenCounter
    progress: Progress
    _prompts: dict[bytes, bool] = field(default_factory=dict)  # by the lines of a history: does its prompt fit

    def items_fit(self, texts: Texts) -> Mask:
        """Whether each item's text is within `item_tokens` of the embedder; [items]."""
        counts: list[int] = []
        for begin in range(0, len(texts.items), _BATCH):
            counts += self.embedder.count([item_text(item) for item in texts.items[begin : begin + _BATCH]])
            self.progress("count item tokens", len(counts), len(texts.items))
        return np.array(counts) <= self.options.item_tokens

    def prompts_fit(self, columns: Columns, firsts: Ints, texts: Texts) -> Mask:
        """Whether the prompt of the history that begins at each row of `firsts` is within `prompt_tokens`; [len(firsts)]."""
        length = self.options.history_length
        keys = [columns.line[first : first + length].tobytes() for first in firsts.tolist()]
        unknown = np.array([at for at, key in enumerate(keys) if key not in self._prompts], dtype=np.int64)
        for begin in range(0, len(unknown), _BATCH):
            part = unknown[begin : begin + _BATCH]
            prompts = [prompt_text(history, self.options.domain) for history in texts.histories(columns, firsts[part], length)]
            for at, tokens in zip(part.tolist(), self.encoder.count(prompts), strict=True):
                self._prompts[keys[at]] = tokens <= self.options.prompt_tokens
            self.progress("count prompt tokens", begin + len(part), len(unknown))
        return np.array([self._prompts[key] for key in keys], dtype=bool)
