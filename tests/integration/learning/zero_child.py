"""What test_zero starts under torch.distributed.run: every case on DeepSpeed beside its twin in one process, as JSON.

Arguments: where to write, folder of an embedder.
"""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import AutoModelForCausalLM

from services.trainer.learning import policy as policy_module
from services.trainer.learning.config import ContrastiveConfig, LearningConfig, RlsoConfig
from services.trainer.learning.embedder import ContrastiveExample, Embedder, EmbedderLearner
from services.trainer.learning.parallel import ALONE, Parallel
from services.trainer.learning.policy import Policy
from services.trainer.learning.policy_learner import PolicyLearner, PolicyUpdate
from services.trainer.learning.zero import ZeroProcesses
from tests.support.micro_writer import micro_tokenizer
from tests.unit.learning.support import dense_logprobs, group, random_model

GROUPS = [group(20, [9, 4], 1), group(3, [1, 12], 2, truncated=[1]), group(11, [5, 1], 3), group(1, [2, 3], 4)]
QUALITY = torch.tensor([[0.1, 0.9], [0.5, 0.2], [0.0, 1.0], [0.3, 0.2]])
RATE = 1e-2


def policy_learner(parallel: Parallel, trainable: str, micro_tokens: int = 60) -> PolicyLearner:
    values = {"trainable": trainable, "last_k": 1, "lora_rank": 4, "lora_alpha": 8, "gamma": 0.1, "epochs": 2}
    config = RlsoConfig.model_validate({**values, "micro_tokens": micro_tokens})
    return PolicyLearner(Policy(random_model("gemma"), micro_tokenizer(), config), config, parallel)


def told(update: PolicyUpdate) -> dict[str, Any]:
    return {"losses": update.losses, "norms": update.gradient_norms, "kl": update.kl, "behaviour": update.behaviour.tolist()}


def policy_case(parallel: Parallel, trainable: str, folder: Path) -> dict[str, Any]:
    """Two updates, the second of a learner that took over the first one's state; then its saved model's log-probs."""
    first = policy_learner(parallel, trainable)
    one = told(first.update(GROUPS, QUALITY, RATE))
    second = policy_learner(parallel, trainable, micro_tokens=1)
    second.load_state_dict(deepcopy(first.state_dict()))
    two = told(second.update(GROUPS, QUALITY, RATE))
    second.save(folder)
    if parallel.rank:
        return {}
    with torch.no_grad():
        saved = dense_logprobs(AutoModelForCausalLM.from_pretrained(folder).eval(), GROUPS)
    return {"one": one, "two": two, "saved": saved.tolist()}


def embedder_case(parallel: Parallel, model: str, *, cached: bool) -> list[float]:
    config = ContrastiveConfig(batch_size=4, micro_rows=3, cached=cached)
    learner = EmbedderLearner(Embedder(SentenceTransformer(model, device="cpu"), 3), config, parallel)
    words = ("war", "love", "king", "sea")
    examples = [ContrastiveExample(f"space {word}", f"i{at}", f"{word} film", []) for at, word in enumerate(words)]
    negatives = {"n1": "a quiet farm", "n2": "red dragon", "n3": "old train"}  # three, which two processes do not divide
    return [
        value
        for _ in range(2)
        for update in [learner.update(examples, RATE, negatives)]
        for value in (update.loss, update.gradient_norm)
    ]


def main(out: Path, model: str) -> None:
    policy_module.LOGITS_PER_CHUNK = 61 * 5  # several chunks, and more in one process than in the other
    processes = ZeroProcesses()
    found: dict[str, Any] = {}
    cases = {"2": {"zero_stage": 2}, "3": {"zero_stage": 3}, "2 offload": {"zero_stage": 2, "offload": True}}
    for name, distributed in cases.items():
        config = LearningConfig.parse({"distributed": {"processes": 2, **distributed}})
        processes.configure(config)
        if not found:  # the first model of a process is drawn with other weights, which is the helper's matter
            policy_learner(processes, "lora").update(GROUPS, QUALITY, RATE)
        trainables = ("lora",) if "offload" in name else ("lora", "last_k", "full")
        found |= {f"{name} {each}": policy_case(processes, each, out / name / each) for each in trainables}
        found |= {f"{name} cl {cached}": embedder_case(processes, model, cached=cached) for cached in (False, True)}
    if processes.rank == 0:
        found |= {f"alone {each}": policy_case(ALONE, each, out / "alone" / each) for each in ("lora", "last_k", "full")}
        found["alone cl"] = embedder_case(ALONE, model, cached=False)
        (out / "found.json").write_text(json.dumps(found))
    processes.close()


def relative(ours: Any, theirs: Any) -> float:
    """The distance of two lists of numbers."""
    a, b = Tensor(ours).double(), Tensor(theirs).double()
    return float((a - b).norm() / b.norm())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2])
