"""Who answers: a chat model behind an OpenAI-compatible endpoint, or a plain count of shared words.

A judge returns text and knows nothing of right and wrong. A model of this machine is in `local_judge`, since it needs torch.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from experiments.study.chat import ChatEndpoint
from experiments.study.tasks import Task, Wording
from experiments.study.wording import prompt

_WORD = re.compile(r"\w+")


class Judge(Protocol):
    """Answers tasks, several at a time if asked to."""

    @property
    def name(self) -> str:
        """What tells its answers from another judge's."""

    async def answer(self, task: Task) -> str:
        """In the form of `wording.ANSWER_FORM`, or not. Raises a LangPTuneError when it cannot be asked."""


class ChatJudge:
    """A chat model: one user message per task, no system message, no memory of other tasks."""

    def __init__(self, endpoint: ChatEndpoint, wording: Wording) -> None:
        self.name = endpoint.model
        self._endpoint = endpoint
        self._wording = wording

    async def answer(self, task: Task) -> str:
        """Raises what the endpoint raises."""
        return await self._endpoint.complete(prompt(task, self._wording))


class WordJudge:
    """Takes the item that shares the rarer words with the profile: no model, the same answer every time, and a floor for those.

    An item's score is the sum, over the different words that it shares with the profile, of ln(N / n): N texts of items in the
    kit, n of them with the word. Equal scores are no answer.
    """

    name = "shared-words"

    def __init__(self, tasks: Sequence[Task]) -> None:
        texts = {option: _words(option) for task in tasks for option in task.options}
        counts = Counter(word for words in texts.values() for word in words)
        self._weights = {word: math.log(len(texts) / count) for word, count in counts.items()}

    async def answer(self, task: Task) -> str:
        """Raises nothing."""
        said = _words(task.profile)
        shared = [said & _words(option) for option in task.options]
        first, second = (math.fsum(self._weights[word] for word in sorted(words)) for words in shared)
        if math.isclose(first, second):
            return "Both share the same words with the profile."
        choice, words = ("A", shared[0]) if first > second else ("B", shared[1])
        rarest = sorted(words, key=lambda word: (-self._weights[word], word))[:3]
        return f"Justification: It shares {', '.join(rarest)} with the profile.\n\nChoice: {choice}"


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))
