"""A chat model of this machine as a judge: greedy, one task at a time. Needs torch and transformers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from experiments.study.tasks import Task, Wording
from experiments.study.wording import prompt
from langptune.errors import FailedPrecondition


class LocalJudge:
    """The model in a folder, or a hub id that is on this machine. Raises FailedPrecondition if it cannot be loaded."""

    def __init__(self, model: str, wording: Wording, *, max_tokens: int = 256) -> None:
        self.name = Path(model).name
        self._wording = wording
        self._max_tokens = max_tokens
        self._one_at_a_time = asyncio.Lock()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model)
            self._model: Any = AutoModelForCausalLM.from_pretrained(model, dtype="auto").eval()
        except (OSError, ValueError) as error:
            raise FailedPrecondition(f"no model can be loaded from {model!r}: {error}", reason="JUDGE") from error
        if not self._tokenizer.chat_template:
            raise FailedPrecondition(f"{model} has no chat template; a judge is an instruction-tuned model", reason="JUDGE")

    async def answer(self, task: Task) -> str:
        """Raises nothing of its own."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._complete, prompt(task, self._wording))

    def _complete(self, message: str) -> str:
        inputs = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": message}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            output = self._model.generate(**inputs, max_new_tokens=self._max_tokens, do_sample=False)
        return str(self._tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
